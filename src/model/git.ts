import {
  add,
  concat,
  dispose,
  gather,
  reshape,
  type Tensor,
  type Tensor3D,
  type Tensor4D,
  type Tensor5D,
  type TensorContainer,
  tensor1d,
  tensor3d,
  tidy,
  transpose,
} from '@tensorflow/tfjs-core';
import { forbiddenScores, type KeyValue } from '../layers/attention.js';
import { withoutFusedKernels } from '../layers/fused-kernel.js';
import { layerNorm, layerNormSpec } from '../layers/layer-norm.js';
import { linear, linearSpec } from '../layers/linear.js';
import { type Layout, mapSpec, type ParamsOf, repeat, specEntries, tensorSpec } from '../layers/param-spec.js';
import { runSteps, runStepsInTurns, type Steps, type Trace, tidyTree } from '../layers/tidy.js';
import type { GitConfig } from './git-config.js';
import { decodeTokens, imageCacheSteps, textDecoderSpec, textEmbeddings, textEmbeddingsSpec } from './text-decoder.js';
import { frameOf, visionEncoderSpec, visionSteps } from './vision-encoder.js';

/** Keys and values of N images, a pair per decoder layer, each [N, H, I, K]. A value: nobody writes into one. */
export type ImageCache = readonly KeyValue[];

/** Keys and values of the text so far, a pair per decoder layer, each [R, H, S, K]; empty before the first token. */
export type TextCache = readonly KeyValue[];

/** How many images, and how many tokens each. */
export const imageCacheShape = (cache: ImageCache): { readonly images: number; readonly tokens: number } => ({
  images: cache[0]?.key.shape[0] ?? 0,
  tokens: cache[0]?.key.shape[2] ?? 0,
});

/** How many tokens of text. */
export const textLength = (cache: TextCache): number => cache[0]?.key.shape[2] ?? 0;

/** `past` followed by `fresh` along the token axis; new tensors. */
function appendKeyValue(past: KeyValue | undefined, fresh: KeyValue): KeyValue {
  if (past === undefined) return fresh;
  return tidyTree(() => ({
    key: concat<Tensor4D>([past.key, fresh.key], 2),
    value: concat<Tensor4D>([past.value, fresh.value], 2),
  }));
}

/** Row r of the result is row `rows[r]` of the cache: beams fork and reorder with it. */
export function gatherCache(cache: readonly KeyValue[], rows: readonly number[]): readonly KeyValue[] {
  return tidyTree(() => {
    const index = tensor1d([...rows], 'int32');
    return cache.map(({ key, value }) => ({ key: gather(key, index, 0), value: gather(value, index, 0) }));
  });
}

export function disposeCache(cache: readonly KeyValue[]): void {
  for (const { key, value } of cache) dispose([key, value]);
}

/** Images of several caches in one, in order; new tensors. All must have the same number of tokens. */
export function concatCaches(caches: readonly ImageCache[]): ImageCache {
  return tidyTree(() =>
    (caches[0] ?? []).map((_, layer) => ({
      key: concat<Tensor4D>(
        caches.map((cache) => cache[layer]!.key),
        0,
      ),
      value: concat<Tensor4D>(
        caches.map((cache) => cache[layer]!.value),
        0,
      ),
    })),
  );
}

// GIT (Wang et al., arXiv 2205.14100). The image's tokens attend to each other and never to the text, so the image is
// encoded once, all decoder layers included, and text grows from that cache; see docs/architecture.md.

const visualProjectionSpec = (c: GitConfig) =>
  [linearSpec(c.vision.hiddenSize, c.hiddenSize), layerNormSpec(c.hiddenSize)] as const;

/** The whole checkpoint: paths are its names. `img_temperal_embedding` (so spelled) exists in video models. */
export const gitSpec = (c: GitConfig) => ({
  git: {
    embeddings: textEmbeddingsSpec(c),
    image_encoder: { vision_model: visionEncoderSpec(c.vision) },
    encoder: textDecoderSpec(c),
    visual_projection: { visual_projection: visualProjectionSpec(c) },
    img_temperal_embedding: repeat(c.numImageWithEmbedding, () => tensorSpec([1, 1, c.vision.hiddenSize])),
  },
  output: linearSpec(c.hiddenSize, c.vocabSize),
});
export type GitParams = ParamsOf<ReturnType<typeof gitSpec>>;

/** A model is plain data: a checked config and a tree of tensors. */
export interface Git {
  readonly config: GitConfig;
  readonly params: GitParams;
}

/**
 * Image features of the vision tower, after its last layer norm, all tokens.
 * pixels: float32 [B, height, width, 3] → [B, I, Dv].
 */
export function imageFeatures(git: Git, pixels: Tensor4D, trace?: Trace): Tensor3D {
  return runSteps(visionSteps(git.params.git.image_encoder.vision_model, pixels, git.config.vision, trace));
}

/**
 * Features of videos: each frame is encoded, gets its temporal embedding after the post layer norm and before the projection,
 * and frames follow each other along the token axis. pixels: float32 [B, F, height, width, 3] → [B, F·I, Dv].
 */
