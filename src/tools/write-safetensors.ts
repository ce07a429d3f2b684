import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { byteLengthOf, type NewTensor, planSafetensors } from '../checkpoint/safetensors.js';
import { writeFile } from './files.js';

export interface WriteOptions {
  /** Goes into the `__metadata__` of every file. */
  readonly metadata?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
  /** Receives how many bytes were written, after each piece. */
  readonly onBytes?: ((bytes: number) => void) | undefined;
}

/** A file that was written. */
export interface WrittenFile {
  readonly name: string;
  readonly bytes: number;
}

/**
 * Writes one safetensors file, tensor by tensor, under another name that becomes `path` when all is there.
 *
 * @throws Image2TextError (`cannot-write`, `disk-full`), what the tensors' pieces throw, or the signal's reason; nothing is left then.
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly NewTensor[],
  options: WriteOptions = {},
): Promise<number> {
  const { header, tensors: ordered, size } = planSafetensors(tensors, options.metadata ?? {});
  await writeFile(path, async (file) => {
    await writeAll(file, header);
    for (const tensor of ordered) await writeTensor(file, tensor, options);
  });
  return size;
}

async function writeTensor(file: FileHandle, tensor: NewTensor, { signal, onBytes }: WriteOptions): Promise<void> {
  let written = 0;
  for await (const piece of tensor.pieces()) {
    signal?.throwIfAborted();
    await writeAll(file, piece);
    written += piece.byteLength;
    onBytes?.(piece.byteLength);
  }
  // A header that promises other sizes would be a file that nobody can read.
  if (written !== byteLengthOf(tensor))
    throw new Error(`${tensor.name}: ${written} bytes, not ${byteLengthOf(tensor)}`);
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) done += (await file.write(bytes, done)).bytesWritten;
}

/**
 * Writes a checkpoint into a folder: `model.safetensors`, or where its tensors have more than `maxShardBytes`, as many files as it takes
 * with their index. The tensors of one group stay together.
 *
 * @throws as `writeSafetensors`; files that are whole by then stay.
 */
export async function writeCheckpoint(
  folder: string,
  groups: readonly (readonly NewTensor[])[],
  options: WriteOptions & { readonly maxShardBytes?: number | undefined } = {},
): Promise<WrittenFile[]> {
  const shards = intoShards(groups, options.maxShardBytes ?? Number.POSITIVE_INFINITY);
  const number = (n: number) => String(n).padStart(5, '0');
  const names = shards.map((_, n) =>
    shards.length === 1 ? 'model.safetensors' : `model-${number(n + 1)}-of-${number(shards.length)}.safetensors`,
  );
  const written: WrittenFile[] = [];
  for (const [n, tensors] of shards.entries()) {
    written.push({ name: names[n]!, bytes: await writeSafetensors(join(folder, names[n]!), tensors, options) });
  }
  if (shards.length > 1) written.push(await writeIndex(folder, shards, names));
  return written;
}

/** Groups in their order, as many to a shard as fit; a group that is larger than a shard has one for itself. */
function intoShards(groups: readonly (readonly NewTensor[])[], most: number): NewTensor[][] {
  const shards: NewTensor[][] = [[]];
  let bytes = 0;
  for (const group of groups) {
    const size = group.reduce((sum, tensor) => sum + byteLengthOf(tensor), 0);
    if (bytes > 0 && bytes + size > most) {
      shards.push([]);
      bytes = 0;
    }
    shards.at(-1)!.push(...group);
    bytes += size;
  }
  return shards;
}

async function writeIndex(folder: string, shards: readonly NewTensor[][], names: readonly string[]) {
  const placed = shards.flatMap((tensors, n) => tensors.map(({ name }) => [name, names[n]!] as const));
  const total = shards.flat().reduce((sum, tensor) => sum + byteLengthOf(tensor), 0);
  const index = {
    metadata: { total_size: total },
    weight_map: Object.fromEntries(placed.sort(([a], [b]) => (a < b ? -1 : 1))),
  };
  const name = 'model.safetensors.index.json';
  const bytes = new TextEncoder().encode(`${JSON.stringify(index, undefined, 2)}\n`);
  await writeFile(join(folder, name), (file) => file.writeFile(bytes));
  return { name, bytes: bytes.length };
}
