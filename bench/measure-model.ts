import type { Tensor4D } from '@tensorflow/tfjs-core';
import { getBackend, randomUniform } from '@tensorflow/tfjs-core';
import type { WeightFormat } from '../src/backend/index.js';
import { GIT_BASE_RECIPE, generatedStore } from '../src/checkpoint/generated-weights.js';
import { generate } from '../src/generation/generate.js';
import type { Git, GitConfig } from '../src/index.js';
import {
  encodeImage,
  gitSpec,
  imageFeatures,
  parseGitConfig,
  plainForward,
  prefillImage,
  startSession,
} from '../src/index.js';
import { specEntries } from '../src/layers/param-spec.js';
import { disposeGit } from '../src/model/git.js';
import { disposeCache } from '../src/model/kv-cache.js';
import { countParameters, loadGitParams } from '../src/model/load-git.js';
import { time } from './support.js';

/** Milliseconds; megabytes under `load`. */
export interface Measured {
  readonly backend: string;
  readonly encode: number;
  readonly prefill: number;
  readonly step: number;
  readonly beamStep: number;
  readonly greedy: number;
  readonly beams: number;
  readonly plainToken: number;
  readonly load: { readonly weights: number; readonly largest: number; readonly peak: number; readonly time: number };
}

const SIZES: Readonly<Record<string, object>> = {
  base: { model_type: 'git' },
  tiny: {
    model_type: 'git',
    ...{ hidden_size: 96, num_hidden_layers: 2, num_attention_heads: 4, intermediate_size: 192, vocab_size: 1000 },
    vision_config: {
      hidden_size: 96,
      num_hidden_layers: 2,
      num_attention_heads: 4,
      intermediate_size: 192,
      image_size: 96,
    },
  },
};

/** What is measured, and how. */
export interface ModelOptions {
  readonly runs: number;
  readonly tokens: number;
  readonly size: string;
  /** Time by the clock instead of CPU time. */
  readonly clock: boolean;
  /** How linear weights are kept; only on simd. */
  readonly format?: WeightFormat;
}

/** Measures one model on the current backend. */
export async function measureModel(options: ModelOptions): Promise<Measured> {
  const config = parseGitConfig(SIZES[options.size] ?? SIZES['base']);
  const { git, load } = await measureLoad(config, options.format);
  const side = config.vision.imageSize;
  const pixels = randomUniform([1, side, side, 3], -2, 2, 'float32', 7) as Tensor4D;
  try {
    const backend = options.format === undefined ? getBackend() : `${getBackend()} ${options.format}`;
    return { backend, load, ...(await measurePhases(git, pixels, options)) };
  } finally {
    pixels.dispose();
    disposeGit(git);
  }
}

/** Loads generated weights tensor by tensor and watches the memory of the process. */
async function measureLoad(
  config: GitConfig,
  format: WeightFormat | undefined,
): Promise<{ git: Git; load: Measured['load'] }> {
  const megabytes = (bytes: number) => Math.round(bytes / 1e6);
  const largest = Math.max(...specEntries(gitSpec(config)).map(({ spec }) => spec.shape.reduce((a, b) => a * b, 4)));
  const store = generatedStore(gitSpec(config), GIT_BASE_RECIPE);
  globalThis.gc?.();
  const start = process.memoryUsage().rss;
  let peak = 0;
  const watch = () => {
    peak = Math.max(peak, process.memoryUsage().rss - start);
  };
  const timer = setInterval(watch, 5);
  const began = process.cpuUsage();
  const params = await loadGitParams(config, store, 'generated', { onProgress: watch, weights: format });
  const { user, system } = process.cpuUsage(began);
  const took = (user + system) / 1000;
  clearInterval(timer);
  const load = {
    weights: megabytes(4 * countParameters(config)),
    largest: megabytes(largest),
    peak: megabytes(peak),
    time: took,
  };
  return { git: { config, params }, load };
}

async function measurePhases(
  git: Git,
  pixels: Tensor4D,
  { runs, tokens, clock }: ModelOptions,
): Promise<Omit<Measured, 'backend' | 'load'>> {
  const { config } = git;
  const vocabulary = { size: config.vocabSize, bosId: config.bosTokenId, eosId: config.eosTokenId };
  const features = imageFeatures(git, pixels);
  const image = prefillImage(git, features);
  const encode = await time(
    runs,
    async () => {
      const made = imageFeatures(git, pixels);
      await made.data();
      made.dispose();
    },
    clock,
  );
  const prefill = await time(
    runs,
    async () => {
      const made = prefillImage(git, features);
      await made.at(-1)!.value.data();
      disposeCache(made);
    },
    clock,
  );
  const stepTime = async (rows: number) => {
    const session = startSession(git, image);
    await session.step([[config.bosTokenId]]);
    session.reorder(new Array<number>(rows).fill(0));
    const took = await time(runs * 4, () => session.step(Array.from({ length: rows }, (_, r) => [200 + r])), clock);
    session.dispose();
    return took;
  };
  // Exactly `tokens` words, however the generated weights would end a sentence.
  const length = { maxNewTokens: tokens, minNewTokens: tokens } as const;
  const caption = (strategy: 'greedy' | 'original') =>
    time(
      Math.max(1, runs - 1),
      async () => {
        const own = encodeImage(git, pixels);
        await generate(() => startSession(git, own), vocabulary, { strategy, ...length });
        disposeCache(own);
      },
      clock,
    );
  const plainToken = await time(
    1,
    async () => {
      const logits = plainForward(git, pixels, [Array.from({ length: Math.ceil(tokens / 2) }, (_, t) => 200 + t)]);
      await logits.data();
      logits.dispose();
    },
    clock,
  );
  const result = {
    encode,
    prefill,
    step: await stepTime(1),
    beamStep: await stepTime(4),
    greedy: await caption('greedy'),
    beams: await caption('original'),
    plainToken,
  };
  features.dispose();
  disposeCache(image);
  return result;
}
