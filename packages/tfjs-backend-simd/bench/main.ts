/**
 * What the kernels of the simd backend reach, beside what this machine can do in WebAssembly at best (multiply-adds in registers;
 * reading memory), measured in the same process, and beside tfjs's own wasm backend.
 *
 *     node --import tsx packages/tfjs-backend-simd/bench/main.ts [--plain] [--threads N] [filter]
 */
import * as tf from '@tensorflow/tfjs-core';
import { setThreads } from '../src/index.js';
import { type Case, productCases, rowCases } from './cases.js';
import { decodeCases } from './decode-cases.js';
import { besideLimit, startLimits, stockTime } from './limits.js';
import { measure } from './measure.js';

const args = process.argv.slice(2);
const plain = args.includes('--plain');
const threadsAt = args.indexOf('--threads');
const threads = threadsAt < 0 ? 1 : Number(args[threadsAt + 1]);
const filter = args.find((arg, i) => !arg.startsWith('--') && (threadsAt < 0 || i !== threadsAt + 1)) ?? '';

const limits = await startLimits(plain);

const fixed = (value: number, digits = 1) => value.toFixed(digits).padStart(8);

/** The case beside the limit that bounds it, both measured in turns; then the wasm backend's time. */
async function report(one: Case): Promise<void> {
  await tf.setBackend('simd');
  const ours = one.prepare('simd');
  const body = () => void one.run(ours);
  const { took, rate, top, ratio } = besideLimit(one, body, limits);
  const unit = { peak: 'GFLOP/s', dots: 'GOP/s  ', read: 'GB/s   ' }[one.bound];
  let line = `${one.name.padEnd(36)}${fixed(took.median, 3)} ms ${fixed(rate)} of ${fixed(top)} ${unit}${fixed(ratio * 100, 0)} %`;
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
  const stock = await stockTime(one);
  console.log(
    stock === undefined ? line : `${line}   wasm ${fixed(stock, 2)} ms, ${(stock / took.median).toFixed(1)}x`,
  );
}

console.log(`simd backend, ${plain ? 'plain' : 'relaxed'} SIMD, node ${process.versions.node}`);
for (const one of [...productCases, ...rowCases, ...decodeCases]) if (one.name.includes(filter)) await report(one);
