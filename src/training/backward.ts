import type { Tensor, Tensor2D, Tensor3D } from '@tensorflow/tfjs-core';
import { add, concat, expandDims, gather, reshape, tensor1d, tidy, zeros } from '@tensorflow/tfjs-core';
import { embed } from '../layers/embeddings.js';
import { layerNorm } from '../layers/layer-norm.js';
import { linear } from '../layers/linear.js';
import { tidyTree } from '../layers/tidy.js';
import type { Git } from '../model/git.js';
import type { Adapter } from '../model/lora.js';
import { type DecoderLayerValues, decoderLayer, decoderLayerBackward, prefixOf, rows } from './backward-decoder.js';
import {
  addTemporal,
  layerOutputs,
  VISION,
  type VisionForward,
  type VisionInput,
  visionBackward,
  visionForward,
} from './backward-vision.js';
import {
  addLinearGradients,
  crossEntropyGradient,
  embeddingGradient,
  type Gradients,
  layerNormBackward,
  linearBackward,
  linearInputGradient,
  type Pass,
  rowsOf,
  scatterRows,
  startOwning,
} from './gradients.js';

// Forward and backward pass of teacher forcing. Image and text tokens go through a layer side by side, [B, I + T, D]; the forward pass keeps what
// the backward pass needs of each layer, or, with `recompute`, only the layer's input (Chen et al., arXiv 1604.06174).

/** A micro-batch: B images or videos, each with one text. */
export interface TrainingBatch extends VisionInput {
  /** Features of a frozen vision tower, as `imageFeatures` or `videoFeatures` give them: [B, I, Dv]. */
  readonly features?: Tensor3D | undefined;
  /** B rows of T token ids, padded on the right; none: the tower learns by a further loss alone (`visionLoss`), and nothing else is computed. */
  readonly ids: readonly (readonly number[])[];
  /** B rows of T: position t of the text learns to predict label t + 1; -100 is not learned (start, prompt, question, padding). */
  readonly labels: readonly (readonly number[])[];
  /** 0 where a token is padding that no other may attend to. Not needed for padding on the right. */
  readonly attentionMask?: readonly (readonly number[])[] | undefined;
}

/** The label that is not learned, as in PyTorch. */
export const IGNORED_LABEL = -100;

/** How many tokens of a batch are learned. */
export const countLabels = (labels: TrainingBatch['labels']): number =>
  labels.reduce((sum, row) => sum + row.slice(1).filter((label) => label !== IGNORED_LABEL).length, 0);

const DECODER = 'git.encoder.layer';
const PROJECTION = 'git.visual_projection.visual_projection';
const EMBEDDINGS = 'git.embeddings';

export interface PassOptions {
  /** Label smoothing; 0 is cross-entropy. */
  readonly smoothing: number;
  /** What the loss is divided by: the tokens learned in all micro-batches of a step. */
  readonly total: number;
  /** Keep only each layer's input and compute the rest again on the way back: memory for one layer instead of all. */
  readonly recompute: boolean;
  readonly adapters?: ReadonlyMap<string, Adapter> | undefined;
  /** Stop after the loss: no gradient is computed. */
  readonly lossOnly?: boolean | undefined;
  /** Called between layers: yields to the event loop, and throws where the call was aborted. */
  readonly pause?: (() => Promise<void>) | undefined;
  readonly visionLoss?: VisionLoss | undefined;
}

/**
 * A further loss on the vision tower while it is trained: receives the outputs of its layers, [B·F, I, Dv] each, which are not its own, and returns
 * gradients by some of them, which are taken over, by the layer's number.
 */
export type VisionLoss = (outputs: readonly Tensor3D[], batch: TrainingBatch) => ReadonlyMap<number, Tensor3D>;

/**
 * One micro-batch forward and backward. `git` holds the weights as they are to be used, adapters merged in. The gradients of trained parameters
 * are added to `gradients`, linear weights as loaded, [in, out].
 *
 * @returns this batch's part of the loss (a sum over its tokens, divided by `total`).
 * @throws what `pause` throws; no tensor is left then but those in `gradients`.
 */
