import assert from 'node:assert/strict';
import fc from 'fast-check';
import { fromBytes } from '../../src/checkpoint/byte-source.js';
import { readValues } from '../../src/checkpoint/dtypes.js';
import { readSafetensors } from '../../src/checkpoint/safetensors.js';
import { unpickle } from '../../src/checkpoint/torch/pickle.js';
import { readPytorch } from '../../src/checkpoint/torch/torch-file.js';
import { Image2TextError, TorchFileError } from '../../src/errors.js';
import { HOSTILE, readBin } from '../support/fixtures.js';
import { failure, safetensorsBytes } from './support.js';
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

/** A few hundred of each kind, or 10,000 with IMAGE2TEXT_FULL=1; the seed is printed, and IMAGE2TEXT_SEED repeats a run. */
const RUNS = process.env['IMAGE2TEXT_FULL'] === '1' ? 10_000 : 300;
const SEED = Number(process.env['IMAGE2TEXT_SEED'] ?? 21);

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
    await fc.assert(
      fc.asyncProperty(header, fc.nat(12), async (fields, length) => {
        const bytes = safetensorsBytes(fields, new Uint8Array(length));
        try {
          const { tensors } = await readSafetensors(fromBytes(bytes), 'x');
          const covered = [...tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
          assert.equal(covered, length);
        } catch (error) {
          assert.ok(error instanceof Image2TextError, String(error));
        }
      }),
      { numRuns: RUNS, seed: SEED },
    );
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
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(...opcodes, 0, 1, 2, 10), { maxLength: 60 }),
        fc.nat(whole.length),
        (tail, cut) => {
          for (const bytes of [bytesOf(0x80, 2, tail), bytesOf(whole.slice(0, Math.max(2, cut)), tail)]) {
            try {
              unpickle(bytes, 0, { file: 'x', base: 0 });
            } catch (error) {
              assert.ok(error instanceof TorchFileError, String(error));
            }
          }
        },
      ),
      { numRuns: RUNS, seed: SEED },
    );
  });
});
