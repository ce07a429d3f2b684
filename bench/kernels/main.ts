/**
 * What the kernels of the simd backend reach, beside what this machine can do in WebAssembly at best (multiply-adds in registers;
 * reading memory), measured in the same process, and beside tfjs's own wasm backend.
 *
 *     node --import tsx bench/kernels/main.ts [--plain] [--threads N] [filter]
 */
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-wasm';
import { registerSimdBackend, type SimdBackend, setThreads } from '../../src/backend/index.js';
import { type Case, productCases, rowCases } from './cases.js';
import { decodeCases } from './decode-cases.js';
import { measure, measureTogether, type Timing } from './measure.js';

const args = process.argv.slice(2);
const plain = args.includes('--plain');
const threadsAt = args.indexOf('--threads');
const threads = threadsAt < 0 ? 1 : Number(args[threadsAt + 1]);
const filter = args.find((arg, i) => !arg.startsWith('--') && (threadsAt < 0 || i !== threadsAt + 1)) ?? '';

registerSimdBackend({ threads: 1, ...(plain ? { relaxed: false } : {}) });
await tf.setBackend('simd');
const backend = tf.backend() as SimdBackend;

const FLOPS_PER_TURN = 192;
const TURNS = 400_000;
const READ_BYTES = 256 * 2 ** 20;

/** Where the bandwidth is measured: much more than any cache holds. */
const area = backend.heap.alloc(READ_BYTES);
backend.heap.f32.fill(1, area / 4, (area + READ_BYTES) / 4);

const computePeak = () => void backend.kernels.peak(TURNS);
const readPeak = () => void backend.kernels.readAll(area, READ_BYTES);

const fixed = (value: number, digits = 1) => value.toFixed(digits).padStart(8);

/** The case beside the limit that bounds it, both measured in turns; then the wasm backend's time. */
async function report({ name, flops, bytes, run, prepare }: Case): Promise<void> {
  await tf.setBackend('simd');
  const ours = prepare('simd');
  const body = () => void run(ours);
  const bound = flops > 0 && bytes === 0 ? 'peak' : 'read';
  const [took, limit] = measureTogether([body, bound === 'peak' ? computePeak : readPeak]) as [Timing, Timing];
  const [work, most] = bound === 'peak' ? [flops, TURNS * FLOPS_PER_TURN] : [bytes, READ_BYTES];
  const [rate, top] = [work / took.median / 1e6, most / limit.median / 1e6];
  const ratio = bound === 'peak' || bytes > 0 ? `${fixed((rate / top) * 100, 0)} %` : '';
  let line = `${name.padEnd(36)}${fixed(took.median, 3)} ms ${fixed(rate)} of ${fixed(top)} ${bound === 'peak' ? 'GFLOP/s' : 'GB/s   '}${ratio}`;
  if (threads > 1) {
    const alone = measure(body, { clock: true });
    setThreads(threads);
    await new Promise((resolve) => setTimeout(resolve, 100)); // the workers start
    const many = measure(body, { threads, clock: true });
    setThreads(1);
    const ratios = `${(alone.median / many.median).toFixed(2)}x, at best ${(alone.best / many.best).toFixed(2)}x`;
    line += `   ${threads} threads ${fixed(many.median, 3)} ms, ${ratios}`;
  }
  line += `   quiet ${took.quiet}/${took.samples}`;
  tf.dispose(ours);
  const stock = await stockTime({ name, flops, bytes, run, prepare });
  console.log(
    stock === undefined ? line : `${line}   wasm ${fixed(stock, 2)} ms, ${(stock / took.median).toFixed(1)}x`,
  );
}

/** The same on tfjs's wasm backend, where it can. */
async function stockTime({ run, prepare }: Case): Promise<number | undefined> {
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

console.log(`simd backend, ${plain ? 'plain' : 'relaxed'} SIMD, node ${process.versions.node}`);
for (const one of [...productCases, ...rowCases, ...decodeCases]) if (one.name.includes(filter)) await report(one);