export function videoFeatures(git: Git, pixels: Tensor5D, trace?: Trace): Tensor3D {
  return runSteps(featureSteps(git, pixels, trace));
}

/**
 * `imageFeatures` or `videoFeatures` with a turn of the event loop between layers, and the same bits.
 *
 * @throws the signal's reason; nothing is left behind then.
 */
export const featuresInTurns = (
  git: Git,
  pixels: Tensor4D | Tensor5D,
  signal?: AbortSignal,
  trace?: Trace,
): Promise<Tensor3D> => runStepsInTurns(featureSteps(git, pixels, trace), signal);

function* featureSteps(git: Git, pixels: Tensor4D | Tensor5D, trace?: Trace): Steps<Tensor3D> {
  const vision = git.params.git.image_encoder.vision_model;
  if (pixels.rank === 4) return yield* visionSteps(vision, pixels as Tensor4D, git.config.vision, trace);
  const [batch, frames, height, width, channels] = pixels.shape as Tensor5D['shape'];
  const images: Tensor4D = reshape(pixels, [batch * frames, height, width, channels]);
  const all = yield* visionSteps(vision, images, git.config.vision, trace); // [B·F, I, Dv]
  return joinFrames(
    git,
    Array.from({ length: frames }, (_, f) => frameOf(all, f, frames)),
  );
}

/**
 * Features of images, each by itself, as the frames of a video in this order: only here does a frame's place matter. frames: F times float32
 * [B, I, Dv], no more than the model has temporal embeddings → [B, F·I, Dv].
 */
export function joinFrames(git: Git, frames: readonly Tensor3D[]): Tensor3D {
  const temporal = git.params.git.img_temperal_embedding;
  return tidy(() =>
    concat(
      frames.map((frame, f) => add(frame, temporal[f]!) as Tensor3D),
      1,
    ),
  );
}

/** Linear, then layer norm with the vision tower's epsilon. features: [B, I, Dv] → [B, I, D]. Trace name: `visual_projection`. */
export function projectFeatures(git: Git, features: Tensor3D, trace?: Trace): Tensor3D {
  return tidy(() => {
    const [project, norm] = git.params.git.visual_projection.visual_projection;
    const x = layerNorm(norm, linear(project, features), git.config.vision.layerNormEps);
    trace?.('visual_projection', x);
    return x;
  });
}

/**
 * Phase one, once per image: projected features through the decoder, every image token seeing every other, up to the last layer's keys
 * and values (with a trace, to its end). features: [N, I, Dv] → the image's part of the cache. Trace names: `visual_projection`, `image.decoder.layer.N`, `image.decoder.attention.N`.
 */
export function prefillImage(git: Git, features: Tensor3D, trace?: Trace): ImageCache {
  return runSteps(prefillSteps(git, features, trace));
}

/**
 * `prefillImage` with a turn of the event loop between layers, and the same bits. The caller owns `features` and must not free them before this ends.
 *
 * @throws the signal's reason; nothing is left behind then.
 */
export function prefillInTurns(
  git: Git,
  features: Tensor3D,
  options: { readonly signal?: AbortSignal | undefined; readonly trace?: Trace | undefined } = {},
): Promise<ImageCache> {
  return runStepsInTurns(prefillSteps(git, features, options.trace), options.signal);
}

/** Images to cache. pixels: float32 [N, height, width, 3], or [N, F, height, width, 3] for videos. */
export function encodeImage(git: Git, pixels: Tensor4D | Tensor5D, trace?: Trace): ImageCache {
  return runSteps(encodeSteps(git, pixels, trace));
}

/**
 * `encodeImage` with a turn of the event loop between layers, and the same bits: other work and aborts wait for one layer at most.
 * The caller owns `pixels` and must not free them before this ends.
 *
 * @throws the signal's reason; nothing is left behind then.
 */
export function encodeImageInTurns(
  git: Git,
  pixels: Tensor4D | Tensor5D,
  options: { readonly signal?: AbortSignal | undefined; readonly trace?: Trace | undefined } = {},
): Promise<ImageCache> {
  return runStepsInTurns(encodeSteps(git, pixels, options.trace), options.signal);
}

function* encodeSteps(git: Git, pixels: Tensor4D | Tensor5D, trace?: Trace): Steps<ImageCache> {
  const features = yield* featureSteps(git, pixels, trace);
  yield [features];
  return yield* prefillSteps(git, features, trace);
}

function* prefillSteps(git: Git, features: Tensor3D, trace?: Trace): Steps<ImageCache> {
  const x = projectFeatures(git, features, trace);
  return yield* imageCacheSteps(git.params.git.encoder, x, git.config, trace);
}

/** The new text tokens of R rows. */
export interface TextInput {
  /** R lists of T ids. */
  readonly ids: readonly (readonly number[])[];
  /** R lists of T positions; by default they count on from the cache. */
  readonly positions?: readonly (readonly number[])[];
  /** From `textMask`; undefined where everything before and at a token is visible and T = 1. */
  readonly mask?: Tensor | undefined;
  /** Which of its T tokens is wanted of each row; all where undefined. */
  readonly last?: readonly number[];
}

