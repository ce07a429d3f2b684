import type { Tensor } from '@tensorflow/tfjs-core';
import { add, addN, dispose, div, keep, mul, sqrt, square, sub, sum, tidy, zerosLike } from '@tensorflow/tfjs-core';
import { runFused } from '../layers/fused-kernel.js';

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
