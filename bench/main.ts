/**
 * `npm run bench -- [--backends wasm,simd,simd:bf16,simd:f16,simd:int8] [--runs 3] [--tokens 20] [--size base|tiny] [--threads 1]`
 *
 * Encode, prefill, step and whole captions at the git-base size with generated weights, per backend, beside the plain path that computes
 * picture and text again for every token. With one thread, CPU times; with more, times by the clock, because threads that wait for work
 * keep a core busy. They are medians of one run on one machine and mean nothing beside those of another; ratios do.
 */
import { parseArgs } from 'node:util';
import { getBackend, memory } from '@tensorflow/tfjs-core';
import { setThreads, type WeightFormat } from '../src/backend/index.js';
import type { NodeBackend } from '../src/node.js';
import { quietTensorflow, startBackend } from '../src/node.js';
import type { Measured } from './measure-model.js';
import { measureModel } from './measure-model.js';
import { load, machine, ms, table } from './support.js';

const { values } = parseArgs({
  options: {
    backends: { type: 'string', default: 'wasm,simd' },
    runs: { type: 'string', default: '3' },
    tokens: { type: 'string', default: '20' },
    size: { type: 'string', default: 'base' },
    threads: { type: 'string', default: '1' },
  },
});

quietTensorflow();
const threads = Number(values.threads);
const clock = threads > 1;
console.log(
  `${machine()}, ${load()}\nGIT ${values.size}, one picture of the trained size, ${values.tokens} tokens, ` +
    `${clock ? `${threads} threads of simd, time by the clock` : 'one thread, CPU time'}, medians of ${values.runs} runs\n`,
);

const results: Measured[] = [];
for (const asked of values.backends.split(',')) {
  const [backend, format] = asked.split(':') as [NodeBackend, WeightFormat?];
  await startBackend(backend);
  if (getBackend() === 'simd') setThreads(threads);
  process.stderr.write(`measuring ${asked} …\n`);
  const before = memory().numTensors;
  const sizes = { runs: Number(values.runs), tokens: Number(values.tokens), size: values.size };
  results.push(await measureModel({ ...sizes, clock, ...(format === undefined ? {} : { format }) }));
  if (memory().numTensors !== before) throw new Error(`${memory().numTensors - before} tensors leaked`);
}
console.log(`afterwards ${load()}`);

const [first] = results;
const row = (what: string, pick: (m: Measured) => number) => [
  what,
  ...results.map((m) => ms(pick(m))),
  ...results.slice(1).map((m) => `${(pick(first!) / pick(m)).toFixed(2)}x`),
];
console.log(
  table([
    ['', ...results.map((m) => m.backend), ...results.slice(1).map((m) => `${m.backend} against ${first!.backend}`)],
    row('encode: pixels to features', (m) => m.encode),
    row('prefill: features to cache', (m) => m.prefill),
    row('step: one token', (m) => m.step),
    row('step: four beams', (m) => m.beamStep),
    row('caption, greedy', (m) => m.greedy),
    row('caption, original beam search', (m) => m.beams),
    row('plain path: one token, no cache', (m) => m.plainToken),
  ]),
);
for (const m of results) {
  const plain = m.plainToken * Number(values.tokens);
  console.log(
    `\n${m.backend}: a greedy caption costs 1/${(plain / m.greedy).toFixed(1)} of the plain path (${values.tokens} x ${ms(m.plainToken)}), ` +
      `four beams ${(m.beams / m.greedy).toFixed(2)}x greedy`,
  );
  console.log(
    `${m.backend}: loading ${m.load.weights} MB of weights took ${ms(m.load.time)} and peaked at ${m.load.peak} MB ` +
      `beyond the start (weights + ${m.load.peak - m.load.weights} MB; largest tensor ${m.load.largest} MB)`,
  );
}
