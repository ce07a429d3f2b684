/**
 * `npm run bench -- [--backends wasm,simd,simd:bf16,simd:f16,simd:int8,simd:int8-fast] [--runs 3] [--tokens 20] [--size base|tiny] [--image-size 224]
 * [--threads 1]`
 *
 * Encode, prefill, step and whole captions at the git-base size with generated weights, per backend, beside the plain path that computes
 * image and text again for every token, and beside what one thread of this machine can do, measured in turns. With one thread, CPU times; with more, times by the clock, because threads that wait for work
 * keep a core busy. They are medians of one run on one machine and mean nothing beside those of another; ratios do.
 */
import { parseArgs } from 'node:util';
import { getBackend, memory } from '@tensorflow/tfjs-core';
import { setThreads, type WeightFormat } from 'tfjs-backend-simd';
import type { NodeBackend } from '../src/node.js';
import { quietTensorflow, startBackend } from '../src/node.js';
import type { Measured, StageTime } from './measure-model.js';
import { measureModel } from './measure-model.js';
import { STAGES, type Stage } from './stage-work.js';
import { load, machine, ms, table } from './support.js';

const { values } = parseArgs({
  options: {
    backends: { type: 'string', default: 'wasm,simd' },
    runs: { type: 'string', default: '3' },
    tokens: { type: 'string', default: '20' },
    size: { type: 'string', default: 'base' },
    'image-size': { type: 'string', default: '224' },
    threads: { type: 'string', default: '1' },
  },
});

quietTensorflow();
const threads = Number(values.threads);
const clock = threads > 1;
console.log(
  `${machine()}, ${load()}\nGIT ${values.size}, one image of ${values['image-size']} px, ${values.tokens} tokens, ` +
    `${clock ? `${threads} threads of simd, time by the clock` : 'one thread, CPU time'}, medians of ${values.runs} runs\n`,
);

const results: Measured[] = [];
for (const asked of values.backends.split(',')) {
  const [backend, format] = asked.split(':') as [NodeBackend, WeightFormat?];
  await startBackend(backend);
  if (getBackend() === 'simd') setThreads(threads);
  process.stderr.write(`measuring ${asked} …\n`);
  const before = memory().numTensors;
  const [runs, tokens, side] = [values.runs, values.tokens, values['image-size']].map(Number) as [
    number,
    number,
    number,
  ];
  results.push(
    await measureModel({ runs, tokens, side, size: values.size, clock, ...(format === undefined ? {} : { format }) }),
  );
  if (memory().numTensors !== before) throw new Error(`${memory().numTensors - before} tensors leaked`);
}
console.log(`afterwards ${load()}`);

const [first] = results;
const names = Object.keys(STAGES) as Stage[];
const row = (what: string, pick: (m: Measured) => number) => [
  what,
  ...results.map((m) => ms(pick(m))),
  ...results.slice(1).map((m) => `${(pick(first!) / pick(m)).toFixed(2)}x`),
];
console.log(
  table([
    ['', ...results.map((m) => m.backend), ...results.slice(1).map((m) => `${m.backend} against ${first!.backend}`)],
    ...names.map((stage) => row(STAGES[stage], (m) => m.stages[stage].took)),
    row('plain path: one token, no cache', (m) => m.plainToken),
  ]),
);

const percent = (part: number) => `${(100 * part).toFixed(0)} %`;
/** GFLOP/s and their share of the multiply-adds that one thread can do; GB/s of weights and their share of what it can read. */
function rates({ took, work }: StageTime, { peak, read }: Measured): string {
  const [flops, bytes] = [work.flops / took / 1e6, (work.bytes ?? 0) / took / 1e6];
  const computed = `${flops.toFixed(1)} GFLOP/s, ${percent(flops / peak)}`;
  return bytes > 0 ? `${computed}; ${bytes.toFixed(1)} GB/s, ${percent(bytes / read)}` : computed;
}
console.log(
  `\nproducts and attention, and their share of one thread's peak; weights read, and their share of its bandwidth`,
);
console.log(
  table([
    ['', ...results.map((m) => m.backend)],
    ...names.map((stage) => [STAGES[stage], ...results.map((m) => rates(m.stages[stage], m))]),
  ]),
);
for (const { backend, stages, peak, read, plainToken } of results) {
  const [greedy, plain] = [stages.greedy.took, plainToken * Number(values.tokens)];
  console.log(
    `\n${backend}: a greedy caption costs 1/${(plain / greedy).toFixed(1)} of the plain path (${values.tokens} x ${ms(plainToken)}), ` +
      `four beams ${(stages.beams.took / greedy).toFixed(2)}x greedy; peak ${peak.toFixed(1)} GFLOP/s, ` +
      `reading ${read.toFixed(1)} GB/s`,
  );
}
