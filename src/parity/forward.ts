import { dispose, type Tensor, type Tensor3D, type Tensor4D, type Tensor5D, tensor } from '@tensorflow/tfjs-core';
import { ConfigError } from '../errors.js';
import { textMask } from '../layers/attention.js';
import { collectTrace } from '../layers/tidy.js';
import {
  decodeText,
  disposeCache,
  encodeImage,
  type Git,
  gatherCache,
  type ImageCache,
  vocabularyLogits,
} from '../model/git.js';
import type { GitConfig } from '../model/git-config.js';
import { type CaseFile, type HostTensor, needTensor, notRun, type ParityRow } from './cases.js';
import { compareTensor, concatAttention, concatTokens, frameOf, tileRows } from './compare.js';

/** What a forward pass is given. */
export interface ForwardInput {
  /** [N, H, W, 3], or [N, F, H, W, 3] for videos; undefined for text alone. */
  readonly pixels: HostTensor | undefined;
  /** B lists of T; B is a multiple of N. */
  readonly ids: readonly (readonly number[])[];
  readonly positions: readonly (readonly number[])[] | undefined;
  readonly attentionMask: readonly (readonly number[])[] | undefined;
}

/** Tensors of a case that go in; all others come out. */
const INPUT_NAMES: ReadonlySet<string> = new Set([
  'pixel_values',
  'input_ids',
  'position_ids',
  'attention_mask',
  'labels',
]);

/** Reads a case's inputs. Throws ConfigError where they do not fit each other or the model. */
export function readForwardInput(file: CaseFile, config: GitConfig): ForwardInput {
  const raw = file.tensors.get('pixel_values');
  const pixels = raw && toChannelsLast(raw, file.name, config);
  const ids = readIds(needTensor(file, 'input_ids'), file.name, 'input_ids', config.vocabSize);
  const position = file.tensors.get('position_ids');
  const mask = file.tensors.get('attention_mask');
  const input = {
    pixels,
    ids,
    positions: position && readIds(position, file.name, 'position_ids', config.maxPositionEmbeddings),
    attentionMask: mask && readIds(mask, file.name, 'attention_mask', 2),
  };
  for (const [path, rows] of [
    ['position_ids', input.positions],
    ['attention_mask', input.attentionMask],
  ] as const) {
    if (rows === undefined || (rows.length === ids.length && rows[0]?.length === ids[0]?.length)) continue;
    throw misfit(file.name, path, 'its shape is not that of input_ids');
  }
  if (pixels !== undefined && ids.length % pixels.shape[0]! !== 0) {
    throw misfit(file.name, 'pixel_values', `${pixels.shape[0]} images do not divide ${ids.length} texts`);
  }
  return input;
}

/** A [B, T] tensor of integers below `limit` as lists; [T] counts as [1, T]. */
export function readIds(ids: HostTensor, file: string, path: string, limit: number): number[][] {
  const [rows, columns] = ids.shape.length === 1 ? [1, ids.shape[0]!] : [ids.shape[0] ?? 0, ids.shape[1] ?? 0];
  if (ids.shape.length > 2 || rows * columns === 0) throw misfit(file, path, `shape [${ids.shape}] is not [B, T]`);
  const values = Array.from(ids.values);
  const odd = values.find((id) => !Number.isInteger(id) || id < 0 || id >= limit);
  if (odd !== undefined) throw misfit(file, path, `${odd} is not in 0..${limit - 1}`);
  return Array.from({ length: rows }, (_, row) => values.slice(row * columns, (row + 1) * columns));
}

