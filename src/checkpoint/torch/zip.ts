import { crc32 } from '../../crc32.js';
import { Image2TextError, quote, TorchFileError } from '../../errors.js';
import { type ByteSource, readBytes } from '../byte-source.js';

/**
 * The directory of a zip file, read strictly (PKWARE's APPNOTE 6.3, sections 4.3 to 4.5): one end record, a directory that ends where
 * it begins, plain names that occur once, entries that do not overlap, no encryption, one disk. Whatever two readers could read
 * in two ways is refused, because that is how scanners of checkpoints were fooled.
 */
export interface ZipEntry {
  readonly name: string;
  readonly flags: number;
  /** 0 stored, 8 deflated. */
  readonly method: number;
  readonly crc: number;
  readonly packedSize: number;
  readonly size: number;
  /** Where its local header begins. */
  readonly offset: number;
  /** Where the next local header, or the directory, begins: its bytes end here at the latest. */
  readonly limit: number;
}

export type ZipFail = (code: string, detail: string, offset?: number, unsupported?: boolean) => TorchFileError;

const END_SIZE = 22;
const LOCATOR_SIZE = 20;
const END64_SIZE = 56;
const CENTRAL_SIZE = 46;
const LOCAL_SIZE = 30;
const MAX_COMMENT = 0xffff;
const MAX_ENTRIES = 100_000;
const MAX_DIRECTORY_BYTES = 32 * 2 ** 20;
const MAX_DEFLATE_RATIO = 1032;
/** Deflate options (1, 2), data descriptor (3), UTF-8 names (11); not: encryption, patches, masked headers. */
const ALLOWED_FLAGS = 0x080e;

export const zipFail =
  (file: string): ZipFail =>
  (code, detail, offset, unsupported = false) =>
    new TorchFileError({ file, offset, code, detail, unsupported });

interface Directory {
  readonly count: number;
  readonly size: number;
  readonly offset: number;
}

/** Reads the directory. Throws TorchFileError (`zip-…`). */
export async function readZipDirectory(source: ByteSource, file: string): Promise<ReadonlyMap<string, ZipEntry>> {
  const fail = zipFail(file);
  const { count, size, offset } = await findDirectory(source, fail);
  if (count > MAX_ENTRIES || size > MAX_DIRECTORY_BYTES)
    throw fail('zip-size', `${count} entries in ${size} bytes`, offset);
  if (count * CENTRAL_SIZE > size) throw fail('zip-directory', `${size} bytes cannot hold ${count} entries`, offset);
  const bytes = await readBytes(source, offset, offset + size);
  const entries: ZipEntry[] = [];
  let at = 0;
  for (let index = 0; index < count; index++) {
    const { entry, length } = centralHeader(bytes, at, offset, fail);
    entries.push(entry);
    at += length;
  }
  if (at !== size) throw fail('zip-directory', `${size - at} bytes more than its ${count} entries`, offset + at);
  return separate(entries, offset, fail);
}

/** The one end record that fits the end of the file, and the 64-bit one where there is one. */
async function findDirectory(source: ByteSource, fail: ZipFail): Promise<Directory> {
  const tailStart = Math.max(0, source.size - END_SIZE - MAX_COMMENT - LOCATOR_SIZE - END64_SIZE);
  const tail = new DataView((await readBytes(source, tailStart, source.size)).buffer);
  const ends: number[] = [];
  for (let at = tail.byteLength - END_SIZE; at >= 0; at--) {
    const fits =
      tail.getUint32(at, true) === 0x06054b50 && at + END_SIZE + tail.getUint16(at + 20, true) === tail.byteLength;
    if (fits) ends.push(at);
  }
  const at = ends[0];
  if (at === undefined) throw fail('zip-end', 'no end record (is the file cut short?)', source.size);
  if (ends.length > 1) throw fail('zip-end', 'two end records fit', tailStart + at);
  const end = tailStart + at;
  const short = {
    disks: [tail.getUint16(at + 4, true), tail.getUint16(at + 6, true)],
    counts: [tail.getUint16(at + 8, true), tail.getUint16(at + 10, true)],
    size: tail.getUint32(at + 12, true),
    offset: tail.getUint32(at + 16, true),
  };
  if (at >= LOCATOR_SIZE && tail.getUint32(at - LOCATOR_SIZE, true) === 0x07064b50) {
    return wideEnd(tail, at, tailStart, fail);
  }
  if (short.disks.some((disk) => disk !== 0) || short.counts[0] !== short.counts[1]) {
    throw fail('zip-end', 'spread over several disks', end);
  }
  if (short.offset + short.size !== end) {
    throw fail(
      'zip-end',
      `the directory (${short.size} bytes at ${short.offset}) does not end where the end record begins`,
      end,
    );
  }
  return { count: short.counts[1]!, size: short.size, offset: short.offset };
}

