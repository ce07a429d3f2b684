import type { Tensor, Tensor3D } from '@tensorflow/tfjs-core';
import { dispose } from '@tensorflow/tfjs-core';
import { textMask } from '../layers/mask.js';
import type { Git } from '../model/git.js';
import { decodeText, encodeImage, vocabularyLogits } from '../model/git.js';
import type { ImageCache } from '../model/kv-cache.js';
import { disposeCache, gatherCache } from '../model/kv-cache.js';
import { collectTrace } from '../model/trace.js';
import type { HostTensor } from './compare.js';
import type { ForwardInput } from './forward-input.js';
import { pixelTensor } from './forward-input.js';
import { concatAttention, concatTokens, frameOf, tileRows } from './host-tensors.js';

/** The stages of a forward pass by the names that cases give them, each made when it is asked for. */
export type Stages = ReadonlyMap<string, () => HostTensor>;

/**
 * A forward pass in the model's two phases, read back whole and put together as the one-pass reference has it: image rows, then text
 * rows. Nothing of it stays on the backend.
 *
 * @param attentions also the attention probabilities. They take the composed path, so ask for them in a pass of their own.
 */
export async function forwardStages(git: Git, input: ForwardInput, attentions: boolean): Promise<Stages> {
  const raw = await readBack(runPhases(git, input, attentions));
  const stages = new Map<string, () => HostTensor>();
  const rows = input.ids.length;
  const frames = input.pixels?.shape.length === 5 ? input.pixels.shape[1]! : undefined;
  const image = (name: string) => {
    const found = raw.get(`image.${name}`);
    return found && tileRows(found, rows);
  };
  for (const [name, value] of raw) {
    if (name.startsWith('image.')) continue;
    if (name.startsWith('vision.') && frames !== undefined) {
      for (let f = 0; f < frames; f++) stages.set(`${name}.frame${f}`, () => frameOf(value, f, frames));
    } else if (name.startsWith('decoder.layer.') || name === 'logits') {
      stages.set(name, () => concatTokens(image(name), value));
    } else if (name.startsWith('decoder.attention.')) {
      stages.set(name, () => concatAttention(image(name), value));
    } else stages.set(name, () => value);
  }
  const projected = raw.get('visual_projection');
  const words = raw.get('text.embeddings')!;
  stages.set('decoder.input', () => concatTokens(projected && tileRows(projected, rows), words));
  stages.set('attention_allowed', () => attentionAllowed(raw.get('mask'), words, projected?.shape[1] ?? 0));
  return stages;
}

/** Both phases; every tensor that comes back is the caller's. Image stages that also the text has are called `image.…`. */
function runPhases(git: Git, input: ForwardInput, attentions: boolean): Map<string, Tensor> {
  const { trace, tensors } = collectTrace({ attentions });
  let cache: ImageCache | undefined;
  try {
    cache = input.pixels && tiledCache(git, input.pixels, input.ids.length, trace);
    const { ids, positions } = input;
    const mask = textMask(ids[0]!.length, 0, input.attentionMask);
    if (mask !== undefined) tensors.set('mask', mask);
    const { hidden, text } = decodeText(git, { ids, mask, ...(positions && { positions }) }, cache, [], trace);
    text.forEach(({ key, value }, layer) => {
      tensors.set(`past.${layer}.key`, key);
      tensors.set(`past.${layer}.value`, value);
    });
    tensors.set('hidden', hidden);
    tensors.set('logits', vocabularyLogits(git, hidden));
    const last = tensors.get(`image.decoder.layer.${git.config.numHiddenLayers - 1}`);
    if (last !== undefined) tensors.set('image.logits', vocabularyLogits(git, last as Tensor3D));
    return tensors;
  } catch (error) {
    dispose([...tensors.values()]);
    throw error;
  } finally {
    if (cache !== undefined) disposeCache(cache);
  }
}

/** The cache of N images for R texts, repeated p0, p1, p0, p1 as the reference repeats its features. */
export function tiledCache(
  git: Git,
  pixels: HostTensor,
  rows: number,
  trace?: Parameters<typeof encodeImage>[2],
): ImageCache {
  const x = pixelTensor(pixels);
  try {
    const cache = encodeImage(git, x, trace);
    const images = pixels.shape[0]!;
    if (images === rows) return cache;
    try {
      return gatherCache(
        cache,
        Array.from({ length: rows }, (_, row) => row % images),
      );
    } finally {
      disposeCache(cache);
    }
  } finally {
    x.dispose();
  }
}

/** The values of all tensors, which are disposed of. */
export async function readBack(tensors: ReadonlyMap<string, Tensor>): Promise<Map<string, HostTensor>> {
  const values = new Map<string, HostTensor>();
  try {
    for (const [name, x] of tensors) values.set(name, { shape: x.shape, values: await x.data() });
    return values;
  } finally {
    dispose([...tensors.values()]);
  }
}

/** 1 where a row may look at a column, [B, I + T, I + T]: the mask that was used, with the columns that the image phase never had. */
function attentionAllowed(mask: HostTensor | undefined, words: HostTensor, imageTokens: number): HostTensor {
  const [batch, tokens] = words.shape as [number, number];
  const size = imageTokens + tokens;
  const values = new Uint8Array(batch * size * size);
  for (let at = 0; at < values.length; at++) {
    const column = at % size;
    const row = Math.floor(at / size) % size;
    if (column < imageTokens) values[at] = 1;
    else if (row >= imageTokens) {
      const cell = (row - imageTokens) * tokens + column - imageTokens;
      const start = mask?.shape.length === 3 ? Math.floor(at / (size * size)) * tokens * tokens : 0;
      values[at] = mask === undefined || mask.values[start + cell] === 0 ? 1 : 0;
    }
  }
  return { shape: [batch, size, size], values };
}
