import assert from 'node:assert/strict';
import { fromBytes, type ModelFiles } from '../../src/checkpoint/byte-source.js';
import { checkOverflow, scaleFinder, toBrainBits, toHalfBits, toInt8 } from '../../src/checkpoint/encode-tensor.js';
import { openCheckpoint, readWeights } from '../../src/checkpoint/open-checkpoint.js';
import { byteLengthOf, planSafetensors } from '../../src/checkpoint/safetensors.js';
import { INT8_SCHEME, QUANTIZATION_KEY, toFloat32 } from '../../src/checkpoint/stored-tensor.js';
import { failure, storedF32 } from './support.js';

type Part = readonly [name: string, dtype: string, shape: readonly number[], data: ArrayBufferView];

/** A safetensors file as our writer lays it out. */
function file(parts: readonly Part[], metadata: Record<string, string>): Uint8Array<ArrayBuffer> {
  const data = new Map(parts.map(([name, , , bytes]) => [name, bytes]));
  const { header, tensors, size } = planSafetensors(
    parts.map(([name, dtype, shape]) => ({ name, dtype, shape })),
    metadata,
  );
  const bytes = new Uint8Array(size);
  bytes.set(header);
  let at = header.length;
  for (const tensor of tensors) {
    const { buffer, byteOffset, byteLength } = data.get(tensor.name)!;
    assert.equal(byteLength, byteLengthOf(tensor));
    bytes.set(new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength), at);
    at += byteLength;
  }
  return bytes;
}

const folderOf = (files: Readonly<Record<string, Uint8Array>>): ModelFiles => ({
  label: 'folder',
  open: async (name) => (files[name] === undefined ? undefined : fromBytes(files[name])),
});

const WEIGHT: Part = ['w', 'I8', [2, 3], Int8Array.of(1, -2, 127, -127, 0, 5)];
const SCALE: Part = ['w.scale', 'F32', [2], Float32Array.of(0.5, 0.25)];
const SCHEME = { [QUANTIZATION_KEY]: INT8_SCHEME };
const open = (parts: readonly Part[], metadata: Record<string, string> = SCHEME) =>
  openCheckpoint(folderOf({ 'model.safetensors': file(parts, metadata) }));
const SPEC = { kind: 'tensor', shape: [2, 3] } as const;

describe('int8 weights', () => {
  it('are their numbers times the scale of their row, in every layout, and keep bytes and scales in reach', async () => {
    const { tensors } = await open([WEIGHT, SCALE]);
    assert.deepEqual([...tensors.keys()], ['w']);
    const stored = tensors.get('w')!;
    assert.deepEqual([...(await readWeights(stored, { ...SPEC, layout: 'as-is' }))], [0.5, -1, 63.5, -31.75, 0, 1.25]);
    const turned = await readWeights(stored, { ...SPEC, layout: 'linear' });
    assert.deepEqual([...turned], [0.5, -31.75, -1, 0, 63.5, 1.25]);
    assert.deepEqual([stored.dtype, stored.byteLength, stored.scales?.shape], ['I8', 6, [2]]);
    assert.deepEqual([...new Int8Array((await stored.read(3, 6)).buffer)], [-127, 0, 5]);
  });

  it('a shard says its scheme itself; shards that disagree are not quantized', async () => {
    const weights = { weight_map: { w: 'a.safetensors', 'w.scale': 'a.safetensors', v: 'b.safetensors' } };
    const other: Part = ['v', 'F32', [1], Float32Array.of(1)];
    const sharded = (metadata: Record<string, string>) =>
      openCheckpoint(
        folderOf({
          'model.safetensors.index.json': new TextEncoder().encode(JSON.stringify(weights)),
          'a.safetensors': file([WEIGHT, SCALE], SCHEME),
          'b.safetensors': file([other], metadata),
        }),
      );
    assert.deepEqual([...(await sharded(SCHEME)).tensors.keys()].sort(), ['v', 'w']);
    const { tensors } = await sharded({});
    const error = await failure('no scheme', () => readWeights(tensors.get('w')!, { ...SPEC, layout: 'as-is' }));
    assert.equal(error.code, 'unsupported-dtype');
  });

  const faults: readonly [rule: string, parts: readonly Part[], metadata?: Record<string, string>][] = [
    ['missing-scale', [WEIGHT]],
    ['scale-dtype', [WEIGHT, ['w.scale', 'F16', [2], Uint16Array.of(1, 2)]]],
    ['scale-shape', [WEIGHT, ['w.scale', 'F32', [3], Float32Array.of(1, 2, 3)]]],
    ['scale-shape', [WEIGHT, ['w.scale', 'F32', [2, 1], Float32Array.of(1, 2)]]],
    [
      'scale-shape',
      [
        ['w', 'I8', [], Int8Array.of(1)],
        ['w.scale', 'F32', [], Float32Array.of(1)],
      ],
    ],
    ['unknown-quantization', [WEIGHT, SCALE], { [QUANTIZATION_KEY]: 'int4 per group v9' }],
    ['bad-scale', [WEIGHT, ['w.scale', 'F32', [2], Float32Array.of(1, Number.NaN)]]],
    ['bad-scale', [WEIGHT, ['w.scale', 'F32', [2], Float32Array.of(-1, 1)]]],
    ['bad-scale', [WEIGHT, ['w.scale', 'F32', [2], Float32Array.of(1, 3e38)]]],
    ['int8-range', [['w', 'I8', [2, 3], Int8Array.of(0, 0, 0, 0, -128, 0)], SCALE]],
    ['unsupported-dtype', [WEIGHT, SCALE], {}],
  ];
  for (const [n, [rule, parts, metadata]] of faults.entries()) {
    it(`refused: ${rule} (${n})`, async () => {
      const error = await failure(rule, async () => {
        const { tensors } = await open(parts, metadata);
        await readWeights(tensors.get('w')!, { ...SPEC, layout: 'as-is' });
      });
      assert.equal(error.code, rule, error.message);
    });
  }
});

