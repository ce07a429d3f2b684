import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-wasm';
import { registerSimdBackend, type SimdBackend } from '../src/index.js';
import type { Case } from './cases.js';
import { measure, measureTogether, type Timing } from './measure.js';

/** What this machine can do at best in WebAssembly on one thread: a body to time, and the operations or bytes in it. */
export type Limits = Readonly<Record<Case['bound'], { readonly work: number; run(): void }>>;

const FLOPS_PER_TURN = 192;
const DOT_FLOPS_PER_TURN = 384;
const TURNS = 400_000;
/** Much more than any cache holds. */
const READ_BYTES = 256 * 2 ** 20;

/** Starts the simd backend on one thread, with memory to read, and makes it the current one. */
export async function startLimits(plain = false, name = 'simd'): Promise<Limits> {
  registerSimdBackend({ name, threads: 1, ...(plain ? { relaxed: false } : {}) });
  await tf.setBackend(name);
  const { heap, kernels } = tf.backend() as SimdBackend;
  const area = heap.alloc(READ_BYTES);
  heap.f32.fill(1, area / 4, (area + READ_BYTES) / 4);
  return {
    dots: { work: DOT_FLOPS_PER_TURN * TURNS, run: () => void kernels.peakDots(TURNS) },
    peak: { work: FLOPS_PER_TURN * TURNS, run: () => void kernels.peak(TURNS) },
    read: { work: READ_BYTES, run: () => void kernels.readAll(area, READ_BYTES) },
  };
}

/** A case beside its limit, measured in turns. Rates in GFLOP/s or GB/s. */
export interface Beside {
  readonly took: Timing;
  readonly rate: number;
  readonly top: number;
  readonly ratio: number;
}

export function besideLimit({ bound, flops, bytes }: Case, body: () => void, limits: Limits): Beside {
  const [took, limit] = measureTogether([body, limits[bound].run]) as [Timing, Timing];
  const rate = (bound === 'read' ? bytes : flops) / took.median / 1e6;
  const top = limits[bound].work / limit.median / 1e6;
  return { took, rate, top, ratio: rate / top };
}

/** Milliseconds of a case on tfjs's wasm backend; undefined where it cannot. */
export async function stockTime({ run, prepare }: Case): Promise<number | undefined> {
  await tf.setBackend('wasm');
  try {
    const theirs = prepare('wasm');
    const { median } = measure(() => void run(theirs), { seconds: 0.4 });
    tf.dispose(theirs);
    return median;
  } catch {
    return undefined;
  }
}

/** The case on simd beside its limit, and how many times faster it is than wasm. */
export async function measureCase(one: Case, limits: Limits): Promise<Beside & { readonly stock: number | undefined }> {
  await tf.setBackend('simd');
  const ours = one.prepare('simd');
  const beside = besideLimit(one, () => void one.run(ours), limits);
  tf.dispose(ours);
  return { ...beside, stock: await stockTime(one) };
}
