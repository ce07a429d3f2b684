import { type ChildProcess, execFile, fork } from 'node:child_process';
import { access, constants, lstat, readdir, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { availableParallelism, freemem, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { randomUniform, type Tensor4D } from '@tensorflow/tfjs-core';
import { randomParams } from '../checkpoint/generated-weights.js';
import { type EnvironmentVariables, endpointFrom, hubCache, isOffline } from '../hub/environment.js';
import { nodeTransport } from '../hub/node-transport.js';
import { eventSink } from '../load-events.js';
import { disposeCache, disposeGit, encodeImage, gitSpec } from '../model/git.js';
import { parseGitConfig } from '../model/git-config.js';
import { startSession } from '../model/git-session.js';
import { startBackend } from '../platform/node.js';
import { NODE_BACKENDS, type NodeBackend, quietTensorflow } from '../platform/start-backend.js';
import { freeBytes, megabytes } from './convert.js';

/** What a backend made of a small model, beside the cpu backend. */
export interface SelfTest {
  /** Its name in tfjs. */
  readonly tfjsName: string;
  /** Largest difference of a logit from the cpu backend's. */
  readonly largestDifference: number;
  /** Of the second forward; the first compiles. */
  readonly milliseconds: number;
}

/** Every kind of layer and no more numbers than a backend needs to show that it can count. */
const CONFIG = parseGitConfig({
  model_type: 'git',
  ...{ vocab_size: 200, hidden_size: 48, num_hidden_layers: 2, num_attention_heads: 4, intermediate_size: 96 },
  ...{ max_position_embeddings: 32, bos_token_id: 1, eos_token_id: 2 },
  vision_config: {
    ...{
      hidden_size: 40,
      num_hidden_layers: 2,
      num_attention_heads: 4,
      intermediate_size: 80,
      image_size: 32,
      patch_size: 8,
    },
  },
});
const SEED = 5;

/**
 * Runs a small random model on a backend and on the cpu backend. It changes the current backend of the process.
 *
 * @throws BackendError as `startBackend`, and whatever a backend throws when it computes.
 */
export async function selfTest(name: NodeBackend): Promise<SelfTest> {
  quietTensorflow();
  await startBackend('cpu');
  const expected = await forward();
  const tfjsName = await startBackend(name);
  await forward();
  const start = performance.now();
  const got = await forward();
  const milliseconds = performance.now() - start;
  const largestDifference = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - got[i]!)), 0);
  return { tfjsName, largestDifference, milliseconds };
}

/** Logits after two steps over a random image. */
async function forward(): Promise<Float32Array> {
  const git = { config: CONFIG, params: randomParams(gitSpec(CONFIG), SEED) };
  const side = CONFIG.vision.imageSize;
  const pixels = randomUniform([1, side, side, 3], -2, 2, 'float32', SEED) as Tensor4D;
  const image = encodeImage(git, pixels);
  const session = startSession(git, image);
  try {
    await session.step([[1, 17, 101]]);
    return (await session.step([[33]]))[0]!.slice();
  } finally {
    session.dispose();
    disposeCache(image);
    pixels.dispose();
    disposeGit(git);
  }
}

/** What one backend can do here. */
export interface BackendHealth {
  readonly name: NodeBackend;
  /** `missing`: its package is not installed; `wrong`: it computes something else than the cpu backend; `unfinished`: no answer in time. */
  readonly state: 'works' | 'missing' | 'fails' | 'wrong' | 'unfinished';
  readonly test?: SelfTest;
  /** Why it does not work, and what to do. */
  readonly detail?: string;
}

/** Two float32 programs differ by far less on a model that small; another precision or a broken driver by far more. */
const TOLERANCE = 1e-2;
const EXACT = 1e-4;

interface Answer {
  readonly result?: SelfTest;
  readonly failure?: { readonly code: string; readonly message: string };
}

const STATES: Readonly<Record<string, BackendHealth['state']>> = {
  'backend-not-installed': 'missing',
  late: 'unfinished',
};

/** Native packages: a broken one may end its process. */
const NATIVE: Readonly<Partial<Record<NodeBackend, string>>> = {
  ...{ webgpu: 'webgpu', node: '@tensorflow/tfjs-node', 'node-gpu': '@tensorflow/tfjs-node-gpu' },
};

function isInstalled(name: string): boolean {
  try {
    createRequire(import.meta.url).resolve(name);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND';
  }
}

/**
 * Tries backends side by side: each native one that is installed in a process of its own, all others one after the other in one more, in
 * the order given. Never throws.
 */
