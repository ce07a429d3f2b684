/**
 * The bytes of a blob that have arrived so far, and their hash. A process that was killed leaves a good beginning behind; the
 * next one hashes it and goes on from there. Bytes are written at their own place, so that even two writers write the same file.
 */
import { constants } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { type BlobHash, blobHash, isHash, readPieces } from './blob-hash.js';
import { storageError } from './storage.js';

export interface PartialFile {
  /** Bytes that are here: where the next chunk goes. */
  readonly position: number;
  write(chunk: Uint8Array): Promise<void>;
  /** Forgets all bytes. */
  restart(): Promise<void>;
  /** Are all bytes together what the name of the blob promises? Call it once, at the end. */
  matches(): boolean;
  /** Brings the bytes to the disk and gives the file its final name, in one step. */
  publish(path: string): Promise<void>;
  /** Closes the file and keeps it for later, or removes it. */
  close(keep: boolean): Promise<void>;
}

/** Opens or creates the file. What cannot be judged by a hash in the end is not continued. Throws HubError (storage). */
export async function openPartial(
  path: string,
  etag: string,
  size: number,
  signal: AbortSignal | undefined,
): Promise<PartialFile> {
  const guard = <T>(work: Promise<T>): Promise<T> =>
    work.catch((error: unknown) => {
      throw storageError(error, path);
    });
  const file = await guard(open(path, constants.O_RDWR | constants.O_CREAT, 0o644));
  let position = 0;
  let hash: BlobHash = blobHash(etag, size);
  let open_ = true;

  const partial: PartialFile = {
    get position() {
      return position;
    },
    async write(chunk) {
      for (let done = 0; done < chunk.length; ) {
        const rest = chunk.length - done;
        done += (await guard(file.write(chunk, done, rest, position + done))).bytesWritten;
      }
      hash.update(chunk);
      position += chunk.length;
    },
    async restart() {
      await guard(file.truncate(0));
      [position, hash] = [0, blobHash(etag, size)];
    },
    matches: () => hash.matches(),
    async publish(to) {
      await guard(file.sync());
      await partial.close(true);
      await guard(rename(path, to));
    },
    async close(keep) {
      if (open_) await file.close();
      open_ = false;
      if (!keep) await rm(path, { force: true });
    },
  };

  try {
    const stats = await guard(file.stat());
    if (stats.size > size || (stats.size > 0 && !isHash(etag))) await partial.restart();
    else if (stats.size > 0) {
      await readPieces(
        path,
        (piece) => {
          hash.update(piece);
          position += piece.length;
        },
        signal,
      );
    }
    return partial;
  } catch (error) {
    await partial.close(true);
    throw storageError(error, path);
  }
}