/** Images as the reference stores them, [N, 3, H, W] or [N, F, 3, H, W], with the channels last, as tfjs has them. */
export function toChannelsLast(pixels: HostTensor, file: string, config: GitConfig): HostTensor {
  const { shape, values } = pixels;
  const [channels, height, width] = shape.slice(-3) as [number, number, number];
  const outer = shape.slice(0, -3);
  const frames = outer[1] ?? 1;
  const smallest = config.vision.patchSize;
  if (outer.length < 1 || outer.length > 2 || channels !== 3 || shape.includes(0)) {
    throw misfit(file, 'pixel_values', `shape [${shape}] is not [N, 3, H, W] or [N, F, 3, H, W]`);
  }
  if (height < smallest || width < smallest) throw misfit(file, 'pixel_values', `smaller than a patch of ${smallest}`);
  if (outer.length === 2 && frames > config.numImageWithEmbedding) {
    throw misfit(file, 'pixel_values', `${frames} frames; the model has ${config.numImageWithEmbedding}`);
  }
  const transposed = new Float32Array(values.length);
  const area = height * width;
  for (let i = 0; i < values.length; i++) {
    const [image, inside] = [Math.floor(i / (3 * area)), i % (3 * area)];
    transposed[image * 3 * area + (inside % area) * 3 + Math.floor(inside / area)] = values[i]!;
  }
  return { shape: [...outer, height, width, channels], values: transposed };
}

/** The images on the backend; the caller disposes of them. */
export function pixelTensor(pixels: HostTensor): Tensor4D | Tensor5D {
  return tensor(pixels.values as Float32Array, [...pixels.shape], 'float32') as Tensor as Tensor4D | Tensor5D;
}

function misfit(name: string, path: string, detail: string): ConfigError {
  return new ConfigError({ file: `${name}.safetensors`, path, code: 'case-layout', detail });
}

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

/** A forward pass: every tensor of the file that is not an input, against the stage of that name. */
export async function* runForward(git: Git, file: CaseFile, caseName: string): AsyncGenerator<ParityRow> {
  const input = readForwardInput(file, git.config);
  const names = outputNames(file);
  const wantsAttention = names.some(isAttention);
  const stages = await forwardStages(git, input, false);
  const attentions = wantsAttention ? await forwardStages(git, input, true) : stages;
  for (const name of names) yield stageRow(caseName, name, isAttention(name) ? attentions : stages, input, file, git);
}

const isAttention = (name: string): boolean => name.includes('.attention.');

/** Names of what a case expects, without its inputs; a tensor and its float64 run are one. */
export function outputNames(file: CaseFile): string[] {
  const names = [...file.tensors.keys()].map((name) => name.replace(/\.f64$/, ''));
  return [...new Set(names)].filter((name) => !INPUT_NAMES.has(name)).sort();
}

function stageRow(
  caseName: string,
  name: string,
  stages: Stages,
  input: ForwardInput,
  file: CaseFile,
  git: Git,
): ParityRow {
  const stage = stages.get(name);
  if (stage === undefined) return notRun(caseName, name, 'the model has no stage of this name');
  const ours = stage();
  if (name === 'attention_allowed') {
    return compareTensor(caseName, name, ours, { ...file, facts: { ...file.facts, suggested_atol: { [name]: 0 } } });
  }
  if (name.startsWith('past.') && isCutByReference(name, input, file, git)) {
    return notRun(
      caseName,
      name,
      'transformers 4.40 cuts the cache at the configured number of image tokens: wrong here',
    );
  }
  return compareTensor(caseName, name, ours, file);
}

/** transformers 4.40 takes the configured number of image tokens off the cache, whatever the image's size or number of frames. */
function isCutByReference(name: string, input: ForwardInput, file: CaseFile, git: Git): boolean {
  if (input.pixels === undefined) return false;
  const { vision, numImageWithEmbedding } = git.config;
  const [width, height] = [input.pixels.shape.at(-2)!, input.pixels.shape.at(-3)!];
  const patches = Math.floor(height / vision.patchSize) * Math.floor(width / vision.patchSize);
  const frames = input.pixels.shape.length === 5 ? input.pixels.shape[1]! : 1;
  const configured = vision.imageTokens * Math.max(1, numImageWithEmbedding);
  const actual = (1 + patches) * frames;
  return actual !== configured && file.tensors.get(name)?.shape[2] !== input.ids[0]!.length;
}
