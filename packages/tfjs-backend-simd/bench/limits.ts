import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-wasm';
import { compileProbe } from '../scripts/build-kernels.mjs';
import { registerSimdBackend } from '../src/index.js';
import { hasRelaxedSimd } from '../src/platform.js';
import type { Case } from './cases.js';
import { measure, measureTogether, type Timing } from './measure.js';

/** What this machine can do at best in WebAssembly on one thread: a body to time, and the operations or bytes in it. */
export type Limits = Readonly<Record<Case['bound'], { readonly work: number; run(): void }>>;

const FLOPS_PER_TURN = 192;
const DOT_FLOPS_PER_TURN = 384;
const TURNS = 400_000;
/** Much more than any cache holds, and where it begins. */
const READ_BYTES = 256 * 2 ** 20;
const AREA = 65536;

/** assembly/probe.ts: a binary of its own, which is not shipped. */
interface Probe {
  peak(turns: number): void;
  peakDots(turns: number): void;
  readAll(at: number, bytes: number): number;
}

/** Starts the simd backend on one thread, with memory to read, and makes it the current one. */
export async function startLimits(plain = false, name = 'simd'): Promise<Limits> {
  registerSimdBackend({ name, threads: 1, ...(plain ? { relaxed: false } : {}) });
  await tf.setBackend(name);
  const memory = new WebAssembly.Memory({ initial: (AREA + READ_BYTES) / 65536, maximum: 65536 });
  new Float32Array(memory.buffer, AREA).fill(1);
  const bytes = await compileProbe(!plain && hasRelaxedSimd());
  const { instance } = await WebAssembly.instantiate(bytes, { env: { memory } });
  const probe = instance.exports as unknown as Probe;
  return {
    dots: { work: DOT_FLOPS_PER_TURN * TURNS, run: () => void probe.peakDots(TURNS) },
    peak: { work: FLOPS_PER_TURN * TURNS, run: () => void probe.peak(TURNS) },
    read: { work: READ_BYTES, run: () => void probe.readAll(AREA, READ_BYTES) },
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