/**
 * Phase two: T new tokens of R rows on top of what they already see. Returns hidden states [R, T, D], or with `last` [R, 1, D], and the longer text
 * cache; the caches given are left alone. `image` undefined: no image at all, a plain causal decoder.
 * Trace names: `text.embeddings`, `decoder.layer.N`, `decoder.attention.N`.
 */
export function decodeText(
  git: Git,
  input: TextInput,
  image: ImageCache | undefined,
  past: TextCache = [],
  trace?: Trace,
): { readonly hidden: Tensor3D; readonly text: TextCache } {
  return tidyTree(() => {
    const { params, config } = git;
    const start = textLength(past);
    const positions = input.positions ?? input.ids.map((row) => row.map((_, t) => start + t));
    const x = textEmbeddings(params.git.embeddings, input.ids, positions, config, trace); // [R, T, D]
    const { hidden, attended } = decodeTokens(
      params.git.encoder,
      x,
      config,
      (layer, fresh) => ({
        image: image?.[layer],
        text: appendKeyValue(past[layer], fresh),
        textMask: input.mask,
      }),
      trace,
      input.last,
    );
    const text = attended.map((columns) => columns.text!);
    return { hidden, text };
  });
}

/** Scores of every word. hidden: float32 [B, T, D] → [B, T, V]. */
export function vocabularyLogits(git: Git, hidden: Tensor3D): Tensor3D {
  return linear(git.params.output, hidden);
}

/** Frees the parameters. */
export function disposeGit(git: Git): void {
  dispose(git.params as unknown as TensorContainer);
}

/** Every parameter of a model by its name in the checkpoint; the model's own tensors. */
export function namedParameters(git: Git): Map<string, Tensor> {
  const find = (name: string): Tensor =>
    name.split('.').reduce<unknown>((node, key) => (node as Record<string, unknown>)[key], git.params) as Tensor;
  return new Map(specEntries(gitSpec(git.config)).map(({ name }) => [name, find(name)]));
}

/** The same model with the tensors of `parameters` at their names. */
export function withParameters(git: Git, parameters: ReadonlyMap<string, Tensor>): Git {
  return { config: git.config, params: mapSpec(gitSpec(git.config), (name) => parameters.get(name)!) as GitParams };
}

/** A loaded parameter as the checkpoint stores it, a new tensor: linear weights [out, in], patch weights OIHW. Adapters are stored as they are. */
export function toStoredLayout(layout: Layout, parameter: Tensor): Tensor {
  if (layout === 'linear') return transpose(parameter);
  return layout === 'conv2d' ? transpose(parameter, [3, 2, 0, 1]) : parameter.clone();
}

/** How each parameter is stored, by name. */
export const storedLayouts = (config: GitConfig): Map<string, Layout> =>
  new Map(specEntries(gitSpec(config)).map(({ name, spec }) => [name, spec.layout]));

/**
 * GIT in one pass as the paper draws it: image tokens and text tokens side by side under one mask, no cache, no fused kernel.
 * The oracle of the two-phase path, and the path for training, since every operation has a gradient.
 *
 * pixels: float32 [B, height, width, 3] or [B, F, height, width, 3], or undefined for text alone; ids: B lists of T.
 * Returns logits [B, I + T, V], image rows first.
 */
export function plainForward(
  git: Git,
  pixels: Tensor4D | Tensor5D | undefined,
  ids: readonly (readonly number[])[],
  attentionMask?: readonly (readonly number[])[],
): Tensor3D {
  const forward = (): Tensor3D => {
    const { params, config } = git;
    const positions = ids.map((row) => row.map((_, t) => t));
    const words = textEmbeddings(params.git.embeddings, ids, positions, config); // [B, T, D]
    const parts = [words];
    if (pixels !== undefined) {
      const features =
        pixels.rank === 5 ? videoFeatures(git, pixels as Tensor5D) : imageFeatures(git, pixels as Tensor4D);
      parts.unshift(projectFeatures(git, features));
    }
    const x = concat(parts, 1); // [B, I + T, D]
    const mask = prefixMask(ids.length, x.shape[1] - words.shape[1], words.shape[1], attentionMask);
    const { hidden } = decodeTokens(params.git.encoder, x, config, (_, text) => ({ text, textMask: mask }));
    return vocabularyLogits(git, hidden);
  };
  return tidy(() => withoutFusedKernels(forward));
}

/** GIT's mask [B, I + T, I + T]: image rows see image columns, text rows see the image and the text up to themselves. */
function prefixMask(
  batch: number,
  image: number,
  text: number,
  attentionMask?: readonly (readonly number[])[],
): Tensor3D {
  const { padding, future } = forbiddenScores();
  const size = image + text;
  const values = new Float32Array(batch * size * size);
  let at = 0;
  for (let b = 0; b < batch; b++) {
    for (let row = 0; row < size; row++) {
      for (let column = 0; column < size; column++, at++) {
        if (column < image) continue;
        if (column > row) values[at] = future;
        else if (attentionMask?.[b]?.[column - image] === 0) values[at] = padding;
      }
    }
  }
  return tensor3d(values, [batch, size, size]);
}
