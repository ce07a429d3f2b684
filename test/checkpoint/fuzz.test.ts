import assert from 'node:assert/strict';
import fc from 'fast-check';
import { fromBytes } from '../../src/checkpoint/byte-source.js';
import { readValues } from '../../src/checkpoint/dtypes.js';
import { readSafetensors } from '../../src/checkpoint/safetensors.js';
import { unpickle } from '../../src/checkpoint/torch/pickle.js';
import { readPytorch } from '../../src/checkpoint/torch/torch-file.js';
import { Image2TextError, TorchFileError } from '../../src/errors.js';
import { HOSTILE, readBin } from '../support/fixtures.js';
import { failure } from './support.js';
import { bytesOf, torchPickle } from './torch-writer.js';

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

describe('mutated checkpoints', () => {
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
        { numRuns: 1000, seed: 21 },
      );
      const whole = readBin(path);
      for (let end = 0; end < whole.length; end += 1 + Math.floor(whole.length / 300)) {
        await failure(`${path} cut at ${end}`, async () => {
          const { tensors } = await open[kind](whole.slice(0, end));
          for (const stored of tensors.values()) await readValues(stored);
        });
      }
    }
    assert.ok(counts.loaded > 100 && counts.refused > 4000, JSON.stringify(counts));
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
      { numRuns: 3000, seed: 22 },
    );
  });
});
