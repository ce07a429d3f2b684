import type { Tensor4D } from '@tensorflow/tfjs-core';
import { concat, dispose, gather, tensor1d } from '@tensorflow/tfjs-core';
import type { KeyValue } from '../layers/attention.js';
import { tidyTree } from '../layers/tidy.js';

/** Keys and values of N images, a pair per decoder layer, each [N, H, I, K]. A value: nobody writes into one. */
export type ImageCache = readonly KeyValue[];

/** Keys and values of the text so far, a pair per decoder layer, each [R, H, S, K]; empty before the first token. */
export type TextCache = readonly KeyValue[];

/** How many images, and how many tokens each. */
export const imageCacheShape = (cache: ImageCache): { readonly images: number; readonly tokens: number } => ({
  images: cache[0]?.key.shape[0] ?? 0,
  tokens: cache[0]?.key.shape[2] ?? 0,
});

/** How many tokens of text. */
export const textLength = (cache: TextCache): number => cache[0]?.key.shape[2] ?? 0;

/** `past` followed by `fresh` along the token axis; new tensors. */
export function appendKeyValue(past: KeyValue | undefined, fresh: KeyValue): KeyValue {
  if (past === undefined) return fresh;
  return tidyTree(() => ({
    key: concat<Tensor4D>([past.key, fresh.key], 2),
    value: concat<Tensor4D>([past.value, fresh.value], 2),
  }));
}

/** Row r of the result is row `rows[r]` of the cache: beams fork and reorder with it. */
export function gatherCache(cache: readonly KeyValue[], rows: readonly number[]): readonly KeyValue[] {
  return tidyTree(() => {
    const index = tensor1d([...rows], 'int32');
    return cache.map(({ key, value }) => ({ key: gather(key, index, 0), value: gather(value, index, 0) }));
  });
}

export function disposeCache(cache: readonly KeyValue[]): void {
  for (const { key, value } of cache) dispose([key, value]);
}

/** Images of several caches in one, in order; new tensors. All must have the same number of tokens. */
export function concatCaches(caches: readonly ImageCache[]): ImageCache {
  return tidyTree(() =>
    (caches[0] ?? []).map((_, layer) => ({
      key: concat<Tensor4D>(
        caches.map((cache) => cache[layer]!.key),
        0,
      ),
      value: concat<Tensor4D>(
        caches.map((cache) => cache[layer]!.value),
        0,
      ),
    })),
  );
}
