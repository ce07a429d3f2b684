import type { Tensor, Tensor2D, Tensor3D, Tensor4D, Tensor5D, TensorContainer } from '@tensorflow/tfjs-core';
import {
  add,
  concat,
  dispose,
  expandDims,
  gather,
  keep,
  matMul,
  mul,
  reshape,
  scatterND,
  slice,
  sum,
  tensor1d,
  tensor2d,
  tidy,
  tile,
  zeros,
} from '@tensorflow/tfjs-core';
import { attend, mergeHeads, splitHeads } from '../layers/attention.js';
import { embed } from '../layers/embedding.js';
import type { LayerNorm } from '../layers/layer-norm.js';
import { layerNorm } from '../layers/layer-norm.js';
import type { Linear } from '../layers/linear.js';
import { activate, linear } from '../layers/linear.js';
import { textMask } from '../layers/mask.js';
import { cutPatches, patchEmbedding } from '../layers/patch-embedding.js';
import { tidyTree } from '../layers/tidy.js';
import type { Git } from '../model/git.js';
import type { GitConfig, VisionConfig } from '../model/git-config.js';
import type { Adapter } from '../model/lora.js';
import type { TextDecoder } from '../model/text-decoder.js';
import { frameOf, type VisionEncoder } from '../model/vision-encoder.js';
import {
  activationGradient,
  attentionGradient,
  biasGradient,
  crossEntropyGradient,
  embeddingGradient,
  layerNormGradient,
  linearInputGradient,
  linearWeightGradient,
  rowsOf,
} from './gradients.js';

// Forward and backward pass of teacher forcing. Image and text tokens go through a layer side by side, [B, I + T, D]; the forward pass keeps what
// the backward pass needs of each layer, or, with `recompute`, only the layer's input (Chen et al., arXiv 1604.06174).

/** A micro-batch: B images or videos, each with one text. */
export interface TrainingBatch {
  /** Normalized pixels [B, height, width, 3] or [B, F, height, width, 3]; not needed where `features` are given. */
  readonly pixels?: Tensor4D | Tensor5D | undefined;
  /** Features of a frozen vision tower, as `imageFeatures` or `videoFeatures` give them: [B, I, Dv]. */
  readonly features?: Tensor3D | undefined;
  /** B rows of T token ids, padded on the right. */
  readonly ids: readonly (readonly number[])[];
  /** B rows of T: position t of the text learns to predict label t + 1; -100 is not learnt (start, prompt, question, padding). */
  readonly labels: readonly (readonly number[])[];
  /** 0 where a token is padding that no other may attend to. Not needed for padding on the right. */
  readonly attentionMask?: readonly (readonly number[])[] | undefined;
}

/** The label that is not learnt, as in PyTorch. */
export const IGNORED_LABEL = -100;

/** How many tokens of a batch are learnt. */
export const countLabels = (labels: TrainingBatch['labels']): number =>
  labels.reduce((sum, row) => sum + row.slice(1).filter((label) => label !== IGNORED_LABEL).length, 0);

/** Gradients by parameter name, summed over micro-batches. It owns them. */
export interface Gradients {
  /** Is this parameter trained? */
  wants(name: string): boolean;
  /** Is any parameter trained whose name begins so? */
  wantsBelow(prefix: string): boolean;
  /** Adds `make()`, a new tensor, to the gradient of a parameter that is trained; does nothing for others. */
  add(name: string, make: () => Tensor): void;
  readonly byName: ReadonlyMap<string, Tensor>;
  dispose(): void;
}

/** No gradients yet, for the parameters of `names`. */
export function startGradients(names: Iterable<string>): Gradients {
  const trained = new Set(names);
  const byName = new Map<string, Tensor>();
  return {
    byName,
    wants: (name) => trained.has(name),
    wantsBelow: (prefix) => [...trained].some((name) => name.startsWith(prefix)),
    add(name, make) {
      if (!trained.has(name)) return;
      const before = byName.get(name);
      byName.set(
        name,
        tidy(() => keep(before === undefined ? make() : add(before, make()))),
      );
      before?.dispose();
    },
    dispose() {
      dispose([...byName.values()]);
      byName.clear();
    },
  };
}

