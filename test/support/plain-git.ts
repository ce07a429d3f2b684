/**
 * GIT once more, in plain double-precision JavaScript: no tensors, no batches, no backend, nothing shared with src/. Slow and readable, the
 * oracle of the fast; it follows "Model semantics that the numbers fix" in the reference's README. A matrix is a list of rows.
 */
import { readJson } from './fixtures.js';
import { type PeekedTensor, peekSafetensors } from './peek-safetensors.js';

type Row = Float64Array;
type Matrix = readonly Row[];

interface PlainConfig {
  readonly vocab_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly max_position_embeddings: number;
  readonly layer_norm_eps: number;
  readonly vision_config: {
    readonly num_hidden_layers: number;
    readonly num_attention_heads: number;
    readonly patch_size: number;
    readonly layer_norm_eps: number;
  };
}

/** Keys and values of one decoder layer for some tokens. */
interface LayerCache {
  readonly keys: Matrix;
  readonly values: Matrix;
}

/** One text token behind its parent: what later tokens need of it, and the logits of the next one. */
export interface PlainNode {
  readonly parent: PlainNode | undefined;
  readonly position: number;
  readonly masked: boolean;
  readonly keys: Matrix;
  readonly values: Matrix;
  readonly logits: Row;
}

/** The decoder's view of one image. */
export type PlainImage = readonly LayerCache[];

export interface PlainGit {
  readonly vocabSize: number;
  readonly maxLength: number;
  /** pixels: frames of float [3, size, size]; one frame is an image (no temporal embedding), several are a video. */
  encode(frames: readonly Row[]): PlainImage;
  /**
   * Appends a text token. `masked`: a pad token, not seen by later ones; `seesMasked`: sees masked ones all the same (the
   * quirk of 4.40's cached steps).
   */
  extend(
    image: PlainImage,
    parent: PlainNode | undefined,
    id: number,
    masked?: boolean,
    seesMasked?: boolean,
  ): PlainNode;
}

/** Loads `config.json` and `model.safetensors` of a fixture folder (with the closing slash). */
export function loadPlainGit(folder: string): PlainGit {
  const config = readJson<PlainConfig>(`${folder}config.json`);
  const tensors = peekSafetensors(`${folder}model.safetensors`);
  const get = (name: string): PeekedTensor => {
    const tensor = tensors.get(name);
    if (tensor === undefined) throw new Error(`no tensor ${name}`);
    return tensor;
  };
  const model: Model = { config, get, has: (name) => tensors.has(name) };
  return {
    vocabSize: config.vocab_size,
    maxLength: config.max_position_embeddings,
    encode: (frames) => imageCache(model, frames),
    extend: (image, parent, id, masked = false, seesMasked = false) =>
      textToken(model, image, parent, id, masked, seesMasked),
  };
}

interface Model {
  readonly config: PlainConfig;
  readonly get: (name: string) => PeekedTensor;
  readonly has: (name: string) => boolean;
}

// ---- image -----------------------------------------------------------------------------------------------------------------

function imageCache(m: Model, frames: readonly Row[]): PlainImage {
  const features = frames.flatMap((frame, f) => {
    const seen = visionEncoder(m, frame);
    if (frames.length === 1) return seen;
    const when = m.get(`git.img_temperal_embedding.${f}`).values;
    return seen.map((row) => add(row, when));
  });
  const eps = m.config.vision_config.layer_norm_eps;
  const projection = 'git.visual_projection.visual_projection';
  let x = features.map((row) => layerNorm(m, `${projection}.1`, linear(m, `${projection}.0`, row), eps));
  const cache: LayerCache[] = [];
  for (let layer = 0; layer < m.config.num_hidden_layers; layer++) {
    const name = `git.encoder.layer.${layer}`;
    const keys = x.map((row) => linear(m, `${name}.attention.self.key`, row));
    const values = x.map((row) => linear(m, `${name}.attention.self.value`, row));
    cache.push({ keys, values });
    x = x.map((row) => decoderLayer(m, name, row, keys, values));
  }
  return cache;
}