async function tryBackends(
  names: readonly NodeBackend[],
  timeoutOf: (name: NodeBackend) => number,
  signal?: AbortSignal,
): Promise<BackendHealth[]> {
  const native = names.filter((name) => NATIVE[name] !== undefined && isInstalled(NATIVE[name]!));
  const shared = names.filter((name) => !native.includes(name));
  const found = new Map<NodeBackend, BackendHealth>();
  const groups = [shared, ...native.map((name) => [name])].filter(({ length }) => length > 0);
  await Promise.all(
    groups.map(async (group) => {
      const answers = await answersOf(group, timeoutOf, signal);
      for (const [i, name] of group.entries()) found.set(name, healthOf(name, answers[i]!));
    }),
  );
  return names.map((name) => found.get(name)!);
}

function healthOf(name: NodeBackend, { result, failure }: Answer): BackendHealth {
  if (failure !== undefined) return { name, state: STATES[failure.code] ?? 'fails', detail: failure.message };
  const { largestDifference } = result!;
  if (!(largestDifference <= TOLERANCE)) {
    return {
      name,
      state: 'wrong',
      test: result!,
      detail: `its logits are ${largestDifference.toPrecision(2)} off: do not use it`,
    };
  }
  if (largestDifference <= EXACT) return { name, state: 'works', test: result! };
  return { name, state: 'works', test: result!, detail: 'it computes with less than float32 precision' };
}

/**
 * What one process makes of backends, one after the other. The time of each begins with its turn; one that is late holds up all behind it.
 * The process ends with the last answer.
 */
