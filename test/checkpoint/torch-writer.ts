import { crc32 } from '../../src/crc32.js';

/** Writes pickles and zip archives for tests, right or wrong as the test asks. */

const text = (value: string) => new TextEncoder().encode(value);
const u32 = (value: number) => [value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24];
const u16 = (value: number) => [value & 255, (value >>> 8) & 255];

type Part = number | string | readonly number[] | Uint8Array;

const join = (parts: readonly Part[]): Uint8Array<ArrayBuffer> =>
  Uint8Array.from(
    parts.flatMap((part) => (typeof part === 'number' ? [part] : [...(typeof part === 'string' ? text(part) : part)])),
  );

/** Opcodes by hand: numbers are bytes, strings their UTF-8. */
export const bytesOf = (...parts: Part[]): Uint8Array<ArrayBuffer> => join(parts);

const unicode = (value: string) => ['X', u32(text(value).length), value] as const;
const integer = (value: number) => ['J', u32(value)] as const;

/** One tensor of a checkpoint for `torchPickle`. */
export interface PickledTensor {
  readonly name: string;
  readonly key: string;
  readonly count: number;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  /** Default FloatStorage. */
  readonly storage?: string;
}

/** A state dict as torch.save writes it. */
export function torchPickle(tensors: readonly PickledTensor[]): Uint8Array<ArrayBuffer> {
  const parts = tensors.flatMap(({ name, key, count, offset, shape, strides, storage = 'FloatStorage' }) => [
    ...unicode(name),
    'ctorch._utils\n_rebuild_tensor_v2\n((',
    ...unicode('storage'),
    `ctorch\n${storage}\n`,
    ...unicode(key),
    ...unicode('cpu'),
    ...integer(count),
    'tQ',
    ...integer(offset),
    '(',
    ...shape.flatMap((size) => [...integer(size)]),
    't(',
    ...strides.flatMap((stride) => [...integer(stride)]),
    't',
    0x89,
    'ccollections\nOrderedDict\n)RtR',
  ]);
  return join([0x80, 2, '}(', ...parts, 'u.']);
}

/** A zip archive of stored files. */
export function zipBytes(
  files: readonly (readonly [name: string, data: Uint8Array])[],
  comment = '',
): Uint8Array<ArrayBuffer> {
  const local: Uint8Array[] = [];
  const central: Uint8Array[] = [];
  let offset = 0;
  for (const [name, data] of files) {
    const sizes = [...u32(crc32(data)), ...u32(data.length), ...u32(data.length)];
    const header = bytesOf('PK\x03\x04', u16(20), u16(0), u16(0), u32(0), sizes, u16(text(name).length), u16(0), name);
    local.push(header, data);
    central.push(
      bytesOf('PK\x01\x02', u16(20), u16(20), u16(0), u16(0), u32(0), sizes, u16(text(name).length), u16(0), u16(0)),
      bytesOf(u16(0), u16(0), u32(0), u32(offset), name),
    );
    offset += header.length + data.length;
  }
  const size = central.reduce((sum, part) => sum + part.length, 0);
  const end = bytesOf('PK\x05\x06', u16(0), u16(0), u16(files.length), u16(files.length), u32(size), u32(offset));
  return bytesOf(...local, ...central, end, u16(text(comment).length), comment);
}

/** A whole checkpoint: its pickle and its storages of float32. */
export function torchZip(
  tensors: readonly PickledTensor[],
  storages: Readonly<Record<string, Uint8Array>>,
): Uint8Array<ArrayBuffer> {
  return zipBytes([
    ['a/data.pkl', torchPickle(tensors)],
    ...Object.entries(storages).map(([key, data]) => [`a/data/${key}`, data] as const),
  ]);
}
