import {
  add,
  addN,
  dispose,
  div,
  keep,
  mul,
  sqrt,
  square,
  sub,
  sum,
  type Tensor,
  tidy,
  zerosLike,
} from '@tensorflow/tfjs-core';
import { BackendError, OptionError } from '../errors.js';
import { runFused } from '../layers/fused-kernel.js';
import { type Git, namedParameters, withParameters } from '../model/git.js';
import { type LoraAdapter, mergeAdapter } from '../model/lora.js';
import { accumulateGradients, countLabels, type TrainingBatch, type VisionLoss } from './backward.js';
import { startGradients } from './gradients.js';
import { adapterParameters, withAdapterParameters } from './lora.js';

/** How the learning rate goes over the run, as Hugging Face's `get_scheduler` defines it. */
export type Schedule = 'constant' | 'linear' | 'cosine';

/**
 * The factor of the learning rate at a step, 0 for the first one while warming up: step/warmup, then constant, linear to 0 or half a cosine.
 */
export function scheduleFactor(schedule: Schedule, step: number, warmupSteps: number, steps: number): number {
  if (step < warmupSteps) return step / Math.max(1, warmupSteps);
  if (schedule === 'constant') return 1;
  const left = Math.max(1, steps - warmupSteps);
  if (schedule === 'linear') return Math.max(0, (steps - step) / left);
  return Math.max(0, 0.5 * (1 + Math.cos((Math.PI * (step - warmupSteps)) / left)));
}

/** What AdamW does with one parameter at one step. */
export interface ParameterRate {
  readonly learningRate: number;
  /** Decoupled: the parameter shrinks by learningRate · weightDecay. */
  readonly weightDecay: number;
}

export interface AdamWOptions {
  readonly betas: readonly [number, number];
  readonly epsilon: number;
}

/** First and second moments of one parameter. */
export interface Moments {
  readonly first: Tensor;
  readonly second: Tensor;
}

/** AdamW (Loshchilov and Hutter, arXiv 1711.05101) with bias correction, in the order of operations of torch.optim.AdamW. It owns its moments. */
export interface AdamW {
  /** How many updates there were. */
  readonly steps: number;
  readonly moments: ReadonlyMap<string, Moments>;
  /**
   * One update. Gives new tensors for the parameters that have a gradient and disposes of the old ones.
   *
   * @param scale multiplies every gradient first: the factor of clipping.
   */
  update(
    parameters: Map<string, Tensor>,
    gradients: ReadonlyMap<string, Tensor>,
    scale: number,
    rateOf: (name: string) => ParameterRate,
  ): void;
  /** Goes on from saved moments; takes the tensors over. */
  restore(steps: number, moments: ReadonlyMap<string, Moments>): void;
  dispose(): void;
}

export function createAdamW({ betas: [beta1, beta2], epsilon }: AdamWOptions): AdamW {
  const moments = new Map<string, Moments>();
  let steps = 0;
  const disposeMoments = (): void => {
    for (const { first, second } of moments.values()) dispose([first, second]);
    moments.clear();
  };
  return {
    get steps() {
      return steps;
    },
    moments,
    update(parameters, gradients, scale, rateOf) {
      steps++;
      for (const [name, gradient] of gradients) {
        const before = parameters.get(name)!;
        const old = moments.get(name);
        const { learningRate, weightDecay } = rateOf(name);
        const inputs = { parameter: before, gradient, first: old?.first, second: old?.second };
        const attributes = { scale, beta1, beta2, epsilon, learningRate, weightDecay, step: steps };
        const inOne = runFused<Tensor[]>('GitAdamW', inputs, attributes)?.map((made) => keep(made));
        const [next, first, second] = (inOne ?? composedUpdate(inputs, attributes)) as [Tensor, Tensor, Tensor];
        before.dispose();
        if (old !== undefined) dispose([old.first, old.second]);
        parameters.set(name, next);
        moments.set(name, { first, second });
      }
    },
    restore(saved, tensors) {
      disposeMoments();
      steps = saved;
      for (const [name, pair] of tensors) moments.set(name, pair);
    },
    dispose: disposeMoments,
  };
}

interface Update {
  readonly parameter: Tensor;
  readonly gradient: Tensor;
  readonly first: Tensor | undefined;
  readonly second: Tensor | undefined;
}

interface UpdateNumbers extends ParameterRate {
  readonly scale: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly step: number;
}