/** What a pass needs besides its tensors. */
interface Pass {
  readonly gradients: Gradients;
  /** By the layer's name, such as `git.encoder.layer.0.attention.self.query`. */
  readonly adapters: ReadonlyMap<string, Adapter>;
}

/** Gradients of a linear layer's own parameters and adapter; returns the gradient by its input. x: [B, T, in], dy: [B, T, out]. */
function linearBackward(pass: Pass, name: string, p: Linear, x: Tensor3D, dy: Tensor3D): Tensor3D {
  const { gradients } = pass;
  gradients.add(`${name}.weight`, () => linearWeightGradient(x, dy));
  gradients.add(`${name}.bias`, () => biasGradient(dy));
  const adapter = pass.adapters.get(name);
  if (adapter !== undefined) {
    const { a, b, scale } = adapter;
    gradients.add(`${name}.lora_A`, () => mul(matMul(matMul(rowsOf(dy), b), rowsOf(x), true, false), scale)); // [r, in]
    gradients.add(
      `${name}.lora_B`,
      () => mul(matMul(rowsOf(dy), matMul(rowsOf(x), a, false, true), true, false), scale), // [out, r]
    );
  }
  return linearInputGradient(p.weight, dy);
}

/** The same of a layer norm. x: what is normalized, dy: [B, T, D]. */
function layerNormBackward(
  pass: Pass,
  name: string,
  p: LayerNorm,
  x: Tensor3D,
  epsilon: number,
  dy: Tensor3D,
): Tensor3D {
  return tidy(() => {
    const { dx, weight, bias } = layerNormGradient(p, x, epsilon, dy);
    pass.gradients.add(`${name}.weight`, () => weight.clone());
    pass.gradients.add(`${name}.bias`, () => bias.clone());
    return dx;
  });
}

const rows = (x: Tensor3D, from: number, count: number): Tensor3D =>
  slice(x, [0, from, 0], [x.shape[0], count, x.shape[2]]);
const columns = (x: Tensor4D, from: number, count: number): Tensor4D =>
  slice(x, [0, 0, from, 0], [x.shape[0], x.shape[1], count, x.shape[3]]);

/** Values of one decoder layer that its backward pass uses. */
interface DecoderLayerValues {
  readonly x: Tensor3D;
  readonly q: Tensor4D;
  readonly key: Tensor4D;
  readonly value: Tensor4D;
  readonly attended: Tensor3D;
  readonly sum1: Tensor3D;
  readonly h: Tensor3D;
  readonly wide: Tensor3D;
  readonly sum2: Tensor3D;
}

/** The mask of the text's queries over image and text columns, and how many image tokens there are. */
interface Prefix {
  readonly image: number;
  readonly mask: Tensor;
}

type TextLayer = TextDecoder['layer'][number];

/** One post-norm layer over [B, I + T, D]. The last one needs its text rows only, [B, T, D]. */
function decoderLayer(
  p: TextLayer,
  x: Tensor3D,
  c: GitConfig,
  { image, mask }: Prefix,
  last: boolean,
): DecoderLayerValues {
  return tidyTree(() => {
    const { query, key: toKey, value: toValue } = p.attention.self;
    const all = x.shape[1];
    const out = last ? rows(x, image, all - image) : x;
    const q = splitHeads(linear(query, out), c.numAttentionHeads);
    const key = splitHeads(linear(toKey, x), c.numAttentionHeads);
    const value = splitHeads(linear(toValue, x), c.numAttentionHeads);
    const textQuery = last ? q : columns(q, image, all - image);
    const text = attend(textQuery, { text: { key, value }, textMask: mask });
    const attended = last
      ? text
      : concat(
          [
            attend(columns(q, 0, image), { text: { key: columns(key, 0, image), value: columns(value, 0, image) } }),
            text,
          ],
          1,
        );
    const { output } = p.attention;
    const sum1: Tensor3D = add(linear(output.dense, attended), out);
    const h = layerNorm(output.LayerNorm, sum1, c.layerNormEps);
    const wide = linear(p.intermediate.dense, h);
    const sum2: Tensor3D = add(linear(p.output.dense, activate(c.hiddenAct, wide)), h);
    return { x: x.clone(), q, key, value, attended: attended as Tensor3D, sum1, h, wide, sum2 };
  });
}

