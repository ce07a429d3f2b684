import assert from 'node:assert/strict';
import { deflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { type ByteSource, fromBytes } from '../../src/checkpoint/byte-source.js';
import { readSafetensors } from '../../src/checkpoint/safetensors.js';
import type { TensorMap } from '../../src/checkpoint/stored-tensor.js';
import { readValues } from '../../src/checkpoint/stored-tensor.js';
import { unpickle } from '../../src/checkpoint/torch/pickle.js';
import { readPytorch } from '../../src/checkpoint/torch/torch-file.js';
import { openZip } from '../../src/checkpoint/torch/zip.js';
import { crc32 } from '../../src/crc32.js';
import { Image2TextError, TorchFileError } from '../../src/errors.js';
import { HOSTILE, readBin } from '../support/fixtures.js';
import {
  below,
  changeBytes,
  changeJsonText,
  changeParts,
  EDGES,
  FUZZ_CASES,
  FUZZ_SEED,
  pick,
  type Random,
  seeded,
} from '../support/fuzz.js';
import { expectTypedError } from '../support/typed-error.js';
import { counting, failure, safetensorsBytes } from './support.js';
import { bytesOf, torchPickle, torchZip } from './torch-writer.js';

const HOW = ['set', 'flip', 'cut', 'insert', 'copy'] as const;
interface Mutation {
  /** In ten thousandths of the file. */
  readonly at: number;
  readonly how: (typeof HOW)[number];
  readonly byte: number;
  readonly length: number;
}
const mutation: fc.Arbitrary<Mutation> = fc.record({
  at: fc.nat(9999),
  how: fc.constantFrom(...HOW),
  byte: fc.oneof(fc.nat(255), fc.constantFrom(0, 0xff, 0x7f, 0x80, 0x2e, 0x28, 0x52)),
  length: fc.integer({ min: 1, max: 40 }),
});

function mutate(bytes: Uint8Array<ArrayBuffer>, { at, how, byte, length }: Mutation): Uint8Array<ArrayBuffer> {
  const index = Math.floor((at * bytes.length) / 10_000);
  const [before, rest] = [bytes.slice(0, index), bytes.slice(index)];
  if (how === 'cut') return bytesOf(before, rest.slice(length));
  if (how === 'insert') return bytesOf(before, new Uint8Array(length).fill(byte), rest);
  if (how === 'copy') return bytesOf(before, rest.slice(0, length), rest);
  return bytesOf(before, how === 'set' ? byte : (rest[0] ?? 0) ^ (1 << (byte & 7)), rest.slice(1));
}

const [RUNS, SEED] = [FUZZ_CASES, FUZZ_SEED];

/** What a reader did with a file: the bytes of its tensors or members, or the typed error, and the bytes that it read. */
async function outcome(
  bytes: Uint8Array<ArrayBuffer>,
  what: string,
  open: (source: ByteSource) => Promise<ReadonlyMap<string, Uint8Array>>,
): Promise<{ readonly loaded?: ReadonlyMap<string, Uint8Array>; readonly code?: string; readonly read: number }> {
  const { source, read } = counting(bytes);
  try {
    return { loaded: await open(source), read: read() };
  } catch (error) {
    expectTypedError(error, what);
    return { code: error.code, read: read() };
  }
}

async function allBytes({ tensors }: { readonly tensors: TensorMap }): Promise<ReadonlyMap<string, Uint8Array>> {
  const found = new Map<string, Uint8Array>();
  for (const [name, stored] of tensors) {
    const bytes = await stored.read();
    assert.equal(bytes.length, stored.byteLength, name);
    found.set(name, bytes);
  }
  return found;
}

/** The files of a kind, as a table of how often each outcome came. */
function report(kind: string, codes: ReadonlyMap<string, number>): void {
  const sorted = [...codes].sort((a, b) => b[1] - a[1]).map(([code, count]) => `${count} ${code}`);
  console.log(`      ${kind}, seed ${SEED}: ${sorted.join(', ')}`);
}

describe('files whose structure was changed', () => {
  it(`safetensors: ${RUNS} headers load where their tensors cover the data, and are read once`, async () => {
    const random = seeded(SEED);
    const codes = new Map<string, number>();
    const files = ['ok_all_common_dtypes', 'ok_odd_names', 'ok_metadata_only', 'ok_zero_size_between'].map((name) =>
      readBin(`${HOSTILE}safetensors/${name}.safetensors`),
    );
    for (let n = 0; n < RUNS; n++) {
      const file = files[n % files.length]!;
      const length = Number(new DataView(file.buffer).getBigUint64(0, true));
      const header = changeJsonText(random, JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + length))));
      const bytes = bytesOf(new Uint8Array(8), header, file.subarray(8 + length));
      const stated = random() < 0.9 ? header.length : pick(random, [...EDGES, header.length + 1, header.length - 1]);
      new DataView(bytes.buffer).setBigUint64(0, BigInt(Math.max(0, stated)), true);
      const { loaded, code, read } = await outcome(bytes, `case ${n} of seed ${SEED}`, async (source) =>
        allBytes(await readSafetensors(source, 'x')),
      );
      const sum = [...(loaded?.values() ?? [])].reduce((total, { length }) => total + length, 0);
      if (loaded) assert.equal(sum, bytes.length - 8 - stated, `case ${n}`);
      assert.ok(read <= bytes.length + 512 + 8, `case ${n}: ${read} bytes read of ${bytes.length}`);
      codes.set(code ?? 'loaded', 1 + (codes.get(code ?? 'loaded') ?? 0));
    }
    report('safetensors', codes);
    assert.ok((codes.get('loaded') ?? 0) > RUNS / 100 && codes.size > 8);
  });

  it(`zip: ${RUNS} directories give the members that they name, or a typed error`, async () => {
    const random = seeded(SEED);
    const codes = new Map<string, number>();
    for (let n = 0; n < RUNS; n++) {
      const members = ['a/data.pkl', 'a/data/0', 'a/data/1', 'a/version'].map((name) =>
        zipMember(name, changeBytes(random, new Uint8Array(below(random, 200))), random() < 0.3),
      );
      const archive = { members, end: {}, wide: random() < 0.3, comment: '' };
      const changed = random() < 0.1 ? archive : changeZip(random, archive);
      const bytes = writeZip(changed);
      const { loaded, code, read } = await outcome(bytes, `case ${n} of seed ${SEED}`, async (source) => {
        const { names, find } = await openZip(source, 'x');
        const found = new Map<string, Uint8Array>();
        for (const name of names) found.set(name, await find(name)!.read());
        return found;
      });
      // what is given has the checksum that the directory states, and comes from where nothing else is
      for (const [name, data] of loaded ?? []) {
        const stated = changed.members.filter((entry) => (entry.central.name ?? entry.name) === name);
        assert.equal(stated.length, 1, `case ${n}: ${name}`);
        const { central, crc } = stated[0]!;
        const written = (value: number) => Number(BigInt.asUintN(32, BigInt(value))); // what 32 bits keep of it
        assert.ok([crc32(data), 0].includes(written(central.crc ?? crc)), `case ${n}: ${name} has another checksum`);
        const size = written(central.size ?? stated[0]!.data.length);
        assert.ok(data.length === size || size === 0xffffffff, `case ${n}: ${name} has ${data.length} bytes`);
      }
      if (changed === archive) assert.deepEqual([...loaded!.keys()].sort(), members.map(({ name }) => name).sort());
      const tail = 22 + 65_535 + 20 + 56;
      assert.ok(read <= 3 * bytes.length + tail, `case ${n}: ${read} bytes read of ${bytes.length}`);
      codes.set(code ?? 'loaded', 1 + (codes.get(code ?? 'loaded') ?? 0));
    }
    report('zip', codes);
    assert.ok((codes.get('loaded') ?? 0) > RUNS / 20 && codes.size > 6);
  });

  it(`torch, legacy: ${RUNS} files give the values of their storages, or a typed error`, async () => {
    const random = seeded(SEED);
    const codes = new Map<string, number>();
    const sizes = {
      MAGIC: bytesOf(0x80, 2, 0x8a, 10, [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19], '.'),
    };
    for (let n = 0; n < RUNS; n++) {
      const count = 1 + below(random, 4);
      const storages = Array.from({ length: count }, (_, i) => ({
        key: `${i}`,
        values: Float32Array.from({ length: 1 + below(random, 6) }, () => below(random, 100)),
      }));
      const tensors = storages.map(({ key, values }) => ({
        ...{ name: `w${key}`, key, count: values.length, offset: 0, shape: [values.length], strides: [1] },
      }));
      const protocol = bytesOf(0x80, 2, 'M', [0xe9, 3], '.');
      const system = bytesOf(0x80, 2, '}.');
      const keys = [...storages].sort(() => random() - 0.5); // any order is legal
      const list = (names: readonly string[]) =>
        bytesOf(0x80, 2, '](', ...names.flatMap((name) => ['X', [name.length, 0, 0, 0], name] as const), 'e.');
      const storage = ({ values }: { readonly values: Float32Array }, length: number) => {
        const head = new Uint8Array(8);
        new DataView(head.buffer).setBigInt64(0, BigInt(length), true);
        return bytesOf(head, new Uint8Array(values.buffer));
      };
      let names = keys.map(({ key }) => key);
      let stored = keys.map((entry) => storage(entry, entry.values.length));
      let pickles = [sizes.MAGIC, protocol, system, torchPickle(tensors)];
      const kind = below(random, 6);
      if (kind === 1) names = changeParts(random, names, () => pick(random, ['', '9', '0 ', '__proto__']));
      else if (kind === 2) {
        const at = below(random, count);
        const wrong = pick(random, [-1, 2 ** 31, 2 ** 53, ...EDGES]);
        stored[at] = storage(keys[at]!, wrong);
      } else if (kind === 3) pickles = changeParts(random, pickles, (part) => changeBytes(random, part));
      else if (kind === 4) stored = changeParts(random, stored, (part) => changeBytes(random, part));
      let bytes = bytesOf(...pickles, list(names), ...stored);
      if (kind === 5) bytes = bytes.slice(0, below(random, bytes.length));
      const { loaded, code, read } = await outcome(bytes, `case ${n} of seed ${SEED}`, async (source) =>
        allBytes(await readPytorch(source, 'x')),
      );
      if (kind === 0) {
        for (const { key, values } of storages)
          assert.deepEqual(new Float32Array(loaded!.get(`w${key}`)!.slice().buffer), values, `case ${n}: w${key}`);
      }
      if (kind === 5) assert.equal(loaded, undefined, `case ${n}: loaded, but cut`);
      const total = [...(loaded?.values() ?? [])].reduce((sum, { length }) => sum + length, 0);
      assert.ok(total <= bytes.length * 4 && read <= 3 * bytes.length + 512, `case ${n}: ${total}, ${read} read`);
      codes.set(code ?? 'loaded', 1 + (codes.get(code ?? 'loaded') ?? 0));
    }
    report('torch, legacy', codes);
    assert.ok((codes.get('loaded') ?? 0) > RUNS / 10 && codes.size > 6);
  });
});