function wideEnd(tail: DataView, end: number, tailStart: number, fail: ZipFail): Directory {
  const locator = end - LOCATOR_SIZE;
  const at = locator - END64_SIZE; // written without extensible data by every zip64 writer in use
  const bad = (detail: string) => fail('zip64-end', detail, tailStart + locator);
  if (at < 0 || tail.getUint32(at, true) !== 0x06064b50) throw bad('no 64-bit end record before its locator');
  const stated = wide(tail, locator + 8);
  if (stated !== tailStart + at) throw bad(`the locator points to ${stated}, the record is at ${tailStart + at}`);
  if (wide(tail, at + 4) !== END64_SIZE - 12) throw bad('a record of another size');
  const disks = [tail.getUint32(locator + 4, true), tail.getUint32(at + 16, true), tail.getUint32(at + 20, true)];
  const [here, count] = [wide(tail, at + 24), wide(tail, at + 32)];
  if (disks.some((disk) => disk !== 0) || tail.getUint32(locator + 16, true) > 1 || here !== count) {
    throw bad('spread over several disks');
  }
  const [size, offset] = [wide(tail, at + 40), wide(tail, at + 48)];
  if (offset + size !== tailStart + at) throw bad('the directory does not end where the end record begins');
  return { count, size, offset };
}

/** A 64-bit number; what a double cannot hold is beyond any file, and stays so as infinity. */
function wide(view: DataView, at: number): number {
  const value = view.getBigUint64(at, true);
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : Number.POSITIVE_INFINITY;
}

function centralHeader(bytes: Uint8Array<ArrayBuffer>, at: number, base: number, fail: ZipFail) {
  const view = new DataView(bytes.buffer);
  const bad = (detail: string, unsupported = false) => fail('zip-entry', detail, base + at, unsupported);
  if (at + CENTRAL_SIZE > bytes.length || view.getUint32(at, true) !== 0x02014b50) throw bad('no entry header here');
  const [nameLength, extraLength, commentLength] = [28, 30, 32].map((field) => view.getUint16(at + field, true));
  const nameEnd = at + CENTRAL_SIZE + nameLength!;
  const length = CENTRAL_SIZE + nameLength! + extraLength! + commentLength!;
  if (at + length > bytes.length) throw bad('the entry runs past the directory');
  const flags = view.getUint16(at + 8, true);
  const method = view.getUint16(at + 10, true);
  const name = entryName(bytes.subarray(at + CENTRAL_SIZE, nameEnd), bad);
  const extra = new DataView(bytes.buffer, nameEnd, extraLength!);
  const [packedSize, size, offset] = sizes(view, at, extra, bad);
  if (view.getUint16(at + 34, true) !== 0) throw bad(`${quote(name)} is on another disk`);
  if (flags & 1) throw bad(`${quote(name)} is encrypted`);
  if (flags & ~ALLOWED_FLAGS) throw bad(`${quote(name)} has flags ${flags.toString(16)}`);
  if (method !== 0 && method !== 8) throw bad(`${quote(name)} is packed by method ${method}; known are 0 and 8`);
  if (method === 0 && packedSize !== size) throw bad(`${quote(name)} is stored, but its two sizes differ`);
  if (size > packedSize * MAX_DEFLATE_RATIO) throw bad(`${quote(name)} claims ${size} bytes from ${packedSize}`);
  const crc = view.getUint32(at + 16, true);
  return { entry: { name, flags, method, crc, packedSize, size, offset, limit: base }, length };
}

