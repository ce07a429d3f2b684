import type { Tensor } from '@tensorflow/tfjs-core';
import { type ByteSource, fromBytes, type ModelFiles } from '../checkpoint/byte-source.js';
import { type NewTensor, planSafetensors } from '../checkpoint/safetensors.js';

/** A folder that a run writes into: `trainingFolder(path)` of generative-image2text/node, or one in memory. Names may have folders: `best/config.json`. */
export interface TrainingFolder extends ModelFiles {
  /** Writes a file: afterwards it is there with all its bytes, or, after a failure, as it was before. */
  write(name: string, pieces: AsyncIterable<Uint8Array>): Promise<void>;
  /** Adds text to the end of a file. */
  append(name: string, text: string): Promise<void>;
}

/** A folder in memory, for pages and tests; `files` holds what was written. */
export function memoryFolder(
  label = 'memory',
): TrainingFolder & { readonly files: Map<string, Uint8Array<ArrayBuffer>> } {
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  return {
    label,
    files,
    async open(name): Promise<ByteSource | undefined> {
      const bytes = files.get(name);
      return bytes === undefined ? undefined : fromBytes(bytes);
    },
    async write(name, pieces) {
      files.set(name, await joined(pieces));
    },
    async append(name, text) {
      const before = files.get(name) ?? new Uint8Array();
      files.set(name, await joined(listed([before, new TextEncoder().encode(text)])));
    },
  };
}

async function* listed(pieces: readonly Uint8Array[]): AsyncGenerator<Uint8Array, void, void> {
  yield* pieces;
}

/** All pieces as one. */
export async function joined(pieces: AsyncIterable<Uint8Array>): Promise<Uint8Array<ArrayBuffer>> {
  const all: Uint8Array[] = [];
  for await (const piece of pieces) all.push(piece);
  const bytes = new Uint8Array(all.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of all) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/** A text as the pieces of a file. */
export const textPieces = (text: string): AsyncIterable<Uint8Array> => listed([new TextEncoder().encode(text)]);

/** Bytes as the pieces of a file. */
export const bytePieces = (bytes: Uint8Array): AsyncIterable<Uint8Array> => listed([bytes]);

/** A tensor as a file stores it; it is read when its turn comes. `stored` makes what is written, and is disposed of. */
export const newTensor = (name: string, shape: readonly number[], stored: () => Tensor): NewTensor => ({
  name,
  dtype: 'F32',
  shape,
  async *pieces() {
    const values = stored();
    try {
      const data = (await values.data()) as Float32Array;
      yield new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    } finally {
      values.dispose();
    }
  },
});

/** A safetensors file, tensor by tensor. */
export async function* safetensorsPieces(
  tensors: readonly NewTensor[],
  metadata: Readonly<Record<string, string>>,
): AsyncGenerator<Uint8Array, void, void> {
  const { header, tensors: ordered } = planSafetensors(tensors, metadata);
  yield header;
  for (const tensor of ordered) yield* tensor.pieces();
}

/** The part of a folder below `prefix`. */
export const subfolder = (folder: TrainingFolder, prefix: string): TrainingFolder => ({
  label: `${folder.label}/${prefix}`,
  open: (name) => folder.open(`${prefix}/${name}`),
  write: (name, pieces) => folder.write(`${prefix}/${name}`, pieces),
  append: (name, text) => folder.append(`${prefix}/${name}`, text),
});
