/**
 * Our kernels on tfjs's webgpu backend against the composed layers on its cpu backend: a program of its own, because WebGPU in Node puts `navigator.gpu`
 * into the global scope. Prints a line of JSON for each case. `node --import tsx test/webgpu/kernel-cases.ts [all]`
 */
import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import type { WeightFormat } from 'tfjs-backend-simd';
import { checkWeights, type StartParam } from '../../src/checkpoint/load-params.js';
import { type AttentionColumns, attend } from '../../src/layers/attention.js';
import { layerNorm } from '../../src/layers/layer-norm.js';
import { type Activation, linear } from '../../src/layers/linear.js';
import { quietTensorflow, startBackend } from '../../src/node.js';

export interface KernelCase {
  readonly name: string;
  /** Largest difference from the composed layers on cpu, and the largest size of what is summed up. */
  readonly error: number;
  readonly size: number;
  /** Tensors of tfjs and of the backend that are left behind. */
  readonly left: readonly [number, number];
  /** Of a packed weight: the largest rounding error, where 1 is what the format allows. */
  readonly rounding?: number;
}

/** All combinations, or those that take every path once. */
const all = process.argv.includes('all');

let state = 1;
const random = (count: number, size = 1): Float32Array =>
  Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 31 - 1) * size;
  });

interface Gpu {
  numDataIds(): number;
  readonly startParam: StartParam;
  readonly device: EventTarget;
}

quietTensorflow();
await startBackend('webgpu');
const gpu = tf.backend() as unknown as Gpu;
gpu.device.addEventListener('uncapturederror', (event) => {
  console.error((event as unknown as { error: Error }).error.message);
  process.exit(1);
});
for (const name of ['GitLinear', 'GitLayerNorm', 'GitAttention', 'GitDecoderStep']) {
  if (tf.getKernel(name, 'webgpu') === undefined) throw new Error(`${name} is not registered`);
}
assert.throws(
  () => checkWeights({ weights: 'int8-fast' }),
  /webgpu: weight-format: .*f32, bf16, f16, int8: for int8-fast/,
);

const valuesOn = async (backend: string, compute: () => tf.Tensor): Promise<Float32Array> => {
  await tf.setBackend(backend);
  const result = tf.tidy(compute);
  const values = (await result.data()) as Float32Array;
  result.dispose();
  return values;
};

/** Runs `compute` with the same random numbers on both backends; `size` bounds what it sums up. */
async function compare(
  name: string,
  size: number,
  compute: () => tf.Tensor,
  more: Partial<KernelCase> = {},
): Promise<void> {
  const seed = state;
  const wanted = await valuesOn('cpu', compute);
  state = seed;
  const before = [tf.engine().state.numTensors, gpu.numDataIds()] as const;
  const got = await valuesOn('webgpu', compute);
  const left = [tf.engine().state.numTensors - before[0], gpu.numDataIds() - before[1]] as const;
  let error = 0;
  for (let i = 0; i < wanted.length; i++) {
    const off = Math.abs(wanted[i]! - got[i]!);
    if (!(off <= error)) error = Number.isNaN(off) ? Number.MAX_VALUE : off;
  }
  console.log(JSON.stringify({ name, error, size, left, ...more } satisfies KernelCase));
}

const ACTIVATIONS = [undefined, 'gelu', 'quick_gelu'] as const;
/** Rows, inputs, outputs: few and many rows, with and without vectors of four. */
const SHAPES: readonly (readonly [m: number, k: number, n: number])[] = [
  [1, 64, 40],
  [3, 30, 66],
  [11, 64, 40],
  [70, 30, 66],
  [2, 5, 3],
];

async function linearCase(m: number, k: number, n: number, activation?: Activation): Promise<void> {
  await compare(`linear [${m}, ${k}] x [${k}, ${n}] ${activation ?? ''}`, k, () => {
    const p = { weight: tf.tensor2d(random(k * n), [k, n]), bias: tf.tensor1d(random(n, 3)) };
    return linear(p, tf.tensor3d(random(m * k), [1, m, k]), activation);
  });
}

/** Of a format: what it may be off for a number, beside the largest number of the channel. */
const ROUNDING: Readonly<Record<string, (value: number, largest: number) => number>> = {
  f32: () => 0,
  bf16: (value) => Math.abs(value) * 2 ** -8,
  f16: (value) => Math.abs(value) * 2 ** -11 + 2 ** -24,
  int8: (_, largest) => (largest / 254) * 1.0001,
};

