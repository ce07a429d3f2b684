import { dispose, type Tensor, type Tensor2D, tensor } from '@tensorflow/tfjs-core';
import * as z from 'zod/mini';
import { type ByteSource, fromBytes, type ModelFiles, readBytes } from '../checkpoint/byte-source.js';
import { readJson } from '../checkpoint/json.js';
import { type NewTensor, planSafetensors, readSafetensors } from '../checkpoint/safetensors.js';
import type { TensorMap } from '../checkpoint/stored-tensor.js';
import { ConfigError, OptionError, SafetensorsError } from '../errors.js';
import { type Image2Text, partsOf } from '../image2text/image2text.js';
import { type Git, namedParameters, storedLayouts, toStoredLayout } from '../model/git.js';
import type { GitConfig } from '../model/git-config.js';
import { type Adapter, checkAdapter, type LoraAdapter } from '../model/lora.js';
import type { Moments, OptimizationState } from './optimizer.js';

/** A folder that a run writes into: `trainingFolder(path)` of generative-image2text/node, or one in memory. Names may have folders: `best/config.json`. */
export interface TrainingFolder extends ModelFiles {
  /** Writes a file: afterwards it is there with all its bytes, or, after a failure, as it was before. */
  write(name: string, pieces: AsyncIterable<Uint8Array>): Promise<void>;
  /** Adds text to the end of a file. */
  append(name: string, text: string): Promise<void>;
}

/** A folder in memory, for pages and tests; `files` holds what was written. */
export function memoryFolder(
  label = 'memory',
): TrainingFolder & { readonly files: Map<string, Uint8Array<ArrayBuffer>> } {
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  return {
    label,
    files,
    async open(name): Promise<ByteSource | undefined> {
      const bytes = files.get(name);
      return bytes === undefined ? undefined : fromBytes(bytes);
    },
    async write(name, pieces) {
      files.set(name, await joined(pieces));
    },
    async append(name, text) {
      const before = files.get(name) ?? new Uint8Array();
      files.set(name, await joined(listed([before, new TextEncoder().encode(text)])));
    },
  };
}

async function* listed(pieces: readonly Uint8Array[]): AsyncGenerator<Uint8Array, void, void> {
  yield* pieces;
}

