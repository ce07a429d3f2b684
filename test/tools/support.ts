import { readdirSync } from 'node:fs';
import { type ByteSource, fromBytes, type ModelFiles } from '../../src/checkpoint/byte-source.js';
import { readSafetensors } from '../../src/checkpoint/safetensors.js';
import { REFERENCE, readBin } from '../support/fixtures.js';

export const TINY = `${REFERENCE}tiny-a`;
export const CONTAINERS = `${REFERENCE}checkpoints/`;

/** A folder in memory. */
export const inMemory = (files: Readonly<Record<string, Uint8Array | string>>): ModelFiles => ({
  label: 'memory',
  async open(name): Promise<ByteSource | undefined> {
    const found = files[name];
    return found === undefined
      ? undefined
      : fromBytes(typeof found === 'string' ? new TextEncoder().encode(found) : found);
  },
});

/** A safetensors file with the bytes of one tensor replaced. */
export async function withTensor(path: string, name: string, values: Float32Array): Promise<Uint8Array> {
  const bytes = readBin(path);
  const { tensors } = await readSafetensors(fromBytes(bytes), path);
  const stored = tensors.get(name)!;
  const before = await stored.read();
  const at = Buffer.from(bytes).indexOf(before);
  bytes.set(new Uint8Array(values.buffer, 0, stored.byteLength), at);
  return bytes;
}

export const names = (folder: string): string[] => readdirSync(folder).sort();