/** A weight that the backend keeps in a format, against the same numbers as its tensor reads. */
async function formatCase(format: WeightFormat, m: number, k: number, n: number): Promise<void> {
  await tf.setBackend('webgpu');
  const before = gpu.numDataIds();
  const numbers = random(n * k, 0.5);
  const sink = gpu.startParam([n, k], 'linear', format)!;
  const rows = Math.floor(n / 2); // in two pieces
  for (const [first, end] of [
    [0, rows * k],
    [rows * k, n * k],
  ] as const) {
    const fault = sink.add({ dtype: 'F32', data: numbers.slice(first, end) }, first);
    if (fault !== undefined) throw new Error(fault);
  }
  const x = random(m * k);
  const bias = random(n);
  const step = () => linear({ weight: sink.tensor, bias: tf.tensor1d(bias) }, tf.tensor3d(x, [1, m, k]));
  const got = await valuesOn('webgpu', step);
  const unread = gpu.numDataIds() - before; // the tensor, and its numbers where they are packed
  const kept = await sink.tensor.data();
  let rounding = 0;
  for (let channel = 0; channel < n; channel++) {
    const own = numbers.subarray(channel * k, (channel + 1) * k);
    const largest = own.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    own.forEach((value, i) => {
      const off = Math.abs(kept[i * n + channel]! - value);
      const allowed = ROUNDING[format]!(value, largest);
      rounding = Math.max(rounding, off === 0 ? 0 : off / allowed);
    });
  }
  await tf.setBackend('cpu');
  const wanted = await valuesOn('cpu', () =>
    linear({ weight: tf.tensor2d(kept as Float32Array, [k, n]), bias: tf.tensor1d(bias) }, tf.tensor3d(x, [1, m, k])),
  );
  await tf.setBackend('webgpu');
  sink.tensor.dispose();
  const error = got.reduce((most, value, i) => Math.max(most, Math.abs(value - wanted[i]!)), 0);
  const left = [unread - (format === 'f32' ? 1 : 2), gpu.numDataIds() - before] as const;
  console.log(
    JSON.stringify({
      name: `${format} [${m}, ${k}] x [${k}, ${n}]`,
      error,
      size: k,
      left,
      rounding,
    } satisfies KernelCase),
  );
}

async function normCase(n: number, residual: boolean): Promise<void> {
  await compare(`layer norm of ${n}${residual ? ' + residual' : ''}`, 8, () => {
    const rows = () => tf.tensor3d(random(6 * n, 3), [2, 3, n]);
    const p = { weight: tf.tensor1d(random(n)), bias: tf.tensor1d(random(n)) };
    return layerNorm(p, rows(), 1e-5, residual ? rows() : undefined);
  });
}

/** Rows, images, heads, queries, width, columns of the image and of the text; rows of the mask, if any. */
type AttentionShape = readonly [
  R: number,
  N: number,
  H: number,
  T: number,
  K: number,
  I: number,
  S: number,
  mask?: 'shared' | 'own',
];

async function attentionCase([R, N, H, T, K, I, S, mask]: AttentionShape): Promise<void> {
  const shape = `q [${R}, ${H}, ${T}, ${K}]${I > 0 ? `, ${N} images of ${I}` : ''}${S > 0 ? `, text of ${S}` : ''}`;
  await compare(`attention, ${shape}${mask === undefined ? '' : `, ${mask} mask`}`, 4, () => {
    const q = tf.tensor4d(random(R * H * T * K, 2), [R, H, T, K]);
    const pair = (a: number, b: number) => ({
      key: tf.tensor4d(random(a * H * b * K, 2), [a, H, b, K]),
      value: tf.tensor4d(random(a * H * b * K), [a, H, b, K]),
    });
    const count = (mask === 'own' ? R : 1) * T * S;
    const hidden = random(count).map((value, i) => (value > 0.2 && i % S > 0 ? -1e9 : 0));
    const columns: AttentionColumns = {
      image: I > 0 ? pair(N, I) : undefined,
      text: S > 0 ? pair(R, S) : undefined,
      textMask: mask === undefined ? undefined : tf.tensor(hidden, mask === 'own' ? [R, T, S] : [T, S]),
    };
    return attend(q, columns);
  });
}

const FORMATS = ['f32', 'bf16', 'f16', 'int8'] as const;
if (all) {
  for (const shape of SHAPES) for (const activation of ACTIVATIONS) await linearCase(...shape, activation);
  await linearCase(300, 768, 4096);
  for (const shape of SHAPES) for (const format of FORMATS) await formatCase(format, ...shape);
  for (const n of [1, 8, 13, 768]) for (const residual of [true, false]) await normCase(n, residual);
  await attentionCase([4, 2, 2, 2, 300, 9, 5, 'own']);
  for (const T of [1, 3, 20, 130]) {
    for (const K of [8, 6, 64]) {
      await attentionCase([2, 2, 3, T, K, 19, 0]);
      await attentionCase([4, 2, 2, T, K, 300, 5, 'own']);
      await attentionCase([2, 2, 2, T, K, 0, 33, 'shared']);
    }
  }
} else {
  await linearCase(3, 30, 66, 'gelu');
  await linearCase(11, 64, 40, 'quick_gelu');
  await formatCase('f32', 2, 5, 3);
  await formatCase('bf16', 2, 30, 66);
  await formatCase('f16', 2, 30, 66);
  await formatCase('int8', 12, 30, 66);
  await normCase(13, true);
  await normCase(768, false);
  await attentionCase([4, 2, 2, 1, 8, 300, 5, 'own']);
  await attentionCase([2, 1, 2, 20, 6, 19, 33, 'shared']);
}