/** All pieces as one. */
export async function joined(pieces: AsyncIterable<Uint8Array>): Promise<Uint8Array<ArrayBuffer>> {
  const all: Uint8Array[] = [];
  for await (const piece of pieces) all.push(piece);
  const bytes = new Uint8Array(all.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of all) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/** A text as the pieces of a file. */
export const textPieces = (text: string): AsyncIterable<Uint8Array> => listed([new TextEncoder().encode(text)]);

/** Bytes as the pieces of a file. */
export const bytePieces = (bytes: Uint8Array): AsyncIterable<Uint8Array> => listed([bytes]);

/** A tensor as a file stores it; it is read when its turn comes. `stored` makes what is written, and is disposed of. */
export const newTensor = (name: string, shape: readonly number[], stored: () => Tensor): NewTensor => ({
  name,
  dtype: 'F32',
  shape,
  async *pieces() {
    const values = stored();
    try {
      const data = (await values.data()) as Float32Array;
      yield new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    } finally {
      values.dispose();
    }
  },
});

/** A safetensors file, tensor by tensor. */
export async function* safetensorsPieces(
  tensors: readonly NewTensor[],
  metadata: Readonly<Record<string, string>>,
): AsyncGenerator<Uint8Array, void, void> {
  const { header, tensors: ordered } = planSafetensors(tensors, metadata);
  yield header;
  for (const tensor of ordered) yield* tensor.pieces();
}

/** The part of a folder below `prefix`. */
export const subfolder = (folder: TrainingFolder, prefix: string): TrainingFolder => ({
  label: `${folder.label}/${prefix}`,
  open: (name) => folder.open(`${prefix}/${name}`),
  write: (name, pieces) => folder.write(`${prefix}/${name}`, pieces),
  append: (name, text) => folder.append(`${prefix}/${name}`, text),
});

// --- A model in the layout of a published checkpoint ---

/** Files of a checkpoint that training leaves as they are. */
const COPIED = [
  'config.json',
  'preprocessor_config.json',
  'processor_config.json',
  'generation_config.json',
  'vocab.txt',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
] as const;

/** Why a model cannot be written. */
export const NO_FILES =
  'the model was made of parts, so that there is no vocabulary and no config.json to write beside its weights';

/**
 * Writes a model as a folder that `loadImage2Text` and transformers load: model.safetensors in float32 with Hugging Face's names and layout, the
 * other files as those that the model was loaded from, and `card` as README.md.
 *
 * @param git the weights; by default those in use.
 * @throws OptionError (`no-files`) for a model that was not loaded from files; what the folder throws.
 */
export async function saveModel(
  model: Image2Text,
  folder: TrainingFolder,
  { git = model.git, card }: { readonly git?: Git; readonly card?: string | undefined } = {},
): Promise<void> {
  const { files } = partsOf(model);
  if (files === undefined) throw new OptionError({ path: 'model', code: 'no-files', detail: NO_FILES });
  for (const name of COPIED) {
    const source = await files.open(name);
    if (source !== undefined)
      await folder.write(name, bytePieces(configured(name, await readBytes(source, 0, source.size))));
    else if (name === 'config.json') await folder.write(name, textPieces(configJson(model.config)));
  }
  if (card !== undefined) await folder.write('README.md', textPieces(card));
  const layouts = storedLayouts(git.config);
  const tensors = [...namedParameters(git)].map(([name, parameter]) => {
    const layout = layouts.get(name)!;
    return newTensor(name, storedShape(layout, parameter.shape), () => toStoredLayout(layout, parameter));
  });
  await folder.write('model.safetensors', safetensorsPieces(tensors, { format: 'pt' }));
}

const storedShape = (layout: string, shape: readonly number[]): readonly number[] =>
  layout === 'linear' ? [shape[1]!, shape[0]!] : layout === 'conv2d' ? [3, 2, 0, 1].map((axis) => shape[axis]!) : shape;

/** As it was, unless it says what is no longer so: a head tied to the word embeddings, which is trained and written apart, or narrow weights. */
function configured(name: string, bytes: Uint8Array): Uint8Array {
  if (name !== 'config.json') return bytes;
  const json = readJson(bytes, name) as Record<string, unknown>;
  const changed: Record<string, unknown> = { ...json };
  if (json['tie_word_embeddings'] === true) changed['tie_word_embeddings'] = false;
  for (const key of ['torch_dtype', 'dtype']) if (json[key] !== undefined) changed[key] = 'float32';
  if (Object.keys(json).every((key) => changed[key] === json[key])) return bytes;
  return new TextEncoder().encode(`${JSON.stringify(changed, undefined, 2)}\n`);
}

/** config.json of a model in the original's layout, which has none. */
function configJson(c: GitConfig): string {
  const config = {
    architectures: ['GitForCausalLM'],
    model_type: 'git',
    ...{ vocab_size: c.vocabSize, hidden_size: c.hiddenSize, num_hidden_layers: c.numHiddenLayers },
    ...{ num_attention_heads: c.numAttentionHeads, intermediate_size: c.intermediateSize, hidden_act: c.hiddenAct },
    ...{ layer_norm_eps: c.layerNormEps, max_position_embeddings: c.maxPositionEmbeddings, tie_word_embeddings: false },
    ...{
      bos_token_id: c.bosTokenId,
      eos_token_id: c.eosTokenIds.length === 1 ? c.eosTokenIds[0] : c.eosTokenIds,
      pad_token_id: c.padTokenId,
    },
    num_image_with_embedding: c.numImageWithEmbedding === 0 ? null : c.numImageWithEmbedding,
    vision_config: {
      model_type: 'git_vision_model',
      ...{ hidden_size: c.vision.hiddenSize, intermediate_size: c.vision.intermediateSize },
      ...{ num_hidden_layers: c.vision.numHiddenLayers, num_attention_heads: c.vision.numAttentionHeads },
      ...{ image_size: c.vision.imageSize, patch_size: c.vision.patchSize },
      ...{ hidden_act: c.vision.hiddenAct, layer_norm_eps: c.vision.layerNormEps },
    },
    torch_dtype: 'float32',
  };
  return `${JSON.stringify(config, undefined, 2)}\n`;
}

// --- LoRA adapters as PEFT stores them ---

const ADAPTER_FILE = 'adapter_model.safetensors';
const ADAPTER_CONFIG = 'adapter_config.json';
const PEFT_PREFIX = 'base_model.model.';

/**
 * Writes an adapter as PEFT does: adapter_model.safetensors with `base_model.model.NAME.lora_A.weight` and `…lora_B.weight`, and
 * adapter_config.json.
 *
 * @param base what the adapter is for: a name on the Hub or a folder.
 */
export async function saveAdapter(adapter: LoraAdapter, folder: TrainingFolder, base?: string): Promise<void> {
  const tensors = [...adapter.layers].flatMap(([name, { a, b }]) => [
    newTensor(`${PEFT_PREFIX}${name}.lora_A.weight`, a.shape, () => a.clone()),
    newTensor(`${PEFT_PREFIX}${name}.lora_B.weight`, b.shape, () => b.clone()),
  ]);
  const config = {
    base_model_name_or_path: base ?? null,
    ...{ bias: 'none', fan_in_fan_out: false, inference_mode: true, init_lora_weights: true },
    ...{ lora_alpha: adapter.alpha, lora_dropout: 0, modules_to_save: null, peft_type: 'LORA', r: adapter.rank },
    // Names in full: PEFT takes a list for ends of names, and "query" means the same layers here and there, but "0" or "dense" might not.
    target_modules: [...adapter.layers.keys()],
    ...{ task_type: null, use_dora: false, use_rslora: false },
  };
  await folder.write(ADAPTER_CONFIG, textPieces(`${JSON.stringify(config, undefined, 2)}\n`));
  await folder.write(ADAPTER_FILE, safetensorsPieces(tensors, { format: 'pt' }));
}

/**
 * Loads an adapter that this library or PEFT wrote, for `model.useAdapter`. The caller owns it: `disposeAdapter`.
 *
 * @throws ConfigError for an adapter of another kind (DoRA, biases); SafetensorsError; OptionError where it does not fit the model.
 */
export async function loadAdapter(files: ModelFiles, model: Pick<Image2Text, 'git'>): Promise<LoraAdapter> {
  const { rank, alpha, scaleOf } = await readAdapterConfig(files);
  const source = await files.open(ADAPTER_FILE);
  if (source === undefined)
    throw new ConfigError({
      file: files.label,
      path: ADAPTER_FILE,
      code: 'missing-file',
      detail: 'there is none in this folder',
    });
  const { tensors } = await readSafetensors(source, ADAPTER_FILE);
  const layers = new Map<string, Adapter>();
  const made: Tensor[] = [];
  try {
    for (const [name] of tensors) {
      const layer = /^base_model\.model\.(.+)\.lora_A\.weight$/.exec(name)?.[1];
      if (layer === undefined) {
        if (/\.lora_B\.weight$/.test(name)) continue;
        throw new ConfigError({
          file: ADAPTER_FILE,
          path: name,
          code: 'unknown-tensor',
          detail: 'only lora_A and lora_B are known',
          unsupported: true,
        });
      }
      const read = async (which: 'A' | 'B'): Promise<Tensor2D> => {
        const matrix = (await readTensor(
          tensors,
          `${PEFT_PREFIX}${layer}.lora_${which}.weight`,
          ADAPTER_FILE,
        )) as Tensor2D;
        made.push(matrix);
        return matrix;
      };
      const [a, b] = [await read('A'), await read('B')];
      layers.set(layer, { a, b, scale: scaleOf(layer, a.shape[0]) });
    }
    const adapter = { rank, alpha, targets: [...layers.keys()], layers };
    checkAdapter(model.git, adapter);
    return adapter;
  } catch (error) {
    dispose(made);
    throw error;
  }
}

/** An option of PEFT that must be off here: absent, null, an empty list, or its own word for it. */
const isOff = (word?: unknown) =>
  z.nullish(
    z.custom((found) => found === word || isEmpty(found), {
      error: ({ input }) => `${JSON.stringify(input)} is not possible here`,
    }),
  );
const isEmpty = (value: unknown): boolean => Array.isArray(value) && value.length === 0;
const perLayer = z.nullish(z.record(z.string(), z.never('one rank and one alpha for all layers are possible')));

const adapterSchema = z.object({
  peft_type: z.literal('LORA', { error: ({ input }) => `expected "LORA", found ${JSON.stringify(input)}` }),
  r: z.int('expected a whole number from 1 on').check(z.minimum(1, 'expected a whole number from 1 on')),
  lora_alpha: z.number('expected a number'),
  use_rslora: z.optional(z.unknown()),
  use_dora: isOff(false),
  fan_in_fan_out: isOff(false),
  bias: isOff('none'),
  modules_to_save: isOff(),
  rank_pattern: perLayer,
  alpha_pattern: perLayer,
});

/** The codes of what may be otherwise; every other key says what is unsupported. */
const ADAPTER_CODES: Readonly<Record<string, string>> = { r: 'rank', lora_alpha: 'alpha', '': 'not-an-object' };

async function readAdapterConfig(files: ModelFiles) {
  const source = await files.open(ADAPTER_CONFIG);
  if (source === undefined)
    throw new ConfigError({
      file: files.label,
      path: ADAPTER_CONFIG,
      code: 'missing-file',
      detail: 'there is none in this folder',
    });
  const parsed = z.safeParse(adapterSchema, readJson(await readBytes(source, 0, source.size), ADAPTER_CONFIG));
  if (!parsed.success) {
    const { path: keys, message } = parsed.error.issues[0]!;
    const path = String(keys[0] ?? '');
    const code = ADAPTER_CODES[path] ?? 'unsupported';
    throw new ConfigError({
      file: ADAPTER_CONFIG,
      path: path || undefined,
      code,
      detail: message,
      unsupported: code === 'unsupported',
    });
  }
  const { r: rank, lora_alpha: alpha, use_rslora: rootScale } = parsed.data;
  const scaleOf = (_: string, r: number): number => alpha / (rootScale === true ? Math.sqrt(r) : r);
  return { rank, alpha, scaleOf };
}

async function readTensor(tensors: TensorMap, name: string, file: string): Promise<Tensor> {
  const stored = tensors.get(name);
  if (stored === undefined)
    throw new SafetensorsError({ file, path: name, code: 'missing', detail: 'this tensor is not in the file' });
  if (stored.dtype !== 'F32')
    throw new SafetensorsError({
      file,
      path: name,
      code: 'dtype',
      detail: `${stored.dtype}; F32 is expected`,
      unsupported: true,
    });
  const bytes = await stored.read();
  const values = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  return tensor(values, [...stored.shape], 'float32');
}

// --- A run, to go on with ---

/** Where a run is: all that decides what comes next, besides its options and its data. */
export interface RunPosition {
  readonly epoch: number;
  /** How many pairs of the epoch's order were drawn. */
  readonly drawn: number;
  /** The best validation loss so far. */
  readonly best: number | null;
  /** The first loss, to see whether it rises. */
  readonly firstLoss: number | null;
}

const STATE_FILE = 'state.safetensors';
const STATE_KIND = 'generative-image2text training state 1';

const count = z.int().check(z.minimum(0));
const runSchema = z.object({
  step: count,
  position: z.object({
    ...{ epoch: count, drawn: count },
    ...{ best: z.nullable(z.number()), firstLoss: z.nullable(z.number()) },
  }),
  identity: z.record(z.string(), z.unknown()),
});

/** The metadata `run` of a state. @throws ConfigError (`not-a-run`) naming the first key that is not as `saveRun` writes it. */
function readRun(text: string): z.infer<typeof runSchema> {
  const json = readJson(new TextEncoder().encode(text), STATE_FILE);
  const parsed = z.safeParse(runSchema, json);
  if (parsed.success) return parsed.data;
  const { path, message } = parsed.error.issues[0]!;
  throw new ConfigError({ file: STATE_FILE, path: ['run', ...path].join('.'), code: 'not-a-run', detail: message });
}

/** Writes the state of a run as one file, so that it is there as a whole or as it was before. `identity` is what has to be equal to go on. */
export async function saveRun(
  folder: TrainingFolder,
  state: OptimizationState,
  position: RunPosition,
  identity: Readonly<Record<string, unknown>>,
): Promise<void> {
  const plain = (name: string, parameter: Tensor) => newTensor(name, parameter.shape, () => parameter.clone());
  const tensors = [
    ...[...state.parameters].map(([name, parameter]) => plain(`parameter.${name}`, parameter)),
    ...[...state.moments].flatMap(([name, { first, second }]) => [
      plain(`first.${name}`, first),
      plain(`second.${name}`, second),
    ]),
  ];
  const run = JSON.stringify({ step: state.step, position, identity });
  await folder.write(STATE_FILE, safetensorsPieces(tensors, { kind: STATE_KIND, run }));
}

/**
 * Reads the state of a run; undefined where there is none. The caller owns the tensors.
 *
 * @throws OptionError (`resume-differs`) naming the first option or fact that is another one; ConfigError, SafetensorsError for a file that is
 *   no such state.
 */
export async function loadRun(
  folder: ModelFiles,
  identity: Readonly<Record<string, unknown>>,
): Promise<{ readonly state: OptimizationState; readonly position: RunPosition } | undefined> {
  const source = await folder.open(STATE_FILE);
  if (source === undefined) return undefined;
  const { tensors, metadata } = await readSafetensors(source, STATE_FILE);
  if (metadata['kind'] !== STATE_KIND)
    throw new ConfigError({
      file: STATE_FILE,
      path: 'kind',
      code: 'not-a-run',
      detail: 'this is no state of a training run',
    });
  const run = readRun(metadata['run'] ?? '');
  const wanted = JSON.parse(JSON.stringify(identity)) as Record<string, unknown>;
  for (const key of new Set([...Object.keys(wanted), ...Object.keys(run.identity)])) {
    const [now, then] = [JSON.stringify(wanted[key]), JSON.stringify(run.identity[key])];
    if (now === then) continue;
    const detail =
      key === 'model'
        ? `the run in ${folder.label} began with other weights`
        : `the run in ${folder.label} has ${then}, this one ${now}: it would not end as it was to`;
    throw new OptionError({ path: key, code: 'resume-differs', detail });
  }
  const parameters = new Map<string, Tensor>();
  const moments = new Map<string, Moments>();
  const made: Tensor[] = [];
  const read = async (name: string): Promise<Tensor> => {
    const values = await readTensor(tensors, name, STATE_FILE);
    made.push(values);
    return values;
  };
  try {
    for (const name of tensors.keys()) {
      const [, kind, parameter] = /^(parameter|first)\.(.+)$/.exec(name) ?? [];
      if (kind === 'parameter') parameters.set(parameter!, await read(name));
      if (kind === 'first')
        moments.set(parameter!, { first: await read(name), second: await read(`second.${parameter}`) });
    }
  } catch (error) {
    dispose(made);
    throw error;
  }
  return { state: { step: run.step, parameters, moments }, position: run.position };
}