/** Gradient by the layer's input [B, I + T, D], of the gradient by its output. */
function decoderLayerBackward(
  pass: Pass,
  name: string,
  p: TextLayer,
  v: DecoderLayerValues,
  c: GitConfig,
  { image, mask }: Prefix,
  last: boolean,
  dy: Tensor3D,
): Tensor3D {
  return tidy(() => {
    const all = v.x.shape[1];
    const text = all - image;
    const { output } = p.attention;
    const dSum2 = layerNormBackward(pass, `${name}.output.LayerNorm`, p.output.LayerNorm, v.sum2, c.layerNormEps, dy);
    const active = activate(c.hiddenAct, v.wide);
    const dActive = linearBackward(pass, `${name}.output.dense`, p.output.dense, active, dSum2);
    const dWide = activationGradient(c.hiddenAct, v.wide, dActive);
    const dH: Tensor3D = add(
      linearBackward(pass, `${name}.intermediate.dense`, p.intermediate.dense, v.h, dWide),
      dSum2,
    );
    const at = `${name}.attention`;
    const dSum1 = layerNormBackward(pass, `${at}.output.LayerNorm`, output.LayerNorm, v.sum1, c.layerNormEps, dH);
    const dAttended = splitHeads(
      linearBackward(pass, `${at}.output.dense`, output.dense, v.attended, dSum1),
      c.numAttentionHeads,
    );
    const ofText = attentionGradient(
      last ? v.q : columns(v.q, image, text),
      v,
      mask.rank === 3 ? expandDims(mask, 1) : mask,
      last ? dAttended : columns(dAttended, image, text),
    );
    let { query: dQ, key: dKey, value: dValue } = ofText;
    if (!last) {
      const imageColumns = { key: columns(v.key, 0, image), value: columns(v.value, 0, image) };
      const ofImage = attentionGradient(columns(v.q, 0, image), imageColumns, undefined, columns(dAttended, 0, image));
      const joined = (whole: Tensor4D, part: Tensor4D): Tensor4D =>
        concat([add(columns(whole, 0, image), part) as Tensor4D, columns(whole, image, text)], 2);
      dQ = concat([ofImage.query, dQ], 2);
      dKey = joined(dKey, ofImage.key);
      dValue = joined(dValue, ofImage.value);
    }
    const { query, key, value } = p.attention.self;
    const out = last ? rows(v.x, image, text) : v.x;
    const dOut: Tensor3D = add(linearBackward(pass, `${at}.self.query`, query, out, mergeHeads(dQ)), dSum1);
    const dIn = add(
      linearBackward(pass, `${at}.self.key`, key, v.x, mergeHeads(dKey)),
      linearBackward(pass, `${at}.self.value`, value, v.x, mergeHeads(dValue)),
    ) as Tensor3D;
    const whole = last ? concat([zeros([dOut.shape[0], image, dOut.shape[2]]) as Tensor3D, dOut], 1) : dOut;
    return add(dIn, whole);
  });
}

type VisionLayer = VisionEncoder['encoder']['layers'][number];

interface VisionLayerValues {
  readonly x: Tensor3D;
  readonly normed1: Tensor3D;
  readonly q: Tensor4D;
  readonly key: Tensor4D;
  readonly value: Tensor4D;
  readonly attended: Tensor3D;
  readonly h: Tensor3D;
  readonly normed2: Tensor3D;
  readonly wide: Tensor3D;
  readonly y: Tensor3D;
}

/** One pre-norm layer of the vision tower over [B, I, Dv]. */
function visionLayer(p: VisionLayer, x: Tensor3D, c: VisionConfig): VisionLayerValues {
  return tidyTree(() => {
    const normed1 = layerNorm(p.layer_norm1, x, c.layerNormEps);
    const q = splitHeads(linear(p.self_attn.q_proj, normed1), c.numAttentionHeads);
    const key = splitHeads(linear(p.self_attn.k_proj, normed1), c.numAttentionHeads);
    const value = splitHeads(linear(p.self_attn.v_proj, normed1), c.numAttentionHeads);
    const attended = attend(q, { text: { key, value } });
    const h: Tensor3D = add(x, linear(p.self_attn.out_proj, attended));
    const normed2 = layerNorm(p.layer_norm2, h, c.layerNormEps);
    const wide = linear(p.mlp.fc1, normed2);
    const y: Tensor3D = add(h, linear(p.mlp.fc2, activate(c.hiddenAct, wide)));
    return { x: x.clone(), normed1, q, key, value, attended, h, normed2, wide, y };
  });
}

