import type { Tensor2D, Tensor3D } from '@tensorflow/tfjs-core';
import { gather, reshape, tensor1d, tidy } from '@tensorflow/tfjs-core';
import type { ParamsOf } from './param-spec.js';
import { tensorSpec } from './param-spec.js';

/** torch.nn.Embedding: `weight` [rows, D]. */
export const embeddingSpec = (rows: number, features: number) => ({ weight: tensorSpec([rows, features]) });
export type Embedding = ParamsOf<ReturnType<typeof embeddingSpec>>;

/** Rows of the table by id. ids: B lists of T integers below the table's length → float32 [B, T, D]. */
export function embed(p: Embedding, ids: readonly (readonly number[])[]): Tensor3D {
  return tidy(() => {
    const rows = gather(p.weight as Tensor2D, tensor1d(ids.flat(), 'int32')); // [B·T, D]
    return reshape(rows, [ids.length, ids[0]?.length ?? 0, rows.shape[1]]);
  });
}
