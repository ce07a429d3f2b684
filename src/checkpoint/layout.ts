import { ConfigError, WeightError } from '../errors.js';
import type { Layout } from '../layers/param-spec.js';
import { isJsonObject, type Json } from './json.js';
import { nameOf, type StoredTensor, type TensorMap } from './stored-tensor.js';

/**
 * Transposes stored weights into the order that the layers use, on the host, once, at load. Rows arrive in groups, so that a matrix is
 * never in memory twice.
 */

/** Rows that are transposed together: their floats are side by side in the target, so that lines of the cache are filled at once. */
export const ROW_GROUP = 8;
/** Columns to a strip: as many lines of the target are being filled at a time, and must stay in the cache. */
const COLUMNS = 16;

/** The shape of a parameter after it is transposed. */
export function transposedShape(shape: readonly number[], layout: Layout): number[] {
  if (layout === 'as-is' || layout === 'embedding') return [...shape];
  if (layout === 'linear') return [shape[1]!, shape[0]!];
  const [outputs, inputs, height, width] = shape as readonly [number, number, number, number];
  return [height, width, inputs, outputs];
}

/**
 * Puts `rows` (whole rows of a [out, in] matrix, from row `first` on) into `target`, which holds the transposed [in, out] matrix.
 * Returns whether all of them are finite: looking at each number once more would take as long again.
 */
export function transposeRows(
  rows: Float32Array,
  first: number,
  outputs: number,
  inputs: number,
  target: Float32Array,
): boolean {
  const count = rows.length / inputs;
  const whole = count - (count % ROW_GROUP);
  let zero = 0;
  for (let strip = 0; strip < inputs; strip += COLUMNS) {
    const end = Math.min(strip + COLUMNS, inputs);
    for (let row = 0; row < whole; row += ROW_GROUP) {
      zero += transposeEightRows(rows, row * inputs, strip, end, target, first + row, outputs, inputs);
    }
    for (let row = whole; row < count; row++) {
      for (let column = strip; column < end; column++) {
        const value = rows[row * inputs + column]!;
        zero += value * 0;
        target[column * outputs + first + row] = value;
      }
    }
  }
  return zero === 0;
}

/**
 * Eight rows of one strip of columns, written out: the loop over them would cost more than the copying. Returns the sum of all values
 * times 0, which is 0 for finite ones and NaN for the others.
 */
function transposeEightRows(
  rows: Float32Array,
  start: number,
  begin: number,
  end: number,
  target: Float32Array,
  at: number,
  outputs: number,
  inputs: number,
): number {
  let left = 0;
  let right = 0;
  let to = begin * outputs + at;
  for (let column = begin; column < end; column++) {
    const from = start + column;
    const a = rows[from]!;
    const b = rows[from + inputs]!;
    const c = rows[from + 2 * inputs]!;
    const d = rows[from + 3 * inputs]!;
    const e = rows[from + 4 * inputs]!;
    const f = rows[from + 5 * inputs]!;
    const g = rows[from + 6 * inputs]!;
    const h = rows[from + 7 * inputs]!;
    left += a * 0 + b * 0 + (c * 0 + d * 0);
    right += e * 0 + f * 0 + (g * 0 + h * 0);
    target[to] = a;
    target[to + 1] = b;
    target[to + 2] = c;
    target[to + 3] = d;
    target[to + 4] = e;
    target[to + 5] = f;
    target[to + 6] = g;
    target[to + 7] = h;
    to += outputs;
  }
  return left + right;
}

/** A convolution's kernels from OIHW to HWIO: for each output, [in, height, width] becomes [height, width, in]. */
export function transposeKernels(values: Float32Array, shape: readonly number[], target: Float32Array): void {
  const [outputs, inputs, height, width] = shape as readonly [number, number, number, number];
  const area = height * width;
  for (let output = 0; output < outputs; output++) {
    for (let input = 0; input < inputs; input++) {
      const from = (output * inputs + input) * area;
      for (let pixel = 0; pixel < area; pixel++) {
        target[(pixel * inputs + input) * outputs + output] = values[from + pixel]!;
      }
    }
  }
}

/**
 * Checkpoints in the layout of Microsoft's GenerativeImage2Text (`model.pt`), under the names of Hugging Face's. The differences:
 * CLIP's own names in the vision tower, query, key and value of its attention stacked in one matrix, and a projection
 * `image_encoder.proj` of CLIP's contrastive training that GIT never uses.
 */