function visionLayerBackward(
  pass: Pass,
  name: string,
  p: VisionLayer,
  v: VisionLayerValues,
  c: VisionConfig,
  dy: Tensor3D,
): Tensor3D {
  return tidy(() => {
    const active = activate(c.hiddenAct, v.wide);
    const dActive = linearBackward(pass, `${name}.mlp.fc2`, p.mlp.fc2, active, dy);
    const dWide = activationGradient(c.hiddenAct, v.wide, dActive);
    const dNormed2 = linearBackward(pass, `${name}.mlp.fc1`, p.mlp.fc1, v.normed2, dWide);
    const dH: Tensor3D = add(
      dy,
      layerNormBackward(pass, `${name}.layer_norm2`, p.layer_norm2, v.h, c.layerNormEps, dNormed2),
    );
    const at = `${name}.self_attn`;
    const dAttended = linearBackward(pass, `${at}.out_proj`, p.self_attn.out_proj, v.attended, dH);
    const d = attentionGradient(v.q, v, undefined, splitHeads(dAttended, c.numAttentionHeads));
    const dNormed1 = add(
      add(
        linearBackward(pass, `${at}.q_proj`, p.self_attn.q_proj, v.normed1, mergeHeads(d.query)),
        linearBackward(pass, `${at}.k_proj`, p.self_attn.k_proj, v.normed1, mergeHeads(d.key)),
      ),
      linearBackward(pass, `${at}.v_proj`, p.self_attn.v_proj, v.normed1, mergeHeads(d.value)),
    ) as Tensor3D;
    return add(dH, layerNormBackward(pass, `${name}.layer_norm1`, p.layer_norm1, v.x, c.layerNormEps, dNormed1));
  });
}

/** Where the model's parts stand in the names of a checkpoint. */
const VISION = 'git.image_encoder.vision_model';
const DECODER = 'git.encoder.layer';
const PROJECTION = 'git.visual_projection.visual_projection';
const EMBEDDINGS = 'git.embeddings';

export interface PassOptions {
  /** Label smoothing; 0 is cross-entropy. */
  readonly smoothing: number;
  /** What the loss is divided by: the tokens learnt in all micro-batches of a step. */
  readonly total: number;
  /** Keep only each layer's input and compute the rest again on the way back: memory for one layer instead of all. */
  readonly recompute: boolean;
  readonly adapters?: ReadonlyMap<string, Adapter> | undefined;
  /** Stop after the loss: no gradient is computed. */
  readonly lossOnly?: boolean | undefined;
  /** Called between layers: yields to the event loop, and throws where the call was aborted. */
  readonly pause?: (() => Promise<void>) | undefined;
}

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
  const pass: Pass = { gradients, adapters: options.adapters ?? new Map() };
  const owned = new Set<TensorContainer>();
  const own = <T>(values: T): T => {
    owned.add(values as TensorContainer);
    return values;
  };
  const free = (values: unknown): void => {
    if (owned.delete(values as TensorContainer)) dispose(values as TensorContainer);
  };
  const pause = options.pause ?? (async () => {});
  const { params, config: c } = git;
  const { vision_model: tower } = params.git.image_encoder;
  const trainsVision = gradients.wantsBelow(`${VISION}.`) || gradients.wantsBelow('git.img_temperal_embedding.');
  try {
    // Forward: vision tower, projection, decoder.
    const vision: VisionForward | undefined =
      batch.features === undefined
        ? await visionForward(tower, batch.pixels!, c, options.recompute, own, free, pause)
        : undefined;
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
    const prefix: Prefix = own({
      image: projected.shape[1],
      mask: prefixMask(batch, projected.shape[1]),
    } as unknown as TensorContainer) as unknown as Prefix;
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
      values.push(options.recompute ? undefined : made);
      if (options.recompute) free(made);
    }

    // Loss: the rows that have a label.
    await pause();
    const { loss, dHidden } = own(headBackward(pass, git, x, batch, options));
    free(x);
    if (options.lossOnly === true) return (await loss.data())[0]!;

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
        gradients.add(`${EMBEDDINGS}.word_embeddings.weight`, () =>
          embeddingGradient(word.weight, batch.ids, dWords, c.padTokenId),
        );
        const positions = batch.ids.map((row) => row.map((_, t) => t));
        gradients.add(`${EMBEDDINGS}.position_embeddings.weight`, () =>
          embeddingGradient(position.weight, positions, dWords),
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
    const dFeatures = own(linearBackward(pass, `${PROJECTION}.0`, project, features, dProjected));
    if (vision !== undefined && trainsVision)
      await visionBackward(pass, tower, vision, batch.pixels!, c, dFeatures, options.recompute, own, free, pause);
    return (await loss.data())[0]!;
  } finally {
    for (const values of owned) dispose(values);
  }
}

