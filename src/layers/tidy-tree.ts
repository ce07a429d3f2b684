import type { TensorContainer } from '@tensorflow/tfjs-core';
import { tidy } from '@tensorflow/tfjs-core';

/** `tidy` for a result that is a tree of tensors (plain objects and arrays); tfjs types it for mutable containers only. */
export function tidyTree<T>(body: () => T): T {
  return tidy(body as () => TensorContainer) as T;
}
