import type { Tensor } from '@tensorflow/tfjs-core';
import { type ByteSource, type ModelFiles, readBytes } from './byte-source.js';
import { readJson } from './json.js';

/** Files that decide what a model says, as far as they are there; of the weights, those that are loaded come first. */
const SETTINGS = [
  ...['config.json', 'generation_config.json', 'preprocessor_config.json', 'processor_config.json'],
  ...['vocab.txt', 'tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json', 'added_tokens.json'],
];
const WEIGHTS = [
  ...['model.safetensors', 'model.safetensors.index.json', 'pytorch_model.bin', 'pytorch_model.bin.index.json'],
  'model.pt',
];

/** Bytes hashed at once. */
const PIECE = 2 ** 24;

/**
 * A hash of all bytes that decide what a model says: equal for copies of one checkpoint, another one where any number or setting is another.
 * Reads every file once.
 *
 * @throws Error where there is no `crypto.subtle` (a page that is not served over https)
 */
export async function fingerprintModel(files: ModelFiles): Promise<string> {
  const hashes: string[] = [];
  const add = async (name: string): Promise<ByteSource | undefined> => {
    const source = await files.open(name);
    if (source !== undefined) hashes.push(`${name} ${await hashSource(source)}`);
    return source;
  };
  for (const name of SETTINGS) await add(name);
  for (const name of WEIGHTS) {
    const source = await add(name);
    if (source === undefined) continue;
    if (name.endsWith('.index.json')) {
      const index = Object(readJson(await readBytes(source, 0, source.size), name)) as { weight_map?: object };
      for (const shard of new Set(Object.values(Object(index.weight_map)))) await add(String(shard));
    }
    break;
  }
  return sha256(new TextEncoder().encode(hashes.join('\n')));
}

/** A hash of the numbers of parameters, in the order of their names. */
export async function fingerprintTensors(tensors: Iterable<readonly [name: string, tensor: Tensor]>): Promise<string> {
  const hashes: string[] = [];
  for (const [name, tensor] of tensors) {
    const values = (await tensor.data()) as Float32Array<ArrayBuffer>;
    hashes.push(
      `${name} [${tensor.shape}] ${await sha256(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))}`,
    );
  }
  return sha256(new TextEncoder().encode(hashes.sort().join('\n')));
}

/** SHA-256 over the hashes of pieces, since `crypto.subtle` wants all bytes of a hash at once. */
async function hashSource(source: ByteSource): Promise<string> {
  const pieces: string[] = [String(source.size)];
  for (let at = 0; at < source.size; at += PIECE)
    pieces.push(await sha256(await readBytes(source, at, Math.min(source.size, at + PIECE))));
  return sha256(new TextEncoder().encode(pieces.join()));
}

/** In hex. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