/** Parameter and moments after one update, to be disposed of by the caller. */
function composedUpdate(
  { parameter, gradient, first: oldFirst, second: oldSecond }: Update,
  { scale, beta1, beta2, epsilon, learningRate, weightDecay, step }: UpdateNumbers,
): Tensor[] {
  return tidy(() => {
    const g = scale === 1 ? gradient : mul(gradient, scale);
    const [m, v] = [oldFirst ?? zerosLike(parameter), oldSecond ?? zerosLike(parameter)];
    const first = add(m, mul(sub(g, m), 1 - beta1)); // lerp
    const second = add(mul(v, beta2), mul(square(g), 1 - beta2));
    const shrunk = mul(parameter, 1 - learningRate * weightDecay);
    const root = add(mul(sqrt(second), 1 / Math.sqrt(1 - beta2 ** step)), epsilon);
    const next = sub(shrunk, mul(div(first, root), learningRate / (1 - beta1 ** step)));
    return [keep(next), keep(first), keep(second)];
  });
}

const squaredNorm = (x: Tensor): Tensor => runFused<Tensor>('GitSquaredNorm', { x }) ?? sum(square(x));

/** The norm of all gradients together. */
export async function globalNorm(gradients: ReadonlyMap<string, Tensor>): Promise<number> {
  if (gradients.size === 0) return 0;
  const total = tidy(() => addN([...gradients.values()].map(squaredNorm)));
  try {
    return Math.sqrt((await total.data())[0]!);
  } finally {
    total.dispose();
  }
}

/** The factor that brings a norm down to `maxNorm`, torch's rule; 1 where nothing is to clip. */
export const clipFactor = (norm: number, maxNorm: number | undefined): number =>
  maxNorm === undefined ? 1 : Math.min(1, maxNorm / (norm + 1e-6));

/** Biases and layer norms do not decay; class, position, temporal and word embeddings do. */
export const decays = (name: string): boolean =>
  !/\.bias$|LayerNorm|layer_norm|layrnorm|post_layernorm|visual_projection\.1\./.test(name);

/** Names of the vision tower's parameters begin so. */
export const VISION_PREFIX = 'git.image_encoder.';
/** Parameters by which images are encoded, and frames of videos told apart. */
export const VISION_PREFIXES = [VISION_PREFIX, 'git.img_temperal_embedding.'] as const;
export const isVisionParameter = (name: string): boolean => VISION_PREFIXES.some((prefix) => name.startsWith(prefix));

export interface OptimizationOptions {
  /** Updates in the whole run; the schedule ends there. */
  readonly steps: number;
  readonly schedule: Schedule;
  /** Updates until the learning rate is reached, from 0. */
  readonly warmupSteps: number;
  readonly learningRate: number;
  /** The vision tower's learning rate. */
  readonly visionLearningRate: number;
  /** Decoupled decay of matrices and embeddings; biases and layer norms do not decay. A function says it for each parameter. */
  readonly weightDecay: number | ((name: string) => number);
  /** Gradients are scaled down to this norm; undefined: never. */
  readonly maxGradNorm?: number | undefined;
  /** 0: cross-entropy. */
  readonly labelSmoothing: number;
  readonly betas: readonly [number, number];
  readonly epsilon: number;
  /** Compute activations again on the way back, to hold those of one layer only. */
  readonly recompute: boolean;
  /** Parameters whose name begins so are not trained. */
  readonly freeze: readonly string[];
  /** Train this adapter instead of the weights; it is taken over. */
  readonly adapter?: LoraAdapter | undefined;
}

export interface StepHooks {
  /** Called between layers: yields to the event loop, and throws where the call was aborted; the weights stay as they were then. */
  readonly pause?: (() => Promise<void>) | undefined;
  /** A further loss on the vision tower; its gradients count as they are, the text's loss is a mean over tokens. */
  readonly visionLoss?: VisionLoss | undefined;
  /** Receives the gradients before clipping. They are disposed of after the step. */
  readonly onGradients?: ((gradients: ReadonlyMap<string, Tensor>) => void | Promise<void>) | undefined;
}

/** What one update did. */
export interface StepReport {
  /** From 0. */
  readonly step: number;
  /** Mean over the learned tokens of all micro-batches, before the update. */
  readonly loss: number;
  /** Norm of all gradients, before clipping. */
  readonly gradNorm: number;
  /** What the schedule multiplied the learning rate by. */
  readonly rateFactor: number;
  /** How many tokens were learned. */
  readonly tokens: number;
}

