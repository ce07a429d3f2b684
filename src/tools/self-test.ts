import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { randomUniform, type Tensor4D } from '@tensorflow/tfjs-core';
import { randomParams } from '../checkpoint/generated-weights.js';
import { disposeGit, encodeImage, gitSpec } from '../model/git.js';
import { parseGitConfig } from '../model/git-config.js';
import { startSession } from '../model/git-session.js';
import { disposeCache } from '../model/kv-cache.js';
import { startBackend } from '../platform/node.js';
import { type NodeBackend, quietTensorflow } from '../platform/start-backend.js';

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

/** Tries a backend in a process of its own, since a native library that is broken may end the process. Never throws. */
export async function tryBackend(name: NodeBackend, timeoutMs: number, signal?: AbortSignal): Promise<BackendHealth> {
  const { result, failure } = await answerOf(name, timeoutMs, signal);
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

function answerOf(name: NodeBackend, timeoutMs: number, signal: AbortSignal | undefined): Promise<Answer> {
  const file = fileURLToPath(
    new URL(`./self-test-child${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url),
  );
  return new Promise((resolve) => {
    const fail = (message: string, code = 'failed') => resolve({ failure: { code, message } });
    let words = '';
    try {
      const child = fork(file, [name], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'], timeout: timeoutMs, signal });
      child.stderr?.on('data', (piece: Buffer) => {
        words = (words + piece.toString()).slice(-2000);
      });
      child.on('message', (answer) => resolve(answer as Answer));
      child.on('error', (error) => fail(error.message));
      child.on('exit', (code, killer) => {
        if (killer === 'SIGTERM') fail(`no answer in ${timeoutMs / 1000} s`, 'late');
        else fail(`its process ended with ${killer ?? code}${lastLine(words)}`);
      });
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
