/**
 * `node --import tsx bench/load.ts [--backends wasm,simd,simd:bf16,simd:int8] [--runs 5] [--dtypes f32,f16,int8] [--image-size 224]`
 *
 * Loading a checkpoint of git-base's size (generated weights, written to a temporary folder) against reading its file and uploading
 * tensors of its sizes, run by run in turn in one process; and the most memory that loading and a caption of 20 tokens take beyond the
 * weights as the backend keeps them, in a process of its own. Ratios count.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { memory, randomUniform, type Tensor, type Tensor4D, tensor } from '@tensorflow/tfjs-core';
import { type ConvertDtype, encodeTensor } from '../src/checkpoint/encode-tensor.js';
import { generatedStore } from '../src/checkpoint/generated-weights.js';
import { transposedShape } from '../src/checkpoint/layout.js';
import { elementCount } from '../src/checkpoint/stored-tensor.js';
import { generate, startSession, type WeightFormat } from '../src/index.js';
import { specEntries } from '../src/layers/param-spec.js';
import { disposeGit, encodeImage, gitSpec } from '../src/model/git.js';
import { parseGitConfig } from '../src/model/git-config.js';
import { countParameters, loadGit } from '../src/model/load-git.js';
import { fromDirectory, type NodeBackend, quietTensorflow, startBackend } from '../src/node.js';
import { writeWhole } from '../src/platform/write-whole.js';
import { writeCheckpoint } from '../src/tools/convert.js';
import { convertCheckpoint } from '../src/tools/index.js';
import { machine, median, ms, table } from './support.js';

const CONFIG = { model_type: 'git' };
const SPEC = gitSpec(parseGitConfig(CONFIG));
const SHAPES = specEntries(SPEC).map(({ spec }) => transposedShape(spec.shape, spec.layout));
/** Exactly so many words, however the generated weights would end a sentence. */
const LENGTH = { maxNewTokens: 20, minNewTokens: 20 } as const;
const LARGEST = Math.max(...SHAPES.map(elementCount));

const { values } = parseArgs({
  options: {
    backends: { type: 'string', default: 'wasm' },
    dtypes: { type: 'string', default: 'f32,f16,int8' },
    runs: { type: 'string', default: '5' },
    'image-size': { type: 'string', default: '224' },
    peak: { type: 'string' },
  },
});
quietTensorflow();
if (values.peak === undefined) await main();
else await measurePeaks(values.peak, values.backends);

async function main(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'image2text-bench-'));
  try {
    console.log(`${machine()}\nloading a git-base, medians of ${values.runs} runs\n`);
    const rows = [['', 'file', 'load', 'processor', 'read + upload', 'ratio', 'weights', 'loading', 'and a caption']];
    for (const dtype of values.dtypes.split(',') as ConvertDtype[]) {
      const path = await write(join(folder, dtype), dtype);
      for (const backend of values.backends.split(',')) rows.push(await measure(path, dtype, backend));
    }
    console.log(table(rows));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The generated checkpoint as float32, and from that as what is asked for. */
async function write(path: string, dtype: ConvertDtype): Promise<string> {
  process.stderr.write(`writing ${dtype} …\n`);
  const plain = `${path}.source`;
  mkdirSync(plain);
  const store = generatedStore(SPEC);
  const groups = [...store.values()].map((stored) => encodeTensor(stored, 'f32', { flushed: 0 }));
  await writeCheckpoint(plain, groups, { metadata: { format: 'pt' } });
  await writeWhole(join(plain, 'config.json'), new TextEncoder().encode(JSON.stringify(CONFIG)));
  if (dtype === 'f32') return plain;
  await convertCheckpoint(plain, path, { dtype });
  rmSync(plain, { recursive: true });
  return path;
}

/** `simd:bf16`: a backend, and how it keeps weights. */
function split(asked: string): [NodeBackend, WeightFormat?] {
  return asked.split(':') as [NodeBackend, WeightFormat?];
}

async function measure(path: string, dtype: string, asked: string): Promise<string[]> {
  process.stderr.write(`measuring ${dtype} on ${asked} …\n`);
  const [backend, weights] = split(asked);
  await startBackend(backend);
  const file = join(path, 'model.safetensors');
  const [loads, cpus, floors]: [number[], number[], number[]] = [[], [], []];
  for (let run = -1; run < Number(values.runs); run++) {
    const [load, floor] = [await timeLoad(path, weights), await timeFloor(file)];
    if (run < 0) continue;
    loads.push(load.clock);
    cpus.push(load.cpu);
    floors.push(floor);
  }
  const self = fileURLToPath(import.meta.url);
  const args = ['--peak', path, '--backends', asked, '--image-size', values['image-size']];
  const child = spawnSync(process.execPath, ['--import', 'tsx', self, ...args], { encoding: 'utf8' });
  const peaks = JSON.parse(child.stdout) as Peaks;
  const ratio = median(loads.map((load, run) => load / floors[run]!));
  const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(0)} MB`;
  return [
    `${dtype} on ${asked}`,
    ...[
      megabytes(statSync(file).size),
      ms(median(loads)),
      ms(median(cpus)),
      ms(median(floors)),
      `${ratio.toFixed(2)}x`,
    ],
    ...[megabytes(peaks.weights), `+ ${megabytes(peaks.load)}`, `+ ${megabytes(peaks.caption)}`],
  ];
}

async function timeLoad(path: string, weights?: WeightFormat): Promise<{ clock: number; cpu: number }> {
  const [start, began] = [performance.now(), process.cpuUsage()];
  const git = await loadGit(await fromDirectory(path), { weights });
  const { user, system } = process.cpuUsage(began);
  const clock = performance.now() - start;
  disposeGit(git);
  return { clock, cpu: (user + system) / 1000 };
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

/** Bytes of the weights in the backend's memory, and how far the process went beyond them and what it had before: to load, and after a caption. */
interface Peaks {
  readonly weights: number;
  readonly load: number;
  readonly caption: number;
}

/** The most memory that this process ever had. Linux's `maxRSS` counts what the parent had when it started this process: too much by far. */
function highestRss(): number {
  const status = existsSync('/proc/self/status') ? readFileSync('/proc/self/status', 'utf8') : '';
  const [, kibibytes] = /VmHWM:\s+(\d+) kB/.exec(status) ?? [];
  return 1024 * (kibibytes === undefined ? process.resourceUsage().maxRSS : Number(kibibytes));
}

/** Prints this process's `Peaks`. */
async function measurePeaks(path: string, asked: string): Promise<void> {
  const [backend, weights] = split(asked);
  await startBackend(backend);
  tensor([1, 2, 3]).dispose();
  const start = process.memoryUsage().rss;
  const highest = () => highestRss() - start;
  const git = await loadGit(await fromDirectory(path), { weights });
  const bytes = (memory() as { simdBytesInUse?: number }).simdBytesInUse ?? 4 * countParameters(git.config);
  const load = highest() - bytes;
  const side = Number(values['image-size']);
  const pixels = randomUniform([1, side, side, 3], -2, 2, 'float32', 7) as Tensor4D;
  const image = encodeImage(git, pixels);
  const { vocabSize: size, bosTokenId: bosId, eosTokenIds: eosIds } = git.config;
  await generate(() => startSession(git, image), { size, bosId, eosIds }, { strategy: 'greedy', ...LENGTH });
  console.log(JSON.stringify({ weights: bytes, load, caption: highest() - bytes } satisfies Peaks));
}