/** Longest first where one begins another. The rest of a name is kept. */
const PREFIXES: readonly (readonly [original: string, ours: string])[] = [
  ['image_encoder.class_embedding', 'git.image_encoder.vision_model.embeddings.class_embedding'],
  ['image_encoder.positional_embedding', 'git.image_encoder.vision_model.embeddings.position_embedding.weight'],
  ['image_encoder.conv1.', 'git.image_encoder.vision_model.embeddings.patch_embedding.'],
  ['image_encoder.ln_pre.', 'git.image_encoder.vision_model.pre_layrnorm.'],
  ['image_encoder.ln_post.', 'git.image_encoder.vision_model.post_layernorm.'],
  ['textual.embedding.words.', 'git.embeddings.word_embeddings.'],
  ['textual.embedding.positions.', 'git.embeddings.position_embeddings.'],
  ['textual.embedding.layer_norm.', 'git.embeddings.LayerNorm.'],
  ['textual.transformer.encoder.', 'git.encoder.'],
  ['textual.visual_projection.', 'git.visual_projection.visual_projection.'],
  ['textual.output.', 'output.'],
  ['img_temperal_embedding.', 'git.img_temperal_embedding.'],
];

const BLOCK = /^image_encoder\.transformer\.resblocks\.(\d+)\.(.+)$/;
const BLOCK_PARTS: readonly (readonly [original: string, ours: string])[] = [
  ['attn.out_proj.', 'self_attn.out_proj.'],
  ['ln_1.', 'layer_norm1.'],
  ['ln_2.', 'layer_norm2.'],
  ['mlp.c_fc.', 'mlp.fc1.'],
  ['mlp.c_proj.', 'mlp.fc2.'],
];
const FUSED = /^attn\.in_proj_(weight|bias)$/;
const UNUSED = 'image_encoder.proj';

/** Are these the names of the original project, with or without the `module.` of data-parallel training? */
export const isOriginalLayout = (tensors: TensorMap): boolean =>
  [...tensors.keys()].some((name) => /^(module\.)?(textual\.embedding\.words|image_encoder\.conv1)\./.test(name));

/**
 * The same tensors by Hugging Face's names, query, key and value apart; nothing is read. A name that the original does not have is
 * kept, to be reported with all others when the model is loaded. Throws WeightError (`fused-attention`, `name-collision`).
 */
export function fromOriginalLayout(tensors: TensorMap): TensorMap {
  const result = new Map<string, StoredTensor>();
  const add = (name: string, stored: StoredTensor) => {
    const other = result.get(name);
    if (other)
      throw weightError(stored, 'name-collision', `${nameOf(other.name)} means the same tensor, ${nameOf(name)}`);
    result.set(name, { ...stored, name });
  };
  for (const [fullName, stored] of tensors) {
    const name = fullName.replace(/^module\./, '');
    if (name === UNUSED) continue;
    const [, block, part] = BLOCK.exec(name) ?? [];
    if (block === undefined || part === undefined) {
      add(replacePrefix(name, PREFIXES), stored);
      continue;
    }
    const ours = `git.image_encoder.vision_model.encoder.layers.${block}.`;
    const fused = FUSED.exec(part)?.[1];
    if (fused === undefined) add(ours + replacePrefix(part, BLOCK_PARTS), stored);
    else for (const [which, third] of thirds(stored)) add(`${ours}self_attn.${which}_proj.${fused}`, third);
  }
  return result;
}

function replacePrefix(name: string, table: readonly (readonly [string, string])[]): string {
  const [original, ours] = table.find(([prefix]) => name.startsWith(prefix)) ?? ['', ''];
  return ours + name.slice(original.length);
}

/** The rows of a stacked matrix (or bias) are those of query, then key, then value; each third is read by itself. */
function thirds(stored: StoredTensor): [string, StoredTensor][] {
  const [rows = 0, ...columns] = stored.shape;
  if (rows === 0 || rows % 3 !== 0)
    throw weightError(stored, 'fused-attention', `${rows} rows are not query, key and value`);
  const byteLength = stored.byteLength / 3;
  return ['q', 'k', 'v'].map((which, index) => {
    const start = index * byteLength;
    const read = (begin = 0, end = byteLength) => stored.read(start + begin, start + end);
    return [which, { ...stored, shape: [rows / 3, ...columns], byteLength, read }];
  });
}

const weightError = (stored: StoredTensor, code: string, detail: string) =>
  new WeightError({ file: stored.file, path: nameOf(stored.name), code, detail });

/**
 * What the shapes of a GIT's tensors (Hugging Face's names) say about its config.json, for checkpoints that come without one, as
 * the original's do. Two things are in no shape: the number of heads, taken as 64 wide, as in every published
 * CLIP, BERT and GIT; and the activations and epsilons, which are everywhere the defaults.
 */