describe('narrower numbers', () => {
  const values = new Float32Array(200_000);
  for (let i = 0, word = 1; i < values.length; i++) {
    word = (Math.imul(word, 1664525) + 1013904223) | 0;
    values[i] = (word / 2 ** 31) * 2 ** ((i % 52) - 30);
  }
  values.set([0, -0, 65504, 65519.99, 65520, -1e30, 2 ** -24, 2 ** -25, 1.5 * 2 ** -25, 2 ** -14, Number.NaN]);

  /** Each is at least as near as its neighbors, and even where two are equally near. */
  function expectNearest(bits: Uint16Array, widen: (word: number) => number, beyond: number): void {
    for (const [i, value] of values.entries()) {
      const word = bits[i]!;
      const size = Math.abs(value);
      assert.equal(Number.isNaN(widen(word)), Number.isNaN(value), `${value}`);
      if (Number.isNaN(value)) continue;
      assert.equal(word >>> 15 === 1, Object.is(value, -0) || value < 0, `sign of ${value}`);
      assert.equal(Number.isFinite(widen(word)), size < beyond, `${value}`);
      if (size >= beyond) continue;
      const got = Math.abs(size - widen(word & 0x7fff));
      for (const next of [(word & 0x7fff) - 1, (word & 0x7fff) + 1]) {
        if (next < 0 || !Number.isFinite(widen(next))) continue;
        const other = Math.abs(size - widen(next));
        assert.ok(got < other || (got === other && word % 2 === 0), `${value}`);
      }
    }
  }
  const label = (dtype: string) => ({ name: 'w', dtype, file: 'f' });
  const every = Uint16Array.from({ length: 65536 }, (_, word) => word);

  it('half floats are the nearest, ties to even, also the smallest, and too large ones infinite', () => {
    const table = toFloat32(label('F16'), new Uint8Array(every.buffer));
    expectNearest(toHalfBits(values), (word) => table[word]!, 65520);
  });

  it('bfloat16 is the nearest, ties to even', () => {
    const table = toFloat32(label('BF16'), new Uint8Array(every.buffer));
    expectNearest(toBrainBits(values), (word) => table[word]!, Number.POSITIVE_INFINITY);
  });

  it('what does not fit is an error that names tensor and value', () => {
    const stored = storedF32('layer.weight', [2], Float32Array.of(1, 70000));
    const check = () =>
      checkOverflow(stored, Float32Array.of(1, 70000), toHalfBits(Float32Array.of(1, 70000)), 'F16', 4);
    assert.throws(check, /layer\.weight: f16-overflow: value 5 is 70000, .*use bf16/);
    const huge = Float32Array.of(3.4e38);
    assert.throws(() => checkOverflow(stored, huge, toBrainBits(huge), 'BF16', 0), /bf16-overflow/);
  });

  it('int8 is at most half a step off, in pieces of any size', () => {
    const shape = [3, 5] as const;
    const rows = Float32Array.from({ length: 15 }, (_, i) => (i < 5 ? 0 : Math.sin(i) * 10 ** (i % 3)));
    const finder = scaleFinder(shape);
    finder.add(rows.subarray(0, 7), 0);
    finder.add(rows.subarray(7), 7);
    const scales = finder.scales();
    assert.equal(scales[0], 0);
    const numbers = [...toInt8(rows.subarray(0, 4), 0, shape, scales), ...toInt8(rows.subarray(4), 4, shape, scales)];
    for (const [i, value] of rows.entries()) {
      const scale = scales[Math.floor(i / 5)]!;
      assert.ok(Math.abs(numbers[i]! * scale - value) <= scale * 0.5001, `${i}`);
    }
    assert.equal(Math.max(...numbers.map(Math.abs)), 127);
    assert.deepEqual(
      [...toInt8(rows, 0, shape, scales, new Int8Array(15).fill(99))],
      numbers,
      'in memory that was used',
    );
  });
});