/** Packed size, size and offset; each that is all ones is in the zip64 field instead, in this order: size, packed, offset. */
function sizes(view: DataView, at: number, extra: DataView, bad: (detail: string) => Error): [number, number, number] {
  let wideAt = -1;
  let wideEnd = -1;
  for (let i = 0; i < extra.byteLength; ) {
    if (i + 4 > extra.byteLength) break; // torch pads with less than a field's head
    const end = i + 4 + extra.getUint16(i + 2, true);
    if (end > extra.byteLength) throw bad('an extra field runs past its entry');
    if (extra.getUint16(i, true) === 1) {
      if (wideAt >= 0) throw bad('two zip64 fields');
      [wideAt, wideEnd] = [i + 4, end];
    }
    i = end;
  }
  const number = (field: number) => {
    const short = view.getUint32(at + field, true);
    if (short !== 0xffffffff) return short;
    if (wideAt < 0 || wideAt + 8 > wideEnd) throw bad('a 64-bit size is announced, and missing');
    wideAt += 8;
    return wide(extra, wideAt - 8);
  };
  const size = number(24);
  const packed = number(20);
  return [packed, size, number(42)];
}

function entryName(bytes: Uint8Array, bad: (detail: string) => Error): string {
  let name: string;
  try {
    name = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw bad('a name that is not UTF-8');
  }
  const parts = name.replace(/\/$/, '').split('/');
  const odd =
    /[\\\u0000-\u001f]|^[A-Za-z]:/.test(name) || parts.some((part) => part === '' || part === '.' || part === '..');
  if (odd) throw bad(`${quote(name)} is not a plain path`);
  return name;
}

/** Entries by name, each with the offset where its bytes must have ended. */
function separate(entries: readonly ZipEntry[], directory: number, fail: ZipFail): ReadonlyMap<string, ZipEntry> {
  const result = new Map<string, ZipEntry>();
  let limit = directory;
  for (const entry of [...entries].sort((a, b) => b.offset - a.offset)) {
    if (entry.offset + LOCAL_SIZE + entry.packedSize > limit) {
      throw fail('zip-overlap', `${quote(entry.name)} runs into what follows it`, entry.offset);
    }
    if (result.has(entry.name)) throw fail('zip-duplicate', `${quote(entry.name)} is there twice`, entry.offset);
    result.set(entry.name, { ...entry, limit });
    limit = entry.offset;
  }
  return result;
}

/** One file of an archive. */
export interface ZipMember {
  readonly size: number;
  /** Its bytes [begin, end), unpacked; the checksum of the whole is proved before the first of them is given. */
  read(begin?: number, end?: number): Promise<Uint8Array<ArrayBuffer>>;
}

const CHUNK_BYTES = 8 * 2 ** 20;
/** A deflated member is unpacked whole. */
const MAX_UNPACKED = 2 ** 31;

export interface ZipArchive {
  readonly names: readonly string[];
  /** The member of that name; each call makes one of its own, which proves its checksum for itself. */
  find(name: string): ZipMember | undefined;
}

/** Opens a zip file: reads its directory, and members on request. Throws TorchFileError (`zip-…`). */
export async function openZip(source: ByteSource, file: string): Promise<ZipArchive> {
  const fail = zipFail(file);
  const entries = await readZipDirectory(source, file);
  const unpack = keepLast(async (entry: ZipEntry, start: number) => inflate(source, entry, start, fail));
  const find = (name: string) => {
    const entry = entries.get(name);
    return entry && member(source, entry, unpack, fail);
  };
  return { names: [...entries.keys()], find };
}

type Unpack = (entry: ZipEntry, start: number) => Promise<Uint8Array<ArrayBuffer>>;

function member(source: ByteSource, entry: ZipEntry, unpack: Unpack, fail: ZipFail): ZipMember {
  const at = memo(() => dataStart(source, entry, fail));
  const prove = memo(() => proveStored(source, entry, at, fail));
  let proved = entry.crc === 0;

  async function read(begin = 0, end = entry.size): Promise<Uint8Array<ArrayBuffer>> {
    if (entry.method === 8) return (await unpack(entry, await at())).slice(begin, end);
    const start = await at();
    if (begin === 0 && end === entry.size) {
      const bytes = await readExactly(source, start, start + end, fail);
      if (!proved) checkCrc(crc32(bytes), entry, fail);
      proved = true;
      return bytes;
    }
    if (!proved) await prove();
    proved = true;
    return readExactly(source, start + begin, start + end, fail);
  }
  return { size: entry.size, read };
}

/** Once, and again only after a failure. */
function memo<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make().catch((error: unknown) => {
      made = undefined;
      throw error;
    });
    return made;
  };
}

