/**
 * `npm run soak -- [--captions 10000] [--formats f32,bf16,int8] [--threads 1,2]`
 *
 * Captions of the demo model in one process, on images that all differ: greedy, beams, samples, questions, several at once, and some
 * that are called off half way. Prints what the process holds after each tenth, and ends with 1 where something grows: tensors, our own
 * WebAssembly memory, JavaScript's heap after a collection, threads, or the memory of the process.
 */

import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import * as tf from '@tensorflow/tfjs-core';
import { registerSimdBackend, type SimdBackend, setThreads, type WeightFormat } from 'tfjs-backend-simd';
import { loadImage2Text, type RgbImage } from '../src/node.js';
import { machine } from './support.js';

const { values } = parseArgs({
  options: {
    captions: { type: 'string', default: '10000' },
    formats: { type: 'string', default: 'f32,bf16,int8' },
    threads: { type: 'string', default: '1,2' },
  },
});
const DEMO = new URL('../weights/demo/', import.meta.url).pathname;
const captions = Number(values.captions);

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** An image of its own for every turn. */
function drawImage(turn: number): RgbImage {
  const [width, height] = [24 + (turn % 41), 24 + (turn % 29)];
  const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => Math.imul(i + 7, turn + 13) >>> 5);
  return { data, width, height };
}

type Model = Awaited<ReturnType<typeof loadImage2Text>>;

/** One turn, of ten kinds. */
async function caption(model: Model, turn: number): Promise<void> {
  const image = drawImage(turn);
  const short = { maxNewTokens: 3 + (turn % 5) };
  switch (turn % 10) {
    case 1:
      await model.caption(image, { ...short, strategy: 'original' });
      return;
    case 3:
      await model.caption(image, { ...short, strategy: 'beam', numBeams: 3 });
      return;
    case 5:
      await model.answer(image, 'what is it ?', short);
      return;
    case 7:
      await Promise.all([model.caption(image, short), model.caption(drawImage(turn + 1), short)]);
      return;
    case 9: {
      const stop = new AbortController();
      const said = model.caption(image, { ...short, signal: stop.signal });
      setTimeout(() => stop.abort(), turn % 4);
      await said.catch(() => undefined);
      return;
    }
    default:
      await model.caption(image, { ...short, strategy: 'greedy' });
  }
}

interface Look {
  readonly tensors: number;
  readonly data: number;
  readonly used: number;
  readonly size: number;
  readonly heap: number;
  readonly rss: number;
  readonly resources: number;
}

function look(): Look {
  collect();
  collect();
  const backend = tf.backend() as SimdBackend;
  const { heapUsed: heap, rss } = process.memoryUsage();
  const resources = process.getActiveResourcesInfo().length;
  return { tensors: tf.memory().numTensors, data: backend.numDataIds(), ...backend.heap.stats(), heap, rss, resources };
}

/** Rise per 1,000 captions of the straight line that fits best, in bytes. */
function slope(points: readonly (readonly [number, number])[]): number {
  const mean = (pick: (p: readonly [number, number]) => number) =>
    points.reduce((s, p) => s + pick(p), 0) / points.length;
  const [x, y] = [mean(([a]) => a), mean(([, b]) => b)];
  const [xy, xx] = [mean(([a, b]) => (a - x) * (b - y)), mean(([a]) => (a - x) ** 2)];
  return xx > 0 ? (1000 * xy) / xx : 0;
}

const megabytes = (bytes: number) => (bytes / 1e6).toFixed(2);

/** One model through all its captions; returns what grew. */
async function soak(format: WeightFormat, threads: number): Promise<string[]> {
  const model = await loadImage2Text(DEMO, { weights: format });
  setThreads(threads);
  const looks: [number, Look][] = [];
  const began = performance.now();
  const first = Math.min(500, captions / 10);
  for (let turn = 0; turn < first; turn++) await caption(model, turn);
  looks.push([0, look()]);
  for (let turn = 1; turn <= captions; turn++) {
    await caption(model, turn);
    if (turn % Math.ceil(captions / 10) === 0 || turn === captions) looks.push([turn, look()]);
  }
  model.dispose();
  const [start, end] = [looks[0]![1], looks.at(-1)![1]];
  const rise = (pick: (l: Look) => number) => slope(looks.map(([turn, one]) => [turn, pick(one)]));
  const [heap, rss] = [rise((l) => l.heap), rise((l) => l.rss)];
  console.log(
    `${format}, ${threads} thread${threads > 1 ? 's' : ''}: ${captions} captions in ${((performance.now() - began) / 1000).toFixed(0)} s; ` +
      `tensors ${start.tensors} -> ${end.tensors}, data ${start.data} -> ${end.data}, in use ${megabytes(start.used)} -> ${megabytes(end.used)} MB ` +
      `of ${megabytes(start.size)} -> ${megabytes(end.size)} MB; JavaScript ${megabytes(start.heap)} -> ${megabytes(end.heap)} MB ` +
      `(${megabytes(heap)} MB in 1,000), process ${megabytes(start.rss)} -> ${megabytes(end.rss)} MB (${megabytes(rss)} MB in 1,000), ` +
      `open ${start.resources} -> ${end.resources}`,
  );
  const grown: readonly (readonly [string, boolean])[] = [
    ['tensors', end.tensors !== start.tensors || end.data !== start.data],
    ['bytes in use', end.used !== start.used],
    ['WebAssembly memory', end.size - start.size > (threads > 1 ? 32 : 0) * 2 ** 20],
    ["JavaScript's heap", heap * (captions / 1000) > 4e6],
    ['the process', rss * (captions / 1000) > 40e6],
    ['open resources', end.resources > start.resources],
  ];
  return grown.filter(([, did]) => did).map(([what]) => `${format}, ${threads} threads: ${what}`);
}

registerSimdBackend();
await tf.setBackend('simd');
console.log(machine());
const faults: string[] = [];
for (const format of values.formats.split(',') as WeightFormat[]) {
  for (const threads of values.threads.split(',').map(Number)) faults.push(...(await soak(format, threads)));
}
for (const fault of faults) console.error(`grows: ${fault}`);
process.exitCode = faults.length > 0 ? 1 : 0;