function visionEncoder(m: Model, pixels: Row): Matrix {
  const vision = 'git.image_encoder.vision_model';
  const { num_hidden_layers, num_attention_heads, layer_norm_eps } = m.config.vision_config;
  const positions = rowsOf(m.get(`${vision}.embeddings.position_embedding.weight`));
  const tokens = [m.get(`${vision}.embeddings.class_embedding`).values, ...patches(m, pixels)];
  let x = tokens.map((row, i) => layerNorm(m, `${vision}.pre_layrnorm`, add(row, positions[i]!), layer_norm_eps));
  for (let layer = 0; layer < num_hidden_layers; layer++) {
    const name = `${vision}.encoder.layers.${layer}`;
    const normed = x.map((row) => layerNorm(m, `${name}.layer_norm1`, row, layer_norm_eps));
    const keys = normed.map((row) => linear(m, `${name}.self_attn.k_proj`, row));
    const values = normed.map((row) => linear(m, `${name}.self_attn.v_proj`, row));
    x = x.map((row, i) => {
      const query = linear(m, `${name}.self_attn.q_proj`, normed[i]!);
      const seen = attend(query, keys, values, num_attention_heads);
      const h = add(row, linear(m, `${name}.self_attn.out_proj`, seen));
      const inner = linear(m, `${name}.mlp.fc1`, layerNorm(m, `${name}.layer_norm2`, h, layer_norm_eps)).map(quickGelu);
      return add(h, linear(m, `${name}.mlp.fc2`, inner));
    });
  }
  return x.map((row) => layerNorm(m, `${vision}.post_layernorm`, row, layer_norm_eps));
}

/** The convolution without bias: patches in row-major order. */
function patches(m: Model, pixels: Row): Row[] {
  const { shape, values } = m.get('git.image_encoder.vision_model.embeddings.patch_embedding.weight'); // [D, 3, p, p]
  const [features, channels, p] = shape as readonly [number, number, number];
  const size = Math.sqrt(pixels.length / channels);
  const out: Row[] = [];
  for (let top = 0; top + p <= size; top += p) {
    for (let left = 0; left + p <= size; left += p) {
      const patch = new Float64Array(features);
      for (let d = 0, w = 0; d < features; d++)
        for (let c = 0; c < channels; c++)
          for (let y = 0; y < p; y++)
            for (let x = 0; x < p; x++, w++)
              patch[d] = patch[d]! + values[w]! * pixels[(c * size + top + y) * size + left + x]!;
      out.push(patch);
    }
  }
  return out;
}

// ---- text --------------------------------------------------------------------------------------------------------------------

function textToken(
  m: Model,
  image: PlainImage,
  parent: PlainNode | undefined,
  id: number,
  masked: boolean,
  seesMasked: boolean,
): PlainNode {
  const position = parent === undefined ? 0 : parent.position + 1;
  const word = rowsOf(m.get('git.embeddings.word_embeddings.weight'))[id]!;
  const path = rowsOf(m.get('git.embeddings.position_embeddings.weight'))[position]!;
  let x = layerNorm(m, 'git.embeddings.LayerNorm', add(word, path), m.config.layer_norm_eps);
  const before: PlainNode[] = [];
  for (let node = parent; node !== undefined; node = node.parent) if (!node.masked || seesMasked) before.push(node);
  const own = { keys: [] as Row[], values: [] as Row[] };
  for (const [layer, seen] of image.entries()) {
    const name = `git.encoder.layer.${layer}`;
    own.keys.push(linear(m, `${name}.attention.self.key`, x));
    own.values.push(linear(m, `${name}.attention.self.value`, x));
    const self = masked && !seesMasked ? [] : [own];
    const keys = [...seen.keys, ...[...before, ...self].map((node) => node.keys[layer]!)];
    const values = [...seen.values, ...[...before, ...self].map((node) => node.values[layer]!)];
    x = decoderLayer(m, name, x, keys, values);
  }
  return { parent, position, masked, ...own, logits: linear(m, 'output', x) };
}

