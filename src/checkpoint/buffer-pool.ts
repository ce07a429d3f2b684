/** Memory that is used again while a checkpoint is read: what is thrown away makes the collector run every few pieces. */
export interface BufferPool {
  /** Memory of that many bytes, whatever is in it. */
  take(bytes: number): Uint8Array<ArrayBuffer>;
  /** What `take` gave is needed no longer; the caller must not look at it again. */
  give(buffer: Uint8Array<ArrayBuffer>): void;
}

/** Below this the collector hardly notices. */
const SMALL = 2 ** 16;

/** A pool of buffers of `size` bytes; what is much smaller, or larger, is made and left to the collector. */
export function bufferPool(size: number): BufferPool {
  const free: ArrayBuffer[] = [];
  return {
    take(bytes) {
      if (bytes < SMALL || bytes > size) return new Uint8Array(bytes);
      return new Uint8Array(free.pop() ?? new ArrayBuffer(size), 0, bytes);
    },
    give({ buffer, length }) {
      if (length >= SMALL && buffer.byteLength === size) free.push(buffer);
    },
  };
}
