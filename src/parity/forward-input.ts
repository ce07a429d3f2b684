import type { Tensor, Tensor4D, Tensor5D } from '@tensorflow/tfjs-core';
import { tensor } from '@tensorflow/tfjs-core';
import { ConfigError } from '../errors.js';
import type { GitConfig } from '../model/git-config.js';
import type { CaseFile } from './case-file.js';
import { needTensor } from './case-file.js';
import type { HostTensor } from './compare.js';

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
export const INPUT_NAMES: ReadonlySet<string> = new Set([
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
  const turned = new Float32Array(values.length);
  const area = height * width;
  for (let i = 0; i < values.length; i++) {
    const [image, inside] = [Math.floor(i / (3 * area)), i % (3 * area)];
    turned[image * 3 * area + (inside % area) * 3 + Math.floor(inside / area)] = values[i]!;
  }
  return { shape: [...outer, height, width, channels], values: turned };
}

/** The images on the backend; the caller disposes of them. */
export function pixelTensor(pixels: HostTensor): Tensor4D | Tensor5D {
  return tensor(pixels.values as Float32Array, [...pixels.shape], 'float32') as Tensor as Tensor4D | Tensor5D;
}

function misfit(name: string, path: string, detail: string): ConfigError {
  return new ConfigError({ file: `${name}.safetensors`, path, code: 'case-layout', detail });
}
