import type { Tensor } from '@tensorflow/tfjs-core';
import { clone, keep } from '@tensorflow/tfjs-core';

/**
 * Receives every named intermediate. The tensor lives only during the call: a listener that wants more takes `keep(clone(x))`.
 * With `attentions: true` it also receives attention probabilities [B, H, rows, columns], which takes the composed path.
 */
export interface Trace {
  (name: string, x: Tensor): void;
  readonly attentions?: boolean;
}

/** A listener that keeps a copy of what `wanted` accepts; the caller disposes `tensors`' values. */
export function collectTrace(options: { attentions?: boolean; wanted?: (name: string) => boolean } = {}): {
  readonly trace: Trace;
  readonly tensors: Map<string, Tensor>;
} {
  const tensors = new Map<string, Tensor>();
  const listen = (name: string, x: Tensor): void => {
    if (options.wanted?.(name) === false) return;
    tensors.get(name)?.dispose();
    tensors.set(name, keep(clone(x)));
  };
  return { trace: Object.assign(listen, { attentions: options.attentions ?? false }), tensors };
}
