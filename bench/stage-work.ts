import type { WeightFormat } from 'tfjs-backend-simd';
import type { GitConfig } from '../src/index.js';

/** What `npm run bench` measures of a model. */
export const STAGES = {
  encode: 'encode: pixels to features',
  prefill: 'prefill: features to cache',
  step: 'step: one token',
  beamStep: 'step: four beams',
  greedy: 'caption, greedy',
  beams: 'caption, original beam search',
} as const;
export type Stage = keyof typeof STAGES;

/** Floating-point operations of a stage's products and attention; where it waits for memory, the bytes of weights that it must read. */
export interface Work {
  readonly flops: number;
  readonly bytes?: number;
}

const BYTES: Readonly<Record<WeightFormat, number>> = { f32: 4, bf16: 2, f16: 2, int8: 1, 'int8-fast': 1 };

/** The work of each stage for one image of `side` pixels and captions of `tokens` tokens, the fewest operations that the model can do with. */
export function stageWork(
  config: GitConfig,
  side: number,
  tokens: number,
  format: WeightFormat = 'f32',
): Record<Stage, Work> {
  const { vision } = config;
  const image = 1 + Math.floor(side / vision.patchSize) ** 2;
  const layer = (hidden: number, wide: number) => 4 * hidden ** 2 + 2 * hidden * wide;
  const attention = (rows: number, columns: number, hidden: number) => 4 * rows * columns * hidden;
  const last = config.numHiddenLayers - 1;
  const patches = 2 * (image - 1) * 3 * vision.patchSize ** 2 * vision.hiddenSize;
  const perVisionLayer =
    2 * image * layer(vision.hiddenSize, vision.intermediateSize) + attention(image, image, vision.hiddenSize);
  const encode = patches + vision.numHiddenLayers * perVisionLayer;
  const perLayer =
    2 * image * layer(config.hiddenSize, config.intermediateSize) + attention(image, image, config.hiddenSize);
  const project = 2 * image * vision.hiddenSize * config.hiddenSize;
  const prefill = project + last * perLayer + 2 * image * 2 * config.hiddenSize ** 2; // of the last layer keys and values
  const weights = (last + 1) * layer(config.hiddenSize, config.intermediateSize) + config.hiddenSize * config.vocabSize;
  const looked = (last + 1) * attention(1, image + tokens / 2, config.hiddenSize);
  const step = (rows: number): Work => ({ flops: rows * (2 * weights + looked), bytes: BYTES[format] * weights });
  const caption = (rows: number): Work => ({
    flops: encode + prefill + step(1).flops + (tokens - 1) * step(rows).flops,
  });
  return {
    encode: { flops: encode },
    prefill: { flops: prefill },
    step: step(1),
    beamStep: step(4),
    greedy: caption(1),
    beams: caption(4),
  };
}