/** The mask of text queries over image and text columns: [T, I + T] or [B, T, I + T]. */
function prefixMask({ ids, attentionMask }: TrainingBatch, image: number): Tensor {
  return tidy(() => {
    const tokens = ids[0]!.length;
    const text = textMask(tokens, 0, attentionMask) ?? zeros([tokens, tokens]);
    const open = zeros([...text.shape.slice(0, -1), image]);
    return concat([open, text], -1);
  });
}

/** Loss over the labelled rows of the last layer's output [B, T, D], and its gradient by them. */
function headBackward(
  pass: Pass,
  git: Git,
  hidden: Tensor3D,
  { labels }: TrainingBatch,
  { smoothing, total }: PassOptions,
): { readonly loss: Tensor; readonly dHidden: Tensor3D } {
  return tidyTree(() => {
    const [batch, tokens, features] = hidden.shape;
    const wanted = labels.flatMap((row, b) =>
      row.slice(1).flatMap((label, t) => (label === IGNORED_LABEL ? [] : [{ row: b * tokens + t, label }])),
    );
    const index = tensor1d(
      wanted.map(({ row }) => row),
      'int32',
    );
    const kept = expandDims(gather(rowsOf(hidden), index), 0) as Tensor3D; // [1, M, D]
    const { output } = git.params;
    const logits = reshape(linear(output, kept), [wanted.length, output.bias.size]) as Tensor2D;
    const found = crossEntropyGradient(
      logits,
      wanted.map(({ label }) => label),
      smoothing,
      total,
    );
    const dKept = linearBackward(pass, 'output', output, kept, expandDims(found.logits, 0) as Tensor3D);
    const places = tensor2d(
      wanted.map(({ row }) => row),
      [wanted.length, 1],
      'int32',
    );
    const dRows = scatterND(places, rowsOf(dKept), [batch * tokens, features]);
    return { loss: found.loss, dHidden: reshape(dRows, [batch, tokens, features]) as Tensor3D };
  });
}

interface VisionForward {
  readonly embedded: Tensor3D;
  readonly inputs: Tensor3D[];
  readonly values: (VisionLayerValues | undefined)[];
  /** What the last layer norm sees. */
  readonly last: Tensor3D;
  /** [B·F, I, Dv] */
  readonly features: Tensor3D;
}

type Own = <T>(values: T) => T;

/** Each frame as an image of its own: [B·F, height, width, 3]. */
const framesOf = (pixels: Tensor4D | Tensor5D): Tensor4D =>
  pixels.rank === 5
    ? reshape(pixels, [pixels.shape[0] * pixels.shape[1], ...pixels.shape.slice(2)] as [number, number, number, number])
    : (pixels as Tensor4D);

