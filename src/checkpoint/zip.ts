import { crc32 } from '../crc32.js';
import { Image2TextError, quote } from '../errors.js';
import { type ByteSource, readBytes } from './byte-source.js';
import { readZipDirectory, type ZipEntry, type ZipFail, zipFail } from './zip-directory.js';

/** One file of an archive. */
export interface ZipMember {
  readonly size: number;
  /** Its bytes [begin, end), unpacked; the checksum of the whole is proved before the first of them is given. */
  read(begin?: number, end?: number): Promise<Uint8Array<ArrayBuffer>>;
}

const LOCAL_SIZE = 30;
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
  let proved = false;

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

function checkCrc(crc: number, entry: ZipEntry, fail: ZipFail): void {
  if (crc !== entry.crc) throw fail('zip-crc', `the checksum of ${quote(entry.name)} is wrong`, entry.offset);
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