/** One post-norm BERT block for one token that attends to `keys` and `values`. */
function decoderLayer(m: Model, name: string, x: Row, keys: Matrix, values: Matrix): Row {
  const eps = m.config.layer_norm_eps;
  const seen = attend(linear(m, `${name}.attention.self.query`, x), keys, values, m.config.num_attention_heads);
  const h = layerNorm(
    m,
    `${name}.attention.output.LayerNorm`,
    add(x, linear(m, `${name}.attention.output.dense`, seen)),
    eps,
  );
  const inner = linear(m, `${name}.intermediate.dense`, h).map(gelu);
  return layerNorm(m, `${name}.output.LayerNorm`, add(h, linear(m, `${name}.output.dense`, inner)), eps);
}

// ---- arithmetic --------------------------------------------------------------------------------------------------------------

const rowCache = new WeakMap<PeekedTensor, Matrix>();

/** A [rows, columns] tensor as a list of rows. */
function rowsOf(tensor: PeekedTensor): Matrix {
  const known = rowCache.get(tensor);
  if (known !== undefined) return known;
  const columns = tensor.shape[1]!;
  const rows = Array.from({ length: tensor.shape[0]! }, (_, r) =>
    tensor.values.subarray(r * columns, (r + 1) * columns),
  );
  rowCache.set(tensor, rows);
  return rows;
}

const dot = (a: Row, b: Row): number => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
};

const add = (a: Row, b: Row): Row => a.map((x, i) => x + b[i]!);

function linear(m: Model, name: string, x: Row): Row {
  const bias = m.get(`${name}.bias`).values;
  return Float64Array.from(rowsOf(m.get(`${name}.weight`)), (weights, i) => dot(weights, x) + bias[i]!);
}

function layerNorm(m: Model, name: string, x: Row, eps: number): Row {
  const [weight, bias] = [m.get(`${name}.weight`).values, m.get(`${name}.bias`).values];
  const mean = x.reduce((sum, v) => sum + v, 0) / x.length;
  const variance = x.reduce((sum, v) => sum + (v - mean) ** 2, 0) / x.length;
  return x.map((v, i) => ((v - mean) / Math.sqrt(variance + eps)) * weight[i]! + bias[i]!);
}

function attend(query: Row, keys: Matrix, values: Matrix, heads: number): Row {
  const width = query.length / heads;
  const out = new Float64Array(query.length);
  for (let h = 0; h < heads; h++) {
    const [from, to] = [h * width, (h + 1) * width];
    const q = query.subarray(from, to);
    const scores = keys.map((key) => dot(q, key.subarray(from, to)) / Math.sqrt(width));
    const max = Math.max(...scores);
    const weights = scores.map((score) => Math.exp(score - max));
    const total = weights.reduce((sum, w) => sum + w, 0);
    weights.forEach((w, t) => {
      for (let i = from; i < to; i++) out[i] = out[i]! + (w / total) * values[t]![i]!;
    });
  }
  return out;
}

const quickGelu = (x: number): number => x / (1 + Math.exp(-1.702 * x));
const gelu = (x: number): number => 0.5 * x * (1 + erf(x / Math.SQRT2));

/** erf in double: the Taylor series up to 3, the continued fraction of erfc beyond. */
function erf(x: number): number {
  const a = Math.abs(x);
  if (a > 6) return Math.sign(x);
  if (a > 3) {
    let fraction = 0;
    for (let n = 60; n > 0; n--) fraction = n / 2 / (a + fraction);
    return Math.sign(x) * (1 - Math.exp(-a * a) / Math.sqrt(Math.PI) / (a + fraction));
  }
  let [term, sum] = [x, x];
  for (let n = 1; Math.abs(term) > 1e-18; n++) {
    term *= (-x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}
