/** Where bytes come from. `Blob` and `File` satisfy it as they are. */
export interface ByteSource {
  /** Length in bytes. */
  readonly size: number;
  /** A view of [start, end); reading happens only in `arrayBuffer()`. */
  slice(start: number, end: number): { arrayBuffer(): Promise<ArrayBuffer> };
  /** Fills `target` with the bytes from `start` on, without memory of its own; rejects where there are fewer. Not every source can. */
  readInto?(start: number, target: Uint8Array<ArrayBuffer>): Promise<void>;
}

/** A folder of named files: a directory, a list of `File`s, a repository on the Hub. */
export interface ModelFiles {
  /** How to name the folder in messages. */
  readonly label: string;
  /** The repository of the Hub that the files were asked for by; absent for folders and chosen files. */
  readonly repository?: string | undefined;
  /** The file, or undefined where there is none of that name. */
  open(name: string): Promise<ByteSource | undefined>;
}

/** Reads [start, end) of a source. */
export async function readBytes(source: ByteSource, start: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await source.slice(start, end).arrayBuffer());
}

/** A source over bytes in memory (no copy until `arrayBuffer()`). */
export function fromBytes(bytes: Uint8Array): ByteSource {
  // Node's Buffer has a `slice` of its own that copies nothing: its `buffer` would be the whole pool.
  const copy = (start: number, end: number) => Uint8Array.prototype.slice.call(bytes, start, end).buffer as ArrayBuffer;
  return {
    size: bytes.byteLength,
    slice: (start, end) => ({ arrayBuffer: async () => copy(start, end) }),
  };
}