/** A field in place of what would be right. */
type Fields = Partial<
  Record<'flags' | 'method' | 'crc' | 'packedSize' | 'size' | 'nameLength' | 'extraLength' | 'disk' | 'offset', number>
> & { readonly name?: string };

interface ZipFile {
  readonly name: string;
  readonly data: Uint8Array;
  readonly packed: Uint8Array;
  readonly method: number;
  readonly crc: number;
  readonly local: Fields;
  readonly central: Fields;
  readonly extra: Uint8Array;
}

interface Zip {
  readonly members: readonly ZipFile[];
  readonly end: Readonly<Record<string, number>>;
  readonly wide: boolean;
  readonly comment: string;
}

function zipMember(name: string, data: Uint8Array, deflated: boolean): ZipFile {
  const packed = deflated ? new Uint8Array(deflateRawSync(data)) : data;
  const method = deflated ? 8 : 0;
  return { name, data, packed, method, crc: crc32(data), local: {}, central: {}, extra: new Uint8Array() };
}

const END_FIELDS = ['disk', 'directoryDisk', 'here', 'count', 'size', 'offset', 'recordSize', 'locator'];

/** A field of the directory, of a local header or of the end record, or the members themselves. */
function changeZip(random: Random, zip: Zip): Zip {
  const size = () => pick(random, [...EDGES, below(random, 400), 2 ** 53, -1]);
  const field = (): Fields => {
    const name = pick(random, [
      'flags',
      'method',
      'crc',
      'packedSize',
      'size',
      'nameLength',
      'extraLength',
      'offset',
    ] as const);
    const text = pick(random, ['a/data/0', 'a/data.pkl', '../x', '/x', 'a//b', 'C:/x', 'b/x', 'a/code/x', '', 'é']);
    return random() < 0.2 ? { name: text } : { [name]: size() };
  };
  if (random() < 0.25) return { ...zip, end: { [pick(random, END_FIELDS)]: size() } };
  if (random() < 0.1)
    return { ...zip, comment: pick(random, ['x', 'PK\x05\x06', 'PK\x05\x06'.padEnd(22, '\0'), 'y'.repeat(65_535)]) };
  const change = (member: ZipFile): ZipFile => {
    const kind = below(random, 5);
    if (kind === 0) return { ...member, local: field() };
    if (kind === 1) {
      const packed = changeBytes(random, member.packed);
      return { ...member, packed: random() < 0.3 ? packed.subarray(0, below(random, packed.length + 1)) : packed };
    }
    if (kind === 2) {
      const extra = changeBytes(random, bytesOf([1, 0, 24, 0], new Uint8Array(24)));
      return {
        ...member,
        extra: extra.subarray(0, below(random, 29)),
        central: random() < 0.5 ? { size: 0xffffffff } : {},
      };
    }
    const same = field();
    return { ...member, central: same, local: kind === 3 ? same : {} };
  };
  return { ...zip, members: changeParts(random, zip.members, change) };
}

