import * as tf from '@tensorflow/tfjs-core';
import { uploadWeight } from '../src/index.js';

/** One thing to measure. */
export interface Case {
  readonly name: string;
  /** Floating-point operations; 0 where nobody counts them. */
  readonly flops: number;
  /** Bytes that it reads and writes, each once. */
  readonly bytes: number;
  /** What it is compared with: multiply-adds in registers, of float32 or of 16-bit integers, or reading memory. */
  readonly bound: 'peak' | 'dots' | 'read';
  /** The tensors that it works on. */
  prepare(backend: 'simd' | 'wasm'): Record<string, tf.Tensor>;
  /** Once through. Whatever it makes, it disposes. */
  run(tensors: Record<string, tf.Tensor>): void;
}

export const random = (shape: number[], scale = 1): tf.Tensor =>
  tf.tidy(() => tf.mul(tf.randomUniform(shape, -1, 1, 'float32', 7), scale));

export const kernel = (name: string, inputs: Record<string, tf.Tensor>, attrs = {}): void => {
  tf.dispose(tf.engine().runKernel(name, inputs, attrs) as tf.Tensor);
};

const isSimd = () => tf.getBackend() === 'simd';

/** A linear layer at a model's shape; on wasm the same as tfjs would do it. */
const product = (m: number, k: number, n: number): Case => ({
  name: `linear ${m}x${k}x${n}`,
  flops: 2 * m * k * n,
  bytes: 4 * (m * k + k * n + m * n),
  bound: 'peak',
  prepare: () => ({ x: random([m, k]), weight: random([k, n], 0.05), bias: random([n]) }),
  run({ x, weight, bias }) {
    if (isSimd()) kernel('GitLinear', { x: x!, weight: weight!, bias: bias! }, { activation: 'none' });
    else tf.dispose(tf.fused.matMul({ a: x!, b: weight!, bias: bias! }));
  },
});

const attention = (T: number, H: number, K: number): Case => ({
  name: `attention ${H} heads, ${T} tokens`,
  flops: 4 * H * T * T * K,
  bytes: 4 * 4 * H * T * K,
  bound: 'peak',
  prepare: () => ({ q: random([1, H, T, K]), key: random([1, H, T, K]), value: random([1, H, T, K]) }),
  run({ q, key, value }) {
    if (isSimd()) return kernel('GitAttention', { q: q!, key: key!, value: value! });
    tf.tidy(() => {
      const scores = tf.matMul(tf.mul(q!, 1 / Math.sqrt(K)), key!, false, true);
      tf.reshape(tf.transpose(tf.matMul(tf.softmax(scores), value!), [0, 2, 1, 3]), [1, T, H * K]);
    });
  },
});

/** A linear layer whose weights are int8, beside the dot products of 16-bit numbers that int8 is made of: int8-fast can be above them. */
const int8Product = (m: number, k: number, n: number, format: 'int8' | 'int8-fast' = 'int8'): Case => ({
  ...product(m, k, n),
  name: `linear ${m}x${k}x${n}, ${format}`,
  bytes: 4 * m * (k + n) + k * n,
  bound: 'dots',
  prepare(backend) {
    if (backend === 'wasm') throw new Error('only float32 there');
    const data = Float32Array.from({ length: k * n }, (_, i) => ((i * 7919) % 1999) / 2e4 - 0.05);
    return { x: random([m, k]), weight: uploadWeight({ format, data, shape: [k, n] }), bias: random([n]) };
  },
});

export const productCases: readonly Case[] = [
  ...[product(197, 768, 768), product(197, 768, 2304), product(197, 768, 3072), product(197, 3072, 768)],
  ...[product(901, 768, 768), product(901, 768, 3072), product(901, 3072, 768)],
  ...[int8Product(197, 768, 768), int8Product(197, 768, 3072), int8Product(197, 3072, 768)],
  ...[int8Product(901, 768, 768), int8Product(901, 768, 3072), int8Product(901, 3072, 768)],
  ...[int8Product(197, 768, 3072, 'int8-fast'), int8Product(197, 3072, 768, 'int8-fast')],
  ...[attention(197, 12, 64), attention(901, 12, 64)],
];

/** Bytes that an elementwise case reads and writes: they stay in the caches, so this compares with memory only loosely. */
const moved = (size: number) => 8 * size;

const elementwise = (
  name: string,
  op: (x: tf.Tensor) => tf.Tensor,
  fused: Record<string, unknown>,
  shape: number[],
): Case => ({
  name: `${name} [${shape}]`,
  flops: 0,
  bytes: moved(shape.reduce((a, b) => a * b, 1)),
  bound: 'read',
  prepare: () => ({ x: random(shape, 3) }),
  run({ x }) {
    if (isSimd() && 'kernel' in fused) kernel(fused['kernel'] as string, { x: x! }, {});
    else tf.dispose(tf.tidy(() => op(x!)));
  },
});

const layerNorm: Case = {
  name: 'layer norm [197, 768]',
  flops: 0,
  bytes: moved(197 * 768),
  bound: 'read',
  prepare: () => ({ x: random([197, 768]), gamma: random([768]), beta: random([768]) }),
  run({ x, gamma, beta }) {
    if (isSimd()) return kernel('GitLayerNorm', { x: x!, gamma: gamma!, beta: beta! }, { epsilon: 1e-5 });
    tf.tidy(() => {
      const { mean, variance } = tf.moments(x!, 1, true);
      tf.add(tf.mul(tf.mul(tf.sub(x!, mean), tf.rsqrt(tf.add(variance, 1e-5))), gamma!), beta!);
    });
  },
};

const gelu = (x: tf.Tensor) => tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1));

export const rowCases: readonly Case[] = [
  layerNorm,
  elementwise('softmax', tf.softmax, {}, [12, 197, 197]),
  elementwise('erf', tf.erf, {}, [197, 3072]),
  elementwise('gelu of tfjs ops', gelu, {}, [197, 3072]),
  elementwise('exp', tf.exp, {}, [197, 3072]),
  elementwise('add a row', (x) => tf.add(x, tf.zeros([3072])), {}, [197, 3072]),
];