export interface InferredConfig {
  readonly [name: string]: number | string | null | Readonly<Record<string, number>>;
  readonly vision_config: Readonly<Record<string, number>>;
}

const HEAD_WIDTH = 64;
/** Guesses, not facts: never held against a config.json. */
const GUESSED: readonly string[] = ['num_attention_heads'];

/** A config.json (as parsed JSON) from shapes. Throws WeightError (`cannot-infer`) naming the tensor that is missing or odd. */
export function inferConfig(tensors: TensorMap, label: string): InferredConfig {
  const vision = 'git.image_encoder.vision_model.';
  const fail = (path: string, detail: string) => new WeightError({ file: label, path, code: 'cannot-infer', detail });
  const shape = (name: string, rank: number): readonly number[] => {
    const found = tensors.get(name)?.shape;
    if (!found) throw fail(name, 'this tensor is missing, and without it the sizes of the model are unknown');
    if (found.length !== rank || found.includes(0)) throw fail(name, `a shape of [${found}] makes no sense here`);
    return found;
  };
  const layers = (prefix: string) => countNumbered(tensors, prefix);

  const [words, hidden] = shape('git.embeddings.word_embeddings.weight', 2) as [number, number];
  const [positions] = shape('git.embeddings.position_embeddings.weight', 2) as [number];
  const [intermediate] = shape('git.encoder.layer.0.intermediate.dense.weight', 2) as [number];
  const [visionHidden, , patch] = shape(`${vision}embeddings.patch_embedding.weight`, 4) as [number, number, number];
  const [visionPositions] = shape(`${vision}embeddings.position_embedding.weight`, 2) as [number];
  const [visionIntermediate] = shape(`${vision}encoder.layers.0.mlp.fc1.weight`, 2) as [number];
  const side = Math.sqrt(visionPositions - 1);
  if (!Number.isInteger(side)) {
    throw fail(
      `${vision}embeddings.position_embedding.weight`,
      `${visionPositions} positions are not a square and a class`,
    );
  }
  const frames = layers('git.img_temperal_embedding.') || layers('git.img_temporal_embedding.');
  return {
    model_type: 'git',
    vocab_size: words,
    hidden_size: hidden,
    num_hidden_layers: layers('git.encoder.layer.'),
    num_attention_heads: Math.max(1, Math.floor(hidden / HEAD_WIDTH)),
    intermediate_size: intermediate,
    max_position_embeddings: positions,
    num_image_with_embedding: frames || null,
    vision_config: {
      hidden_size: visionHidden,
      num_hidden_layers: layers(`${vision}encoder.layers.`),
      num_attention_heads: Math.max(1, Math.floor(visionHidden / HEAD_WIDTH)),
      intermediate_size: visionIntermediate,
      image_size: side * patch,
      patch_size: patch,
    },
  };
}

/** How many numbers 0, 1, 2, … follow a prefix without a gap. */
function countNumbered(tensors: TensorMap, prefix: string): number {
  const numbers = new Set<number>();
  for (const name of tensors.keys()) {
    if (name.startsWith(prefix)) numbers.add(Number.parseInt(name.slice(prefix.length), 10));
  }
  let count = 0;
  while (numbers.has(count)) count++;
  return count;
}

/**
 * Holds a config.json that came with the weights against their shapes: what it states must be so; what it leaves out, or what is in
 * no shape, is not compared. Throws ConfigError (`config-contradicts-weights`) for the first difference.
 */
export function checkInferred(inferred: InferredConfig, given: Json, file = 'config.json'): void {
  const compare = (expected: Readonly<Record<string, unknown>>, found: Json | undefined, path: string) => {
    if (!isJsonObject(found)) return;
    for (const [key, value] of Object.entries(expected)) {
      const stated = found[key];
      if (typeof value === 'object' && value !== null)
        compare(value as Record<string, unknown>, stated, `${path}${key}.`);
      else if (
        stated !== undefined &&
        !GUESSED.includes(key) &&
        (stated ?? null) !== value &&
        !floors(key, stated, value, found)
      ) {
        const detail = `is ${JSON.stringify(stated)}, the weights have ${JSON.stringify(value)}`;
        throw new ConfigError({ file, path: path + key, code: 'config-contradicts-weights', detail });
      }
    }
  };
  compare(inferred, given, '');
}

/** An image that is no whole number of patches has as many positions as the whole patches in it. */
function floors(key: string, stated: Json, inferred: unknown, config: { readonly [name: string]: Json }): boolean {
  const patch = config['patch_size'];
  if (key !== 'image_size' || typeof stated !== 'number' || typeof patch !== 'number') return false;
  return Math.floor(stated / patch) * patch === inferred;
}