/** One unpacked member is kept, because a tensor is read from it piece by piece; more would be the model twice. */
function keepLast(unpack: Unpack): Unpack {
  let last: { readonly entry: ZipEntry; readonly bytes: Promise<Uint8Array<ArrayBuffer>> } | undefined;
  return (entry, start) => {
    if (last?.entry !== entry) last = { entry, bytes: unpack(entry, start) };
    return last.bytes;
  };
}

/** Where an entry's bytes begin; its local header must say what the directory says. */
async function dataStart(source: ByteSource, entry: ZipEntry, fail: ZipFail): Promise<number> {
  const bad = (detail: string) => fail('zip-local-header', `${quote(entry.name)}: ${detail}`, entry.offset);
  const nameBytes = new TextEncoder().encode(entry.name);
  const bytes = await readExactly(source, entry.offset, entry.offset + LOCAL_SIZE + nameBytes.length, fail);
  const view = new DataView(bytes.buffer);
  if (view.getUint32(0, true) !== 0x04034b50) throw bad('no local header where the directory says');
  if (view.getUint16(6, true) !== entry.flags || view.getUint16(8, true) !== entry.method) {
    throw bad('flags or method differ from the directory');
  }
  const sameName =
    view.getUint16(26, true) === nameBytes.length && nameBytes.every((b, i) => bytes[LOCAL_SIZE + i] === b);
  if (!sameName) throw bad('the name differs from the directory');
  // A data descriptor (flag 3) or zip64 leaves fields empty or all ones here; what is stated must be true.
  const late = (entry.flags & 8) !== 0;
  for (const [field, expected] of [
    [14, entry.crc],
    [18, entry.packedSize],
    [22, entry.size],
  ] as const) {
    const stated = view.getUint32(field, true);
    const open = (late && stated === 0) || (field !== 14 && stated === 0xffffffff);
    if (stated !== expected && !open) throw bad('checksum or sizes differ from the directory');
  }
  const start = entry.offset + bytes.length + view.getUint16(28, true);
  if (start + entry.packedSize > entry.limit)
    throw fail('zip-overlap', `${quote(entry.name)} runs into what follows it`, start);
  return start;
}

async function proveStored(
  source: ByteSource,
  entry: ZipEntry,
  at: () => Promise<number>,
  fail: ZipFail,
): Promise<void> {
  const start = await at();
  let crc = 0;
  for (let begin = 0; begin < entry.size; begin += CHUNK_BYTES) {
    const end = Math.min(entry.size, begin + CHUNK_BYTES);
    crc = crc32(await readExactly(source, start + begin, start + end, fail), crc);
  }
  checkCrc(crc, entry, fail);
}

/** 0 means no checksum: torch writes it where `set_crc32_options(False)` was called, and reads it so. */
function checkCrc(crc: number, entry: ZipEntry, fail: ZipFail): void {
  if (crc !== entry.crc && entry.crc !== 0)
    throw fail('zip-crc', `the checksum of ${quote(entry.name)} is wrong`, entry.offset);
}

/** Unpacks a member whose size was checked by whoever wants it; never holds more than that size. */
async function inflate(
  source: ByteSource,
  entry: ZipEntry,
  start: number,
  fail: ZipFail,
): Promise<Uint8Array<ArrayBuffer>> {
  const bad = (detail: string) => fail('zip-deflate', `${quote(entry.name)}: ${detail}`, start);
  if (entry.size > MAX_UNPACKED) throw bad(`${entry.size} bytes unpacked`);
  const packed = await readExactly(source, start, start + entry.packedSize, fail);
  const result = new Uint8Array(entry.size);
  let filled = 0;
  const reader = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate-raw')).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      if (filled + value.length > result.length) throw bad('unpacks to more than it says');
      result.set(value, filled);
      filled += value.length;
    }
  } catch (error) {
    await reader.cancel().catch(() => undefined);
    throw error instanceof Image2TextError ? error : bad('cannot be unpacked');
  }
  if (filled !== result.length) throw bad(`unpacks to ${filled} bytes, not ${result.length}`);
  checkCrc(crc32(result), entry, fail);
  return result;
}

async function readExactly(source: ByteSource, start: number, end: number, fail: ZipFail) {
  const bytes = await readBytes(source, start, end);
  if (bytes.byteLength === end - start) return bytes;
  throw fail('short-read', `asked for ${end - start} bytes, got ${bytes.byteLength}`, start);
}
