import { SafetensorsError } from '../errors.js';
import { type ByteSource, readBytes } from './byte-source.js';
import { recogniseBytes } from './disguise.js';
import { isJsonObject, type Json, parseJson } from './json.js';
import { checkSpans, readEntry, type SafetensorsEntry } from './safetensors-entry.js';
import { MAX_TENSORS, type StoredTensor, type TensorMap } from './stored-tensor.js';

/** The cap of the reference reader. */
const MAX_HEADER_BYTES = 100_000_000;
const LENGTH_BYTES = 8;

/** What the header of a safetensors file says; tensor bytes are read on request. */
export interface SafetensorsFile {
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: TensorMap;
}

/**
 * Opens a safetensors file: reads and checks the header, and no tensor. Follows the format's text and the order of checks of its
 * reference reader (length, UTF-8, JSON, entries, offsets without hole or overlap, byte counts, nothing after the last tensor);
 * stricter in one thing: a name that stands twice is refused. Throws SafetensorsError with the rule and the byte offset.
 */
export async function readSafetensors(source: ByteSource, file: string): Promise<SafetensorsFile> {
  const length = await headerLength(source, file);
  const bytes = await readExactly(source, LENGTH_BYTES, LENGTH_BYTES + length, file);
  const { value, offsetOf } = parseJson(bytes, {
    file,
    ErrorClass: SafetensorsError,
    exactIntegers: true,
    base: LENGTH_BYTES,
    maxBytes: MAX_HEADER_BYTES,
  });
  if (!isJsonObject(value))
    throw new SafetensorsError({ file, code: 'header', detail: 'not a JSON object', offset: 8 });

  const { __metadata__: metadata, ...described } = value;
  const names = Object.keys(described);
  if (names.length > MAX_TENSORS) {
    const detail = `${names.length} tensors; the limit is ${MAX_TENSORS}`;
    throw new SafetensorsError({ file, code: 'tensor-count', detail, unsupported: true });
  }
  const entries = names.map((name) => readEntry(name, described[name]!, { file, offset: offsetOf(name) }));
  const dataStart = LENGTH_BYTES + length;
  checkSpans(entries, dataStart, source.size, file);
  const tensors = new Map(entries.map((entry) => [entry.name, storedTensor(entry, source, dataStart, file)]));
  return { metadata: readMetadata(metadata, file, offsetOf('__metadata__')), tensors };
}

async function headerLength(source: ByteSource, file: string): Promise<number> {
  const fail = async (code: string, detail: string) => {
    const disguise = recogniseBytes(await readBytes(source, 0, Math.min(512, source.size)));
    const looks = disguise !== undefined && disguise !== 'a safetensors file';
    return looks
      ? new SafetensorsError({ file, code: 'not-safetensors', detail: `this is ${disguise}`, offset: 0 })
      : new SafetensorsError({ file, code, detail, offset: 0 });
  };
  if (source.size < LENGTH_BYTES) throw await fail('file-too-short', `${source.size} bytes, at least 8 are needed`);
  const length = new DataView((await readExactly(source, 0, LENGTH_BYTES, file)).buffer).getBigUint64(0, true);
  if (length > MAX_HEADER_BYTES) {
    throw await fail('header-too-large', `header of ${length} bytes; the limit is ${MAX_HEADER_BYTES}`);
  }
  if (LENGTH_BYTES + Number(length) > source.size) {
    throw await fail('header-past-end', `header of ${length} bytes in a file of ${source.size}`);
  }
  return Number(length);
}

function readMetadata(value: Json | undefined, file: string, offset: number | undefined): Record<string, string> {
  const metadata: Record<string, string> = Object.create(null);
  if (value === undefined || value === null) return metadata; // the reference reader lets null pass
  const fail = (detail: string) =>
    new SafetensorsError({ file, path: '__metadata__', code: 'metadata', detail, offset });
  if (!isJsonObject(value)) throw fail('not a map of strings');
  for (const [name, text] of Object.entries(value)) {
    if (typeof text !== 'string') throw fail(`${JSON.stringify(name.slice(0, 60))} is not a string`);
    metadata[name] = text;
  }
  return metadata;
}

function storedTensor(entry: SafetensorsEntry, source: ByteSource, dataStart: number, file: string): StoredTensor {
  const { name, dtype, shape } = entry;
  const byteLength = entry.end - entry.begin;
  const start = dataStart + entry.begin;
  const read = async (begin = 0, end = byteLength, room?: Uint8Array<ArrayBuffer>) => {
    if (source.readInto === undefined || room === undefined) {
      return readExactly(source, start + begin, start + end, file);
    }
    await source.readInto(start + begin, room);
    return room;
  };
  return { name, dtype, shape, byteLength, file, read };
}

/** A file that shrinks while it is read must not give a tensor of another size. */
async function readExactly(source: ByteSource, start: number, end: number, file: string) {
  const bytes = await readBytes(source, start, end);
  if (bytes.byteLength === end - start) return bytes;
  const detail = `asked for ${end - start} bytes, got ${bytes.byteLength}`;
  throw new SafetensorsError({ file, code: 'short-read', detail, offset: start });
}