/** Everything that changes in training, as values: to save and to go on from. */
export interface OptimizationState {
  readonly step: number;
  readonly parameters: ReadonlyMap<string, Tensor>;
  readonly moments: ReadonlyMap<string, Moments>;
}

/** Weights that learn. It owns what it trains and leaves the model it was made from alone. */
export interface Optimization {
  /** One update from the micro-batches, which together count as one large batch. */
  step(batches: readonly TrainingBatch[], hooks?: StepHooks): Promise<StepReport>;
  /** The model as it is now, valid until the next step; `dispose` frees what was made for it alone. */
  current(): { readonly git: Git; dispose(): void };
  /** The adapter as it is now, where one is trained. */
  adapter(): LoraAdapter | undefined;
  state(): OptimizationState;
  /** Goes on from a saved state; takes its tensors over. */
  restore(state: OptimizationState): void;
  /** Frees what only further steps need. */
  disposeMoments(): void;
  dispose(): void;
}

/**
 * Starts to train a model's weights, or an adapter beside them.
 *
 * @throws OptionError where nothing is left to train.
 */
export function startOptimization(git: Git, options: OptimizationOptions): Optimization {
  const base = namedParameters(git);
  const { adapter } = options;
  const names =
    adapter === undefined
      ? [...base.keys()].filter((name) => !options.freeze.some((prefix) => name.startsWith(prefix)))
      : [...adapterParameters(adapter).keys()];
  if (names.length === 0) {
    throw new OptionError({
      path: 'freeze',
      code: 'nothing-to-train',
      detail: 'every parameter of the model is frozen',
    });
  }
  const trained = new Map<string, Tensor>(
    adapter === undefined ? names.map((name) => [name, base.get(name)!.clone()]) : adapterParameters(adapter),
  );
  const optimizer = createAdamW(options);
  let step = 0;

  const adapterNow = (): LoraAdapter | undefined => adapter && withAdapterParameters(adapter, trained);
  const current = (): { readonly git: Git; dispose(): void } => {
    const now = adapterNow();
    if (now !== undefined) return mergeAdapter(git, now);
    return { git: withParameters(git, new Map([...base, ...trained])), dispose: () => {} };
  };
  const { weightDecay } = options;
  const decayOf = typeof weightDecay === 'function' ? weightDecay : (name: string) => (decays(name) ? weightDecay : 0);
  const rateOf = (factor: number) => (name: string) => ({
    learningRate: factor * (name.startsWith(VISION_PREFIX) ? options.visionLearningRate : options.learningRate),
    weightDecay: decayOf(name),
  });

  return {
    current,
    adapter: adapterNow,
    async step(batches, { pause, visionLoss, onGradients } = {}) {
      const gradients = startGradients(names);
      const { git: now, dispose: disposeMerged } = current();
      try {
        const tokens = batches.reduce((sum, { labels }) => sum + countLabels(labels), 0);
        if (tokens === 0 && visionLoss === undefined) {
          throw new OptionError({
            path: 'labels',
            code: 'nothing-to-learn',
            detail: 'no token of this batch has a label',
          });
        }
        let loss = 0;
        for (const batch of batches) {
          const pass = {
            smoothing: options.labelSmoothing,
            total: tokens,
            recompute: options.recompute,
            pause,
            visionLoss,
          };
          loss += await accumulateGradients(now, batch, gradients, { ...pass, adapters: adapterNow()?.layers });
        }
        await onGradients?.(gradients.byName);
        const gradNorm = await globalNorm(gradients.byName);
        if (!Number.isFinite(loss + gradNorm)) {
          const detail = `loss ${loss}, gradient norm ${gradNorm} at step ${step}: a lower learning rate may help`;
          throw new BackendError({ code: 'not-finite', detail });
        }
        const rateFactor = scheduleFactor(options.schedule, step, options.warmupSteps, options.steps);
        optimizer.update(trained, gradients.byName, clipFactor(gradNorm, options.maxGradNorm), rateOf(rateFactor));
        return { step: step++, loss, gradNorm, rateFactor, tokens };
      } finally {
        disposeMerged();
        gradients.dispose();
      }
    },
    state: () => ({ step, parameters: trained, moments: optimizer.moments }),
    restore(state) {
      step = state.step;
      dispose([...trained.values()]);
      for (const [name, tensor] of state.parameters) trained.set(name, tensor);
      optimizer.restore(state.step, state.moments);
    },
    disposeMoments: () => optimizer.dispose(),
    dispose() {
      dispose([...trained.values()]);
      trained.clear();
      optimizer.dispose();
    },
  };
}