async function visionForward(
  tower: VisionEncoder,
  pixels: Tensor4D | Tensor5D,
  { vision: c }: GitConfig,
  recompute: boolean,
  own: Own,
  free: (values: unknown) => void,
  pause: () => Promise<void>,
): Promise<VisionForward> {
  const embedded = own(
    tidy(() => {
      const frames = framesOf(pixels);
      const patches = patchEmbedding(tower.embeddings.patch_embedding, frames);
      const classToken = tile(reshape(tower.embeddings.class_embedding, [1, 1, c.hiddenSize]), [frames.shape[0], 1, 1]);
      return add(concat([classToken, patches], 1), tower.embeddings.position_embedding.weight) as Tensor3D;
    }),
  );
  let x = own(layerNorm(tower.pre_layrnorm, embedded, c.layerNormEps));
  const inputs: Tensor3D[] = [];
  const values: (VisionLayerValues | undefined)[] = [];
  for (const layer of tower.encoder.layers) {
    await pause();
    const made = own(visionLayer(layer, x, c));
    inputs.push(x);
    x = own(made.y.clone());
    values.push(recompute ? undefined : made);
    if (recompute) free(made);
  }
  return { embedded, inputs, values, last: x, features: own(layerNorm(tower.post_layernorm, x, c.layerNormEps)) };
}

/** Temporal embeddings of a video's frames, and the frames one after the other: [B·F, I, Dv] → [B, F·I, Dv]; images stay as they are. */
function addTemporal(features: Tensor3D, pixels: Tensor4D | Tensor5D, temporal: readonly Tensor[]): Tensor3D {
  if (pixels.rank === 4) return features.clone();
  const frames = pixels.shape[1]!;
  return tidy(() =>
    concat(
      Array.from({ length: frames }, (_, f) => add(frameOf(features, f, frames), temporal[f]!) as Tensor3D),
      1,
    ),
  );
}

async function visionBackward(
  pass: Pass,
  tower: VisionEncoder,
  forward: VisionForward,
  pixels: Tensor4D | Tensor5D,
  { vision: c }: GitConfig,
  dFeatures: Tensor3D,
  recompute: boolean,
  own: Own,
  free: (values: unknown) => void,
  pause: () => Promise<void>,
): Promise<void> {
  const { gradients } = pass;
  let dy: Tensor3D = own(
    tidy(() => {
      const [all, tokens, hidden] = forward.features.shape;
      const frames = pixels.rank === 5 ? pixels.shape[1]! : 1;
      const apart = reshape(dFeatures, [all / frames, frames, tokens, hidden]) as Tensor4D;
      if (pixels.rank === 5) {
        for (let f = 0; f < frames; f++)
          gradients.add(`git.img_temperal_embedding.${f}`, () =>
            reshape(sum(slice(apart, [0, f, 0, 0], [all / frames, 1, tokens, hidden]), [0, 1, 2]), [1, 1, hidden]),
          );
      }
      const dPost = reshape(apart, [all, tokens, hidden]) as Tensor3D;
      return layerNormBackward(
        pass,
        `${VISION}.post_layernorm`,
        tower.post_layernorm,
        forward.last,
        c.layerNormEps,
        dPost,
      );
    }),
  );
  const { layers } = tower.encoder;
  for (let index = layers.length - 1; index >= 0; index--) {
    const below = dy;
    await pause();
    const made = forward.values[index] ?? own(visionLayer(layers[index]!, forward.inputs[index]!, c));
    dy = own(visionLayerBackward(pass, `${VISION}.encoder.layers.${index}`, layers[index]!, made, c, below));
    free(made);
    free(below);
    if (recompute) free(forward.inputs[index]);
  }
  tidy(() => {
    const dEmbedded = layerNormBackward(
      pass,
      `${VISION}.pre_layrnorm`,
      tower.pre_layrnorm,
      forward.embedded,
      c.layerNormEps,
      dy,
    );
    const [frames, tokens, hidden] = dEmbedded.shape;
    const at = `${VISION}.embeddings`;
    gradients.add(`${at}.position_embedding.weight`, () => sum(dEmbedded, 0));
    gradients.add(`${at}.class_embedding`, () => reshape(sum(rows(dEmbedded, 0, 1), 0), [hidden]));
    gradients.add(`${at}.patch_embedding.weight`, () => {
      const patches = cutPatches(framesOf(pixels), c.patchSize); // [B·F·(I-1), P·P·3]
      const dPatches = reshape(rows(dEmbedded, 1, tokens - 1), [frames * (tokens - 1), hidden]) as Tensor2D;
      return reshape(matMul(patches, dPatches, true, false), tower.embeddings.patch_embedding.weight.shape);
    });
  });
}
