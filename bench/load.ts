/**
 * `node --import tsx bench/load.ts [--backends wasm,simd] [--runs 5] [--dtypes f32,f16,int8]`
 *
 * Loading a checkpoint of git-base's size (generated weights, written to a temporary folder) against reading its file and uploading
 * tensors of its sizes, run by run in turn in one process; and the most memory that loading takes, in a process of its own. Ratios count.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type Tensor, tensor } from '@tensorflow/tfjs-core';
import { generatedStore } from '../src/checkpoint/generated-weights.js';
import { turnedShape } from '../src/checkpoint/layout.js';
import { elementCount } from '../src/checkpoint/stored-tensor.js';
import { specEntries } from '../src/layers/param-spec.js';
import { disposeGit, gitSpec } from '../src/model/git.js';
import { parseGitConfig } from '../src/model/git-config.js';
import { countParameters, loadGit } from '../src/model/load-git.js';
import { fromDirectory, type NodeBackend, quietTensorflow, startBackend } from '../src/node.js';
import { type ConvertDtype, encodeTensor } from '../src/tools/encode-tensor.js';
import { writeWhole } from '../src/tools/files.js';
import { convertCheckpoint } from '../src/tools/index.js';
import { writeCheckpoint } from '../src/tools/write-safetensors.js';
import { machine, median, ms, table } from './support.js';

const CONFIG = { model_type: 'git' };
const SPEC = gitSpec(parseGitConfig(CONFIG));
const SHAPES = specEntries(SPEC).map(({ spec }) => turnedShape(spec.shape, spec.layout));
const LARGEST = Math.max(...SHAPES.map(elementCount));

const { values } = parseArgs({
  options: {
    backends: { type: 'string', default: 'wasm' },
    dtypes: { type: 'string', default: 'f32,f16,int8' },
    runs: { type: 'string', default: '5' },
    peak: { type: 'string' },
  },
});
quietTensorflow();
if (values.peak === undefined) await main();
else await measurePeak(values.peak, values.backends as NodeBackend);

async function main(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'image2text-bench-'));
  try {
    console.log(`${machine()}\nloading a git-base, medians of ${values.runs} runs\n`);
    const rows = [['', 'file', 'load', 'read + upload', 'ratio', 'peak beyond start', 'of the weights']];
    for (const dtype of values.dtypes.split(',') as ConvertDtype[]) {
      const place = await write(join(folder, dtype), dtype);
      for (const backend of values.backends.split(',')) rows.push(await measure(place, dtype, backend as NodeBackend));
    }
    console.log(table(rows));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The generated checkpoint as float32, and from that as what is asked for. */
async function write(place: string, dtype: ConvertDtype): Promise<string> {
  process.stderr.write(`writing ${dtype} …\n`);
  const plain = `${place}.source`;
  mkdirSync(plain);
  const store = generatedStore(SPEC);
  const groups = [...store.values()].map((stored) => encodeTensor(stored, 'f32', { flushed: 0 }));
  await writeCheckpoint(plain, groups, { metadata: { format: 'pt' } });
  await writeWhole(join(plain, 'config.json'), new TextEncoder().encode(JSON.stringify(CONFIG)));
  if (dtype === 'f32') return plain;
  await convertCheckpoint(plain, place, { dtype });
  rmSync(plain, { recursive: true });
  return place;
}

async function measure(place: string, dtype: string, backend: NodeBackend): Promise<string[]> {
  process.stderr.write(`measuring ${dtype} on ${backend} …\n`);
  await startBackend(backend);
  const file = join(place, 'model.safetensors');
  const [loads, floors]: [number[], number[]] = [[], []];
  for (let run = -1; run < Number(values.runs); run++) {
    const [load, floor] = [await timeLoad(place), await timeFloor(file)];
    if (run >= 0) {
      loads.push(load);
      floors.push(floor);
    }
  }
  const self = fileURLToPath(import.meta.url);
  const child = spawnSync(process.execPath, ['--import', 'tsx', self, '--peak', place, '--backends', backend]);
  const peak = Number(child.stdout);
  const weights = 4 * countParameters(parseGitConfig(CONFIG));
  const ratio = median(loads.map((load, run) => load / floors[run]!));
  return [
    `${dtype} on ${backend}`,
    ...[`${(statSync(file).size / 1e6).toFixed(1)} MB`, ms(median(loads)), ms(median(floors)), `${ratio.toFixed(2)}x`],
    ...[`${(peak / 1e6).toFixed(0)} MB`, `${(peak / weights).toFixed(2)}x`],
  ];
}

async function timeLoad(place: string): Promise<number> {
  const start = performance.now();
  const git = await loadGit(await fromDirectory(place));
  const took = performance.now() - start;
  disposeGit(git);
  return took;
}

/** The file into memory as a whole, and tensors of the model's shapes from memory to the backend. */
async function timeFloor(file: string): Promise<number> {
  const source = new Float32Array(LARGEST).fill(0.5);
  const made: Tensor[] = [];
  const start = performance.now();
  const bytes = await readFile(file);
  for (const shape of SHAPES) made.push(tensor(source.subarray(0, elementCount(shape)), shape, 'float32'));
  const took = performance.now() - start;
  for (const each of made) each.dispose();
  if (bytes.length === 0) throw new Error('nothing was read');
  return took;
}

/** Prints how far loading drives the memory of this process beyond where it stood before, in bytes. */
async function measurePeak(place: string, backend: NodeBackend): Promise<void> {
  await startBackend(backend);
  tensor([1, 2, 3]).dispose();
  const start = process.memoryUsage().rss;
  const git = await loadGit(await fromDirectory(place));
  console.log(process.resourceUsage().maxRSS * 1024 - start);
  disposeGit(git);
}
