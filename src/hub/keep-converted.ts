import { crc32 } from '../crc32.js';
import {
  type CopyPlace,
  copyOf,
  type Note,
  noteKey,
  pieceKey,
  readPart,
  type WeightContents,
  wholeCopy,
} from './converted-copy.js';
import { alone, CHECKED, partKey, partsOf, type Store } from './page-store.js';
import { PART_BYTES, partCount } from './remote-files.js';

/** A file that is to be written; `pieces` gives its bytes, in order, and is called once. */
export interface NewFile {
  readonly size: number;
  pieces(): AsyncIterable<Uint8Array>;
}

/**
 * Keeps the file that `make` gives as the copy of the weights in a format, and what it was made of no longer. Nothing changes where that is not here as a
 * whole (there was no room), where there is no room for both, or where `make` gives none or throws. One tab at a time; where a copy is whole already, what
 * a tab that was closed has left of the weights' own parts is removed.
 *
 * @throws what making and reading the file throws; the signal's reason.
 */
export async function keepConverted(place: CopyPlace, make: () => Promise<NewFile | undefined>): Promise<void> {
  const { weights, format, locks, signal } = place;
  await alone(locks, copyOf(weights, format), signal, () => keepAlone(place, make));
}

async function keepAlone(
  { store, weights, format, signal }: CopyPlace,
  make: () => Promise<NewFile | undefined>,
): Promise<void> {
  const copy = copyOf(weights, format);
  const there = await wholeCopy(store, copy);
  if (there !== undefined) return replace(store, copy, there.size, weights);
  const keys = new Set(await store.keys());
  for (const { etag, size } of weights.files)
    for (let index = CHECKED; index < partCount(size); index++) if (!keys.has(partKey(etag, index))) return;
  const file = await make();
  if (file === undefined) return;
  let whole = false;
  try {
    await store.delete(noteKey(copy)); // of one that lost a part
    whole = (await writeParts(store, copy, file, signal)) && (await putNote(store, copy, file.size, false));
    if (whole) await replace(store, copy, file.size, weights);
  } finally {
    if (!whole) await removeAll(store, `${copy}/`);
  }
}

const putNote = (store: Store, copy: string, size: number, isAlone: boolean): Promise<boolean> =>
  store.put(noteKey(copy), JSON.stringify({ size, isAlone } satisfies Note));

/** Removes what the copy takes the place of; should this be stopped, the note says that it is to be done. */
async function replace(store: Store, copy: string, size: number, { files }: WeightContents): Promise<void> {
  for (const { etag } of files) await removeAll(store, partsOf(etag));
  await putNote(store, copy, size, true);
}

async function removeAll(store: Store, prefix: string): Promise<void> {
  for (const key of await store.keys()) if (key.startsWith(prefix)) await store.delete(key);
}

/** Writes all parts and reads them again. Resolves to whether they are what was written. */
async function writeParts(store: Store, copy: string, file: NewFile, signal?: AbortSignal): Promise<boolean> {
  let index = 0;
  let written = 0;
  for await (const part of inParts(file)) {
    signal?.throwIfAborted();
    if (!(await store.put(pieceKey(copy, index++), part))) return false;
    written = crc32(part, written);
  }
  let read = 0;
  let spare: ArrayBuffer | undefined;
  for (let n = 0; n < index; n++) {
    signal?.throwIfAborted();
    const part = await readPart(store, copy, file.size, n, spare);
    if (part === undefined) return false;
    read = crc32(part, read);
    spare = part.buffer;
  }
  return read === written;
}

/** The bytes of a file in parts, all in the same memory. */
async function* inParts(file: NewFile): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const memory = new Uint8Array(Math.min(PART_BYTES, file.size));
  let filled = 0;
  for await (const piece of file.pieces()) {
    for (let used = 0; used < piece.length; ) {
      const some = piece.subarray(used, used + memory.length - filled);
      memory.set(some, filled);
      filled += some.length;
      used += some.length;
      if (filled < memory.length) continue;
      yield memory;
      filled = 0;
    }
  }
  if (filled > 0) yield memory.subarray(0, filled);
}
