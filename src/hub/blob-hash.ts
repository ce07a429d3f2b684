/**
 * What the name of a blob says about its content: 64 hex digits are the sha256 of a large file, 40 are git's sha1 of a plain
 * one. So a cache can be checked without asking anybody.
 */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';

/** A hash that grows with the bytes. */
export interface BlobHash {
  update(bytes: Uint8Array): void;
  /** Does the hash of all bytes equal the name? True for a name that is no hash. Call it once. */
  matches(): boolean;
}

const READ_BYTES = 1 << 20;

/** Is the name a hash of the content? */
export function isHash(etag: string): boolean {
  return /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(etag);
}

/** The hash for a blob of that name and size (git hashes the size too). */
export function blobHash(etag: string, size: number): BlobHash {
  if (!isHash(etag)) return { update: () => undefined, matches: () => true };
  const hash = etag.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
  return {
    update: (bytes) => void hash.update(bytes),
    matches: () => hash.digest('hex') === etag,
  };
}

/** Reads a file in pieces. Throws as `node:fs` does, or the signal's reason. */
export async function readPieces(
  path: string,
  take: (piece: Uint8Array) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const file = await open(path, 'r');
  try {
    const buffer = new Uint8Array(READ_BYTES);
    for (;;) {
      signal?.throwIfAborted();
      const { bytesRead } = await file.read(buffer, 0, buffer.length);
      if (bytesRead === 0) return;
      take(buffer.subarray(0, bytesRead));
    }
  } finally {
    await file.close();
  }
}
