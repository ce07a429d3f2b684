import type { Tensor4D } from '@tensorflow/tfjs-core';
import { getBackend, randomUniform, removeBackend, setBackend } from '@tensorflow/tfjs-core';
import type { WeightFormat } from 'tfjs-backend-simd';
import { type Limits, startLimits } from '../packages/tfjs-backend-simd/bench/limits.js';
import { generatedStore } from '../src/checkpoint/generated-weights.js';
import type { Git } from '../src/index.js';
import {
  encodeImage,
  generate,
  gitSpec,
  imageFeatures,
  parseGitConfig,
  plainForward,
  prefillImage,
  startSession,
} from '../src/index.js';
import { disposeCache, disposeGit } from '../src/model/git.js';
import { loadGitParams } from '../src/model/load-git.js';
import type { Stage, Work } from './stage-work.js';
import { stageWork } from './stage-work.js';
import { ENDLESS_RECIPE, median, timeTogether, wordsOf } from './support.js';

export interface StageTime {
  /** Milliseconds. */
  readonly took: number;
  readonly work: Work;
}

export interface Measured {
  readonly backend: string;
  readonly stages: Readonly<Record<Stage, StageTime>>;
  /** What the machine can do on one thread, measured in turns with the stages. Multiply-adds in registers, GFLOP/s: of floats, for int8 and int8-fast of 16-bit numbers. */
  readonly peak: number;
  /** Reading memory, GB/s. */
  readonly read: number;
  /** Milliseconds of one token without any cache. */
  readonly plainToken: number;
}

const size = (hidden: number, layers: number, heads: number) => ({
  ...{ hidden_size: hidden, num_hidden_layers: layers, num_attention_heads: heads, intermediate_size: 4 * hidden },
});
export const SIZES: Readonly<Record<string, { vocab_size: number; text: object; vision: object }>> = {
  base: { vocab_size: 30522, text: size(768, 6, 12), vision: size(768, 12, 12) },
  tiny: { vocab_size: 1000, text: size(96, 2, 4), vision: size(96, 2, 4) },
};

/** What is measured, and how. */
export interface ModelOptions {
  readonly runs: number;
  readonly tokens: number;
  readonly size: string;
  /** Pixels of a side of the image, and of those that the model was trained with. */
  readonly side: number;
  /** Time by the clock instead of CPU time. */
  readonly clock: boolean;
  /** How linear weights are kept; only on simd. */
  readonly format?: WeightFormat;
}

/** Measures one model on the current backend. */
export async function measureModel(options: ModelOptions): Promise<Measured> {
  const { side, format, tokens } = options;
  const { vocab_size, text, vision } = SIZES[options.size] ?? SIZES['base']!;
  const config = parseGitConfig({
    ...{ model_type: 'git', vocab_size, ...text },
    vision_config: { ...vision, image_size: side, patch_size: 16 },
  });
  const current = getBackend();
  const limits = await startLimits(false, 'limits');
  await setBackend(current);
  const params = await loadGitParams(config, generatedStore(gitSpec(config), ENDLESS_RECIPE), 'generated', {
    weights: format,
  });
  const git = { config, params };
  const pixels = randomUniform([1, side, side, 3], -2, 2, 'float32', 7) as Tensor4D;
  try {
    const work = stageWork(config, side, tokens, format);
    const measured = await measureStages(git, pixels, options, limits, work);
    return { backend: format === undefined ? current : `${current} ${format}`, ...measured };
  } finally {
    pixels.dispose();
    disposeGit(git);
    removeBackend('limits');
  }
}

async function measureStages(
  git: Git,
  pixels: Tensor4D,
  { runs, tokens, clock, format }: ModelOptions,
  limits: Limits,
  work: Readonly<Record<Stage, Work>>,
): Promise<Omit<Measured, 'backend'>> {
  const { config } = git;
  const features = imageFeatures(git, pixels);
  const image = prefillImage(git, features);
  const top = format === 'int8' || format === 'int8-fast' ? limits.dots : limits.peak;
  const peaks = () => Array.from({ length: 12 }, () => top.run());
  const [peakTimes, readTimes]: [number[], number[]] = [[], []];
  /** In turns with the machine's limits, each for as long as its clock needs. */
  const beside = async (stage: Stage, times: number, body: () => Promise<unknown>): Promise<StageTime> => {
    const [took, peak, read] = await timeTogether(times, [body, peaks, limits.read.run], clock);
    peakTimes.push(...peak!);
    readTimes.push(...read!);
    return { took: median(took!), work: work[stage] };
  };
  const step = async (stage: Stage, rows: number) => {
    const session = startSession(git, image);
    await session.step([[config.bosTokenId]]);
    session.reorder(new Array<number>(rows).fill(0));
    const result = await beside(stage, runs * 4, () => session.step(Array.from({ length: rows }, (_, r) => [200 + r])));
    session.dispose();
    return result;
  };
  const vocabulary = { size: config.vocabSize, bosId: config.bosTokenId, eosIds: config.eosTokenIds };
  const caption = (stage: Stage, strategy: 'greedy' | 'original') =>
    beside(stage, Math.max(1, runs - 1), async () => {
      const own = encodeImage(git, pixels);
      const found = await generate(() => startSession(git, own), vocabulary, { strategy, maxNewTokens: tokens });
      wordsOf(found, tokens);
      disposeCache(own);
    });
  const stages = {
    encode: await beside('encode', runs, async () => {
      const made = imageFeatures(git, pixels);
      await made.data();
      made.dispose();
    }),
    prefill: await beside('prefill', runs, async () => {
      const made = prefillImage(git, features);
      await made.at(-1)!.value.data();
      disposeCache(made);
    }),
    step: await step('step', 1),
    beamStep: await step('beamStep', 4),
    greedy: await caption('greedy', 'greedy'),
    beams: await caption('beams', 'original'),
  };
  const words = Array.from({ length: Math.ceil(tokens / 2) }, (_, t) => 200 + t);
  const plain = async () => {
    const logits = plainForward(git, pixels, [words]);
    await logits.data();
    logits.dispose();
  };
  const [plainToken] = await timeTogether(1, [plain], clock);
  features.dispose();
  disposeCache(image);
  const [peak, read] = [(12 * top.work) / median(peakTimes) / 1e6, limits.read.work / median(readTimes) / 1e6];
  return { stages, peak, read, plainToken: median(plainToken!) };
}