/** Little-endian bytes of a number cut to their count. */
function le(value: number, count: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, BigInt(Math.trunc(value))), true);
  return bytes.subarray(0, count);
}

function writeZip({ members, end, wide, comment }: Zip): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let at = 0;
  for (const { name, data, packed, method, crc, local, central, extra } of members) {
    const header = (own: Fields, more: Uint8Array) => {
      const bytes = new TextEncoder().encode(own.name ?? name);
      const common = [
        ...[le(own.flags ?? 0, 2), le(own.method ?? method, 2), new Uint8Array(4), le(own.crc ?? crc, 4)],
        ...[le(own.packedSize ?? packed.length, 4), le(own.size ?? data.length, 4)],
        ...[le(own.nameLength ?? bytes.length, 2), le(own.extraLength ?? more.length, 2)],
      ];
      return { common: bytesOf(...common), bytes };
    };
    const first = header(local, new Uint8Array());
    const second = header(central, extra);
    directory.push(
      bytesOf('PK\x01\x02', le(20, 2), le(20, 2), second.common, le(0, 2), le(central.disk ?? 0, 2), new Uint8Array(6)),
      bytesOf(le(central.offset ?? at, 4), second.bytes, extra),
    );
    const written = bytesOf('PK\x03\x04', le(20, 2), first.common, first.bytes, packed);
    parts.push(written);
    at += written.length;
  }
  const list = bytesOf(...directory);
  const { disk = 0, directoryDisk = 0, here = members.length, count = here, size = list.length, offset = at } = end;
  const { recordSize = 44, locator = at + list.length } = end;
  const wideEnd = wide
    ? bytesOf(
        ...['PK\x06\x06', le(recordSize, 8), le(45, 2), le(45, 2), le(disk, 4), le(directoryDisk, 4)],
        ...[le(here, 8), le(count, 8), le(size, 8), le(offset, 8), 'PK\x06\x07', le(0, 4), le(locator, 8), le(1, 4)],
      )
    : new Uint8Array();
  const short = wide
    ? [le(0, 4), le(0xffff, 2), le(0xffff, 2), le(0xffffffff, 4), le(0xffffffff, 4)]
    : [le(disk, 2), le(directoryDisk, 2), le(here, 2), le(count, 2), le(size, 4), le(offset, 4)];
  return bytesOf(...parts, list, wideEnd, 'PK\x05\x06', ...short, le(comment.length, 2), comment);
}