export async function accumulateGradients(
  git: Git,
  batch: TrainingBatch,
  gradients: Gradients,
  options: PassOptions,
): Promise<number> {
  const { own, free, freeAll } = startOwning();
  const { recompute, pause = async () => {} } = options;
  const pass: Pass = { gradients, adapters: options.adapters ?? new Map(), own, free, pause, recompute };
  const { params, config: c } = git;
  const { vision_model: tower } = params.git.image_encoder;
  const trainsVision = gradients.wantsBelow(`${VISION}.`) || gradients.wantsBelow('git.img_temperal_embedding.');
  try {
    // Forward: vision tower, projection, decoder.
    const vision: VisionForward | undefined =
      batch.features === undefined ? await visionForward(pass, tower, batch, c) : undefined;
    const furtherSlopes = (): ReadonlyMap<number, Tensor3D> => {
      const slopes = options.visionLoss?.(layerOutputs(vision!), batch) ?? new Map<number, Tensor3D>();
      for (const gradient of slopes.values()) own(gradient);
      return slopes;
    };
    if (batch.ids.length === 0) {
      if (trainsVision && !options.lossOnly)
        await visionBackward(pass, tower, vision!, batch, c, undefined, furtherSlopes());
      return 0;
    }
    const features =
      batch.features ?? own(addTemporal(vision!.features, batch.pixels!, params.git.img_temperal_embedding));
    const [project, projectNorm] = params.git.visual_projection.visual_projection;
    const projected = own(linear(project, features));
    const words = own(
      tidy(() => {
        const positions = batch.ids.map((row) => row.map((_, t) => t));
        return add(
          embed(params.git.embeddings.word_embeddings, batch.ids),
          embed(params.git.embeddings.position_embeddings, positions),
        ) as Tensor3D;
      }),
    );
    const prefix = own(prefixOf(batch.ids[0]!.length, projected.shape[1], batch.attentionMask));
    const inputs: Tensor3D[] = [];
    const values: (DecoderLayerValues | undefined)[] = [];
    let x: Tensor3D = own(
      tidy(() => {
        const image = layerNorm(projectNorm, projected, c.vision.layerNormEps);
        return concat([image, layerNorm(params.git.embeddings.LayerNorm, words, c.layerNormEps)], 1);
      }),
    );
    const { layer: layers } = params.git.encoder;
    for (const [index, layer] of layers.entries()) {
      await pause();
      const made = own(decoderLayer(layer, x, c, prefix, index === layers.length - 1));
      inputs.push(x);
      x = own(layerNorm(layer.output.LayerNorm, made.sum2, c.layerNormEps));
      values.push(recompute ? undefined : made);
      if (recompute) free(made);
    }

    // Loss: the rows that have a label.
    await pause();
    const { losses, dHidden } = own(headBackward(pass, git, x, batch, options));
    free(x);
    if (dHidden === undefined) return await totalOf(losses);

    // Backward.
    let dy: Tensor3D = dHidden;
    for (let index = layers.length - 1; index >= 0; index--) {
      const last = index === layers.length - 1;
      const below = dy;
      await pause();
      const made = values[index] ?? own(decoderLayer(layers[index]!, inputs[index]!, c, prefix, last));
      dy = own(decoderLayerBackward(pass, `${DECODER}.${index}`, layers[index]!, made, c, prefix, last, below));
      free(made);
      free(below);
      free(inputs[index]);
    }
    const dProjected = own(
      tidy(() => {
        const [, all] = dy.shape;
        const dWords = layerNormBackward(
          pass,
          `${EMBEDDINGS}.LayerNorm`,
          params.git.embeddings.LayerNorm,
          words,
          c.layerNormEps,
          rows(dy, prefix.image, all - prefix.image),
        );
        const { word_embeddings: word, position_embeddings: position } = params.git.embeddings;
        gradients.add(`${EMBEDDINGS}.word_embeddings.weight`, (sum) =>
          embeddingGradient(word.weight, batch.ids, dWords, c.padTokenId, sum),
        );
        const positions = batch.ids.map((row) => row.map((_, t) => t));
        gradients.add(`${EMBEDDINGS}.position_embeddings.weight`, (sum) =>
          embeddingGradient(position.weight, positions, dWords, undefined, sum),
        );
        return layerNormBackward(
          pass,
          `${PROJECTION}.1`,
          projectNorm,
          projected,
          c.vision.layerNormEps,
          rows(dy, 0, prefix.image),
        );
      }),
    );
    addLinearGradients(pass, `${PROJECTION}.0`, features, dProjected);
    if (vision !== undefined && trainsVision) {
      const dFeatures = own(linearInputGradient(project.weight, dProjected));
      await visionBackward(pass, tower, vision, batch, c, dFeatures, furtherSlopes());
    }
    return await totalOf(losses);
  } finally {
    freeAll();
  }
}

