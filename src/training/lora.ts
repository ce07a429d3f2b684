import type { Tensor, Tensor2D } from '@tensorflow/tfjs-core';
import { tensor2d, zeros } from '@tensorflow/tfjs-core';
import { OptionError } from '../errors.js';
import { type Random, seededRandom } from '../generation/generate.js';
import { type Git, namedParameters } from '../model/git.js';
import type { Adapter, LoraAdapter } from '../model/lora.js';

// Low-rank adaptation (Hu et al., arXiv 2106.09685): the weights stay as they are, and beside some of them two thin matrices learn.

export interface LoraOptions {
  /** Rank r of the matrices. Default 8. */
  readonly rank?: number | undefined;
  /** The product is scaled by alpha / r. Default 16. */
  readonly alpha?: number | undefined;
  /** Ends of names of linear layers, as PEFT's `target_modules`. Default the decoder's `query` and `value`. */
  readonly targets?: readonly string[] | undefined;
}

/** The linear layers that the targets name. */
function targetLayers(git: Git, targets: readonly string[]): string[] {
  const all = [...namedParameters(git)].flatMap(([name, tensor]) =>
    name.endsWith('.weight') &&
    tensor.rank === 2 &&
    /\.(query|key|value|dense|[qkv]_proj|out_proj|fc[12]|0)\.weight$/.test(name)
      ? [name.slice(0, -'.weight'.length)]
      : [],
  );
  const found = all.filter((name) => targets.some((target) => name === target || name.endsWith(`.${target}`)));
  const odd = targets.find((target) => !found.some((name) => name === target || name.endsWith(`.${target}`)));
  if (odd !== undefined || found.length === 0) {
    const ends = [...new Set(all.map((name) => name.split('.').at(-1)!))].join(', ');
    throw new OptionError({
      path: 'targets',
      code: 'unknown-target',
      detail: `no linear layer is named ${JSON.stringify(odd ?? '')}; names end in ${ends}`,
    });
  }
  return found;
}

/**
 * A fresh adapter: A uniform as PEFT's (Kaiming with a = √5, so within ±1/√in), B zero, so that the model says at first what it said before.
 *
 * @throws OptionError for a rank that is no whole number from 1 on, or a target that no layer has.
 */
export function createAdapter(git: Git, options: LoraOptions = {}, seed = 0): LoraAdapter {
  const { rank = 8, alpha = 16, targets = ['query', 'value'] } = options;
  if (!Number.isInteger(rank) || rank < 1) {
    throw new OptionError({
      path: 'rank',
      code: 'out-of-range',
      detail: `expected a whole number from 1 on, found ${rank}`,
    });
  }
  const parameters = namedParameters(git);
  const random = seededRandom(seed);
  const layers = new Map<string, Adapter>();
  for (const name of targetLayers(git, targets)) {
    const [inputs, outputs] = parameters.get(`${name}.weight`)!.shape as [number, number];
    layers.set(name, {
      a: uniform(random, [rank, inputs], 1 / Math.sqrt(inputs)),
      b: zeros([outputs, rank]),
      scale: alpha / rank,
    });
  }
  return { rank, alpha, targets, layers };
}

const uniform = (random: Random, shape: [number, number], bound: number): Tensor2D =>
  tensor2d(
    Float32Array.from({ length: shape[0] * shape[1] }, () => (2 * random() - 1) * bound),
    shape,
  );

/** The matrices as parameters to train: `NAME.lora_A` and `NAME.lora_B`. The adapter's own tensors. */
export const adapterParameters = ({ layers }: LoraAdapter): Map<string, Tensor> =>
  new Map([...layers].flatMap(([name, { a, b }]) => [[`${name}.lora_A`, a] as const, [`${name}.lora_B`, b] as const]));

/** The adapter with the tensors of `parameters`, as `adapterParameters` names them. */
export function withAdapterParameters(adapter: LoraAdapter, parameters: ReadonlyMap<string, Tensor>): LoraAdapter {
  const layers = new Map(
    [...adapter.layers].map(([name, { scale }]) => {
      const a = parameters.get(`${name}.lora_A`) as Tensor2D;
      return [name, { a, b: parameters.get(`${name}.lora_B`) as Tensor2D, scale }] as const;
    }),
  );
  return { ...adapter, layers };
}