describe('mutated checkpoints', () => {
  before(() => console.log(`      fuzzing checkpoints: seed ${SEED}, ${RUNS} runs of each kind`));

  it('of safetensors headers: a legal header with changed fields loads exactly where it covers the data', async () => {
    const size = fc.oneof(fc.nat(6), fc.constantFrom(-1, 0.5, 2 ** 31, 2 ** 53, 1e300));
    const dtype = fc.constantFrom('F32', 'F16', 'I64', 'BOOL', 'F8_E4M3', 'X', '');
    const entry = fc.record({
      dtype,
      shape: fc.array(size, { maxLength: 3 }),
      data_offsets: fc.array(size, { maxLength: 3 }),
    });
    const header = fc.dictionary(fc.string({ maxLength: 4 }), entry, { maxKeys: 3, noNullPrototype: true });
    const counts = { loaded: 0, refused: 0 };
    await fc.assert(
      fc.asyncProperty(header, fc.nat(12), async (fields, length) => {
        const bytes = safetensorsBytes(fields, new Uint8Array(length));
        try {
          const { tensors } = await readSafetensors(fromBytes(bytes), 'x');
          const covered = [...tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
          assert.equal(covered, length);
          counts.loaded++;
        } catch (error) {
          assert.ok(error instanceof Image2TextError, String(error));
          counts.refused++;
        }
      }),
      { numRuns: RUNS, seed: SEED },
    );
    assert.ok(counts.loaded > 0 && counts.refused > RUNS / 2, JSON.stringify(counts));
  });

  it('of torch views: any size, stride and offset loads exactly where it stays inside the storage', async () => {
    const axis = fc.record({ size: fc.nat(5), stride: fc.nat(7) });
    await fc.assert(
      fc.asyncProperty(fc.array(axis, { maxLength: 4 }), fc.nat(12), fc.nat(20), async (axes, offset, count) => {
        const shape = axes.map(({ size }) => size);
        const strides = axes.map(({ stride }) => stride);
        const reach = axes.reduce((sum, { size, stride }) => sum + (size - 1) * stride, offset);
        const inside = shape.includes(0) ? offset <= count : reach < count;
        const bytes = torchZip([{ name: 'w', key: '0', count, offset, shape, strides }], {
          0: new Uint8Array(4 * count),
        });
        const loading = readPytorch(fromBytes(bytes), 'x').then(({ tensors }) => readValues(tensors.get('w')!));
        if (inside)
          assert.equal(
            (await loading).length,
            shape.reduce((a, b) => a * b, 1),
          );
        else await assert.rejects(loading, (error) => error instanceof TorchFileError && error.code === 'tensor-view');
      }),
      { numRuns: RUNS, seed: SEED },
    );
  });

  const open = {
    safetensors: (bytes: Uint8Array) => readSafetensors(fromBytes(bytes), 'x'),
    torch: (bytes: Uint8Array) => readPytorch(fromBytes(bytes), 'x'),
  };
  const files: [string, keyof typeof open][] = [
    [`${HOSTILE}safetensors/ok_all_common_dtypes.safetensors`, 'safetensors'],
    [`${HOSTILE}safetensors/ok_odd_names.safetensors`, 'safetensors'],
    [`${HOSTILE}torch/ok_zip.bin`, 'torch'],
    [`${HOSTILE}torch/ok_zip64.bin`, 'torch'],
    [`${HOSTILE}torch/ok_deflated.bin`, 'torch'],
    [`${HOSTILE}torch/ok_metadata_attribute.bin`, 'torch'],
    [`${HOSTILE}torch/ok_legacy.bin`, 'torch'],
  ];

  it('give tensors or a typed error, thousands of times, and never more bytes than they have', async () => {
    const counts = { loaded: 0, refused: 0 };
    const check = async (path: string, kind: keyof typeof open, mutations: readonly Mutation[]) => {
      const bytes = mutations.reduce(mutate, Uint8Array.from(readBin(path)));
      try {
        const { tensors } = await open[kind](bytes);
        for (const stored of tensors.values()) await readValues(stored);
        counts.loaded++;
      } catch (error) {
        assert.ok(error instanceof Image2TextError && !error.message.includes('\n'), `${path}: ${error}`);
        counts.refused++;
      }
    };
    for (const [path, kind] of files) {
      await fc.assert(
        fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 3 }), (mutations) =>
          check(path, kind, mutations),
        ),
        { numRuns: RUNS, seed: SEED },
      );
      const whole = readBin(path);
      for (let end = 0; end < whole.length; end += 1 + Math.floor(whole.length / 300)) {
        await failure(`${path} cut at ${end}`, async () => {
          const { tensors } = await open[kind](whole.slice(0, end));
          for (const stored of tensors.values()) await readValues(stored);
        });
      }
    }
    assert.ok(counts.loaded > 0 && counts.refused > RUNS, JSON.stringify(counts));
    console.log(`      mutated checkpoints: ${counts.refused} refused, ${counts.loaded} still legal`);
  });

  it('of pickles alone: random opcodes never escape', () => {
    const whole = torchPickle([{ name: 'w', key: '0', count: 4, offset: 0, shape: [2, 2], strides: [2, 1] }]);
    const opcodes = [...'()]}NtRbcsuaeQqrhjJKMGX.', '\x85', '\x86', '\x87', '\x88', '\x89', '\x8a'].map((c) =>
      c.charCodeAt(0),
    );
    const counts = { read: 0, refused: 0 };
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(...opcodes, 0, 1, 2, 10), { maxLength: 60 }),
        fc.nat(whole.length),
        (tail, cut) => {
          for (const bytes of [bytesOf(0x80, 2, tail), bytesOf(whole.slice(0, Math.max(2, cut)), tail)]) {
            try {
              unpickle(bytes, 0, { file: 'x', base: 0 });
              counts.read++;
            } catch (error) {
              assert.ok(error instanceof TorchFileError, String(error));
              counts.refused++;
            }
          }
        },
      ),
      { numRuns: RUNS, seed: SEED },
    );
    assert.ok(counts.read > 0 && counts.refused > RUNS, JSON.stringify(counts));
  });
});