/** Rows of logits that are in memory at once: [256, 30522] is 31 MB. */
const HEAD_ROWS = 256;

/** Rows of hidden values that learn a label, those of one sample. */
interface LabeledRows {
  readonly rows: readonly number[];
  readonly labels: readonly number[];
}

/** The labeled rows of [B, T, D] in blocks of at most HEAD_ROWS; a sample with more rows is cut from its start on, whatever is beside it. */
function labeledBlocks(labels: TrainingBatch['labels'], tokens: number): LabeledRows[][] {
  const blocks: LabeledRows[][] = [];
  let free = 0;
  for (const [b, row] of labels.entries()) {
    const wanted = row.slice(1).flatMap((label, t) => (label === IGNORED_LABEL ? [] : [{ at: b * tokens + t, label }]));
    for (let from = 0; from < wanted.length; from += HEAD_ROWS) {
      const piece = wanted.slice(from, from + HEAD_ROWS);
      if (piece.length > free) {
        blocks.push([]);
        free = HEAD_ROWS;
      }
      free -= piece.length;
      blocks.at(-1)!.push({ rows: piece.map(({ at }) => at), labels: piece.map(({ label }) => label) });
    }
  }
  return blocks;
}

/** Losses of the labeled rows of the last layer's output [B, T, D], and the gradient by that, if it is wanted. */
function headBackward(
  pass: Pass,
  git: Git,
  hidden: Tensor3D,
  { labels }: TrainingBatch,
  { smoothing, total, lossOnly = false }: PassOptions,
): { readonly losses: readonly Tensor[]; readonly dHidden?: Tensor3D } {
  return tidyTree(() => {
    const [batch, tokens, features] = hidden.shape;
    const { output } = git.params;
    const found = labeledBlocks(labels, tokens).map((samples) =>
      tidyTree(() => {
        const places = samples.flatMap(({ rows }) => rows);
        const kept = expandDims(gather(rowsOf(hidden), tensor1d(places, 'int32')), 0) as Tensor3D; // [1, M, D]
        const logits = reshape(linear(output, kept), [places.length, output.bias.size]) as Tensor2D;
        const ofRows = samples.flatMap((sample) => sample.labels);
        const { losses, logits: dLogits } = crossEntropyGradient(logits, ofRows, smoothing, total);
        if (lossOnly) return { losses, places };
        const groups = samples.map(({ rows }) => rows.length);
        const dKept = linearBackward(pass, 'output', output, kept, expandDims(dLogits, 0) as Tensor3D, groups);
        return { losses, places, dKept };
      }),
    );
    const losses = found.map((block) => block.losses);
    if (lossOnly) return { losses };
    if (found.length === 0) return { losses, dHidden: zeros([batch, tokens, features]) as Tensor3D };
    const rows = concat(found.map(({ dKept }) => rowsOf(dKept!)));
    const places = found.flatMap((block) => block.places);
    const dRows = scatterRows(rows, places, batch * tokens);
    return { losses, dHidden: reshape(dRows, [batch, tokens, features]) as Tensor3D };
  });
}

/** The sum of all losses, row by row. */
async function totalOf(losses: readonly Tensor[]): Promise<number> {
  let total = 0;
  for (const block of losses) for (const loss of await block.data()) total += loss;
  return total;
}
