/**
 * Weights that a page has converted to a narrower format, in place of the file that they were made of: one safetensors file a format, in parts, and a
 * note that makes them count. The note is written when all parts are there and read as they were written; only then the file's own parts go.
 */
import type { ByteSource } from '../checkpoint/byte-source.js';
import { HubError } from '../errors.js';
import { type RepoFile, weightFiles } from './metadata.js';
import type { Store } from './page-store.js';
import { partCount, partedSource, partLength } from './remote-files.js';

/** The weights of a revision, each with a size and a hash. */
export interface WeightContents {
  /** All hashes. */
  readonly name: string;
  readonly files: readonly { readonly etag: string; readonly size: number }[];
}

/** Where a copy is kept, or may be. */
export interface CopyPlace {
  readonly store: Store;
  readonly locks: Pick<LockManager, 'request'> | undefined;
  readonly signal: AbortSignal | undefined;
  readonly weights: WeightContents;
  readonly format: string;
}

export interface Note {
  readonly size: number;
  /** Is what it was made of removed? */
  readonly isAlone: boolean;
}

/** What the weights among `files` are named together; undefined where the Hub does not say sizes and hashes. */
export function weightContents(files: readonly RepoFile[]): WeightContents | undefined {
  const names = weightFiles(files.map(({ name }) => name));
  const weights = names.flatMap((name) => {
    const { etag, size } = files.find((file) => file.name === name)!;
    return etag === undefined || size === undefined ? [] : [{ etag, size }];
  });
  if (names.length === 0 || weights.length < names.length) return undefined;
  return { name: weights.map(({ etag }) => etag).join('+'), files: weights };
}

/** The name of the weights that something is kept of under `key`, if it is a part of a copy or its note. */
export const convertedFrom = (key: string): string | undefined => /^converted\/([^/]+)\//.exec(key)?.[1];

export const copyOf = ({ name }: WeightContents, format: string): string => `converted/${name}/${format}`;
export const noteKey = (copy: string): string => `${copy}/whole`;
export const pieceKey = (copy: string, index: number): string => `${copy}/${index}`;

/** The note of a copy whose parts are all here. */
export async function wholeCopy(store: Store, copy: string): Promise<Note | undefined> {
  try {
    const note = (await (await store.get(noteKey(copy)))?.json()) as Note | undefined;
    const keys = new Set(await store.keys());
    for (let index = 0; index < partCount(note!.size); index++) if (!keys.has(pieceKey(copy, index))) return undefined;
    return note;
  } catch {
    return undefined;
  }
}

export const readPart = (
  store: Store,
  copy: string,
  size: number,
  index: number,
  spare?: ArrayBuffer,
): Promise<Uint8Array<ArrayBuffer> | undefined> => store.read(pieceKey(copy, index), partLength(size, index), spare);

/**
 * A whole copy as a file. `onPart` is called with each part that was read, also again. Reading throws HubError `cache-changed` where somebody has
 * cleared the cache meanwhile.
 */
export const openCopy = (
  store: Store,
  copy: string,
  { size }: Note,
  onPart: (index: number, bytes: number) => Promise<void>,
): ByteSource =>
  partedSource(size, async (index, spare) => {
    const bytes = await readPart(store, copy, size, index, spare);
    if (bytes === undefined) {
      const detail = 'the weights were removed while they were read; load the model again';
      throw new HubError({ file: 'cache', code: 'cache-changed', detail });
    }
    await onPart(index, bytes.length);
    return bytes;
  });