function answersOf(
  names: readonly NodeBackend[],
  timeoutOf: (name: NodeBackend) => number,
  signal: AbortSignal | undefined,
): Promise<Answer[]> {
  const file = fileURLToPath(
    new URL(`./self-test-child${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url),
  );
  return new Promise((resolve) => {
    const answers = new Map<NodeBackend, Answer>();
    let timer: NodeJS.Timeout | undefined;
    let child: ChildProcess | undefined;
    const settle = (name: NodeBackend, answer: Answer) => {
      if (!answers.has(name)) answers.set(name, answer);
      clearTimeout(timer);
      if (answers.size < names.length) {
        wait(names[answers.size]!);
        return;
      }
      child?.kill();
      resolve(names.map((each) => answers.get(each)!));
    };
    const fail = (message: string, code = 'failed') => {
      for (const name of names) settle(name, { failure: { code, message } });
    };
    const wait = (name: NodeBackend) => {
      const timeout = timeoutOf(name);
      timer = setTimeout(() => fail(`no answer in ${timeout / 1000} s`, 'late'), timeout);
    };
    let words = '';
    try {
      child = fork(file, [...names], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'], signal });
      child.stderr?.on('data', (piece: Buffer) => {
        words = (words + piece.toString()).slice(-2000);
      });
      child.on('message', ({ name, ...answer }: Answer & { name: NodeBackend }) => settle(name, answer));
      child.on('error', (error) => fail(error.message));
      child.on('exit', (code, killer) => fail(`its process ended with ${killer ?? code}${lastLine(words)}`));
      wait(names[0]!);
    } catch (error) {
      fail((error as Error).message);
    }
  });
}

function lastLine(words: string): string {
  const line =
    words
      .trim()
      .split(/[\r\n]+/)
      .at(-1) ?? '';
  return line === '' ? '' : `: ${line.slice(0, 200)}`;
}

export interface DoctorOptions {
  /** Instead of `process.env`. */
  readonly env?: EnvironmentVariables | undefined;
  /** Which backends to try. Default: all that Node's entry point can start. */
  readonly backends?: readonly NodeBackend[] | undefined;
  /** Most milliseconds for each backend. Default 2,500, and a minute for the one that everything depends on, the default. */
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Receives which backend is being tried. */
  readonly onBackend?: ((name: NodeBackend) => void) | undefined;
}

/** What is wrong, and what to do about it. */
export interface Problem {
  readonly what: string;
  readonly advice: string;
}

export interface DoctorReport {
  readonly machine: MachineFacts;
  readonly backends: readonly BackendHealth[];
  /** What `auto` starts, where it works. */
  readonly defaultBackend: string | undefined;
  readonly cache: CacheFacts;
  readonly hub: HubFacts;
  readonly environment: Readonly<Record<string, string>>;
  readonly ffmpeg: string | undefined;
  readonly problems: readonly Problem[];
  /** Can captions be made here? */
  readonly healthy: boolean;
}

/** Looks at everything that this library needs from the machine. Never throws; an abort shows as backends that fail. */
export async function runDoctor(options: DoctorOptions = {}): Promise<DoctorReport> {
  const { env = process.env, backends = NODE_BACKENDS, timeoutMs, signal } = options;
  const onBackend = options.onBackend && eventSink(options.onBackend);
  const hub = hubFacts(env, signal);
  const ffmpeg = programVersion('ffmpeg', signal);
  const names = [...new Set<NodeBackend>(['auto', ...backends])];
  for (const name of names) onBackend?.(name);
  const timeoutOf = (name: NodeBackend): number => timeoutMs ?? (name === 'auto' ? 60_000 : 2500);
  const [automatic, ...named] = await tryBackends(names, timeoutOf, signal);
  const facts = {
    machine: machineFacts(),
    backends: named,
    defaultBackend: automatic!.state === 'works' ? automatic!.test?.tfjsName : undefined,
    cache: await cacheFacts(env),
    hub: await hub,
    environment: environmentFacts(env),
    ffmpeg: await ffmpeg,
  };
  return { ...facts, problems: findProblems(facts, automatic!, env), healthy: facts.defaultBackend !== undefined };
}

const LEAST_NODE = [20, 19] as const;
const GIT_BASE_MEMORY = 2e9;
const GIT_BASE_DISK = 0.8e9;

type Facts = Omit<DoctorReport, 'problems' | 'healthy'>;

function findProblems(facts: Facts, automatic: BackendHealth, env: EnvironmentVariables): Problem[] {
  const { machine, cache, hub, backends, ffmpeg } = facts;
  const problems: Problem[] = [];
  const note = (wrong: boolean, what: string, advice: string) => {
    if (wrong) problems.push({ what, advice });
  };
  const [major = 0, minor = 0] = machine.node.split('.').map(Number);
  note(
    major < LEAST_NODE[0] || (major === LEAST_NODE[0] && minor < LEAST_NODE[1]),
    `Node ${machine.node} is older than ${LEAST_NODE.join('.')}`,
    'install a newer one from nodejs.org',
  );
  note(
    automatic.state !== 'works',
    `no backend works: ${automatic.detail}`,
    'reinstall the package: npm install generative-image2text',
  );
  for (const { name, state, detail } of backends) {
    note(
      state === 'fails',
      `backend ${name} is installed and does not work: ${detail}`,
      ADVICE[name] ?? 'use another backend',
    );
    note(state === 'wrong', `backend ${name} computes wrongly: ${detail}`, 'update the driver, or use another backend');
  }
  note(
    machine.memory < GIT_BASE_MEMORY,
    `${megabytes(machine.memory)} of memory`,
    'a git-base needs about 2 GB; convert it to int8 for a smaller file, or raise the limit of the container',
  );
  note(!cache.writable, `the cache ${cache.folder} cannot be written`, 'name another folder in HF_HUB_CACHE');
  note(
    cache.freeDisk !== undefined && cache.freeDisk < GIT_BASE_DISK,
    `${megabytes(cache.freeDisk ?? 0)} are free where the cache is`,
    'a git-base has 707 MB, a git-large 1.58 GB: make room, or name another folder in HF_HUB_CACHE',
  );
  note(
    hub.state === 'no answer',
    `the Hub at ${hub.endpoint} does not answer: ${hub.detail}`,
    'models that are in the cache, in a folder, or the demo work all the same; behind a proxy set HTTPS_PROXY',
  );
  note(
    isOffline(env),
    'HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set',
    'nothing is downloaded; unset it to fetch models',
  );
  note(
    ffmpeg === undefined,
    'ffmpeg is not installed',
    'only video files need it; GIFs and folders of frames do without',
  );
  return problems;
}

const ADVICE: Readonly<Partial<Record<NodeBackend, string>>> = {
  webgpu: 'it needs a Vulkan, Metal or Direct3D 12 driver; VK_DRIVER_FILES can name one of software',
  node: 'tfjs-node is fetched and built while it is installed: npm rebuild @tensorflow/tfjs-node --build-addon-from-source',
  'node-gpu': 'it needs CUDA 11.2 and cuDNN 8.1 besides the package',
};

/** What `doctor` looks at besides the backends. Nothing here throws. */

export interface MachineFacts {
  readonly node: string;
  readonly platform: string;
  readonly cores: number;
  /** Bytes that this process may use in all: the machine's, or less in a container. */
  readonly memory: number;
  readonly freeMemory: number;
}

export function machineFacts(): MachineFacts {
  const limit = process.constrainedMemory?.() ?? 0;
  const memory = limit > 0 && limit < totalmem() ? limit : totalmem();
  return {
    node: process.versions.node,
    platform: `${process.platform} ${process.arch}`,
    cores: availableParallelism(),
    memory,
    freeMemory: Math.min(freemem(), memory),
  };
}

/** The folder that downloads go to. */
export interface CacheFacts {
  readonly folder: string;
  /** Models in it, and the bytes of their files. */
  readonly models: number;
  readonly bytes: number;
  readonly writable: boolean;
  readonly freeDisk: number | undefined;
}

export async function cacheFacts(env: EnvironmentVariables): Promise<CacheFacts> {
  const folder = hubCache(env);
  const names = (await readdir(folder).catch(() => [])).filter((name) => name.startsWith('models--'));
  let bytes = 0;
  for (const name of names) bytes += await sizeBelow(join(folder, name));
  const existing = await existingAbove(folder);
  const writable = await access(existing, constants.W_OK).then(
    () => true,
    () => false,
  );
  return { folder, models: names.length, bytes, writable, freeDisk: await freeBytes(existing) };
}

/** Whether models can be fetched. */
export interface HubFacts {
  readonly endpoint: string;
  readonly state: 'answers' | 'no answer' | 'offline';
  /** Why there is no answer. */
  readonly detail?: string;
}

const HUB_TIMEOUT_MS = 2000;

async function hubFacts(env: EnvironmentVariables, signal: AbortSignal | undefined): Promise<HubFacts> {
  let endpoint = env['HF_ENDPOINT'] ?? '';
  if (isOffline(env)) return { endpoint, state: 'offline' };
  const transport = nodeTransport(env);
  const timeout = AbortSignal.timeout(HUB_TIMEOUT_MS);
  try {
    endpoint = endpointFrom(env, undefined);
    const { status, body } = await transport.fetch(`${endpoint}/api/models/microsoft/git-base`, {
      method: 'HEAD',
      headers: {},
      redirect: 'follow',
      signal: signal === undefined ? timeout : AbortSignal.any([timeout, signal]),
    });
    await body?.cancel();
    return status < 500 ? { endpoint, state: 'answers' } : { endpoint, state: 'no answer', detail: `HTTP ${status}` };
  } catch (error) {
    const cause = (error as Error).cause ?? error;
    const detail = timeout.aborted ? `not within ${HUB_TIMEOUT_MS / 1000} s` : (cause as Error).message;
    return { endpoint, state: 'no answer', detail };
  } finally {
    transport.close();
  }
}

/** Links are not followed: a cache names each blob once and points to it. */
async function sizeBelow(folder: string): Promise<number> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  let bytes = 0;
  for (const entry of entries) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) bytes += await sizeBelow(path);
    else if (entry.isFile())
      bytes += await lstat(path).then(
        ({ size }) => size,
        () => 0,
      );
  }
  return bytes;
}

async function existingAbove(path: string): Promise<string> {
  if (
    await stat(path).then(
      () => true,
      () => false,
    )
  )
    return path;
  const parent = dirname(path);
  return parent === path ? path : existingAbove(parent);
}

/** Variables that change what this library does, its dependencies included. */
const VARIABLES = [
  ...[
    'HF_HOME',
    'HF_HUB_CACHE',
    'HUGGINGFACE_HUB_CACHE',
    'XDG_CACHE_HOME',
    'HF_ENDPOINT',
    'HF_HUB_OFFLINE',
    'TRANSFORMERS_OFFLINE',
  ],
  ...[
    'HF_HUB_DISABLE_SYMLINKS',
    'HF_HUB_DISABLE_IMPLICIT_TOKEN',
    'HF_TOKEN',
    'HUGGING_FACE_HUB_TOKEN',
    'HF_TOKEN_PATH',
  ],
  ...['HTTPS_PROXY', 'HTTP_PROXY', 'ALL_PROXY', 'NO_PROXY', 'https_proxy', 'http_proxy', 'all_proxy', 'no_proxy'],
  ...[
    'NODE_OPTIONS',
    'NODE_EXTRA_CA_CERTS',
    'VK_DRIVER_FILES',
    'VK_ICD_FILENAMES',
    'CUDA_VISIBLE_DEVICES',
    'TF_NUM_INTRAOP_THREADS',
  ],
] as const;

/** Those that are set, secrets hidden. */
export function environmentFacts(env: EnvironmentVariables): Readonly<Record<string, string>> {
  const set = VARIABLES.filter((name) => env[name] !== undefined && env[name] !== '');
  return Object.fromEntries(set.map((name) => [name, /TOKEN$/.test(name) ? '(set)' : withoutPassword(env[name]!)]));
}

const withoutPassword = (text: string): string => text.replace(/\/\/[^/@]*@/g, '//***@');

/** The first line of `program -version`, or undefined where there is no such program. */
export function programVersion(program: string, signal?: AbortSignal): Promise<string | undefined> {
  return new Promise((resolve) => {
    try {
      const options = { timeout: 5000, ...(signal && { signal }) };
      execFile(program, ['-version'], options, (error, out) =>
        resolve(
          error === null ? out.split('\n')[0]!.trim() : error.killed ? `${program}, which did not answer` : undefined,
        ),
      );
    } catch {
      resolve(undefined); // an abort before it starts
    }
  });
}
