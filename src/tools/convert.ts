import { join, resolve } from 'node:path';
import { type ModelFiles, readBytes } from '../checkpoint/byte-source.js';
import { CONVERT_DTYPES, type ConvertDtype, encodeTensor, type Losses } from '../checkpoint/encode-tensor.js';
import { compareWeights } from '../checkpoint/load-params.js';
import { byteLengthOf, type NewTensor } from '../checkpoint/safetensors.js';
import type { TensorMap } from '../checkpoint/stored-tensor.js';
import { INT8_METADATA } from '../checkpoint/stored-tensor.js';
import { ConfigError, OptionError } from '../errors.js';
import { specEntries, type TensorSpec } from '../layers/param-spec.js';
import { eventSink } from '../load-events.js';
import { gitSpec } from '../model/git.js';
import { canonicalNames, IGNORED, type OpenedGit, openGit, weightHint } from '../model/load-git.js';
import { type HubOptions, openModel } from '../platform/open-model.js';
import { checkDestination, checkSpace, type WrittenFile, withStaging, writeCheckpoint, writeFile } from './files.js';

export interface ConvertOptions extends Omit<HubOptions, 'onProgress' | 'weights'> {
  /** Number format of the weights. For int8 the matrices; vectors, position embeddings and the patch embedding are float32 there. */
  readonly dtype: ConvertDtype;
  /** Most bytes of tensors in one file; a tensor that has more gets a file for itself. Default: one file. */
  readonly maxShardBytes?: number | undefined;
  /** Write into a folder that has files in it. Default false. */
  readonly overwrite?: boolean | undefined;
  /** Receives the download of a source that is named as on the Hub. */
  readonly onDownload?: HubOptions['onProgress'];
  /** Bytes of weights written so far, and in all. */
  readonly onProgress?: ((progress: { readonly loaded: number; readonly total: number }) => void) | undefined;
}

/** What a conversion made. */
export interface Conversion {
  readonly directory: string;
  readonly dtype: ConvertDtype;
  readonly files: readonly WrittenFile[];
  /** How the source was stored. */
  readonly from: { readonly format: OpenedGit['format']; readonly layout: OpenedGit['layout']; readonly bytes: number };
  /** Bytes of all weights, scales included. */
  readonly bytes: number;
  readonly tensors: number;
  /** Weights that were not 0 and are now, because f16 has nothing that small. */
  readonly flushed: number;
  /** What the folder still lacks, or what is odd about the source. */
  readonly warnings: readonly string[];
}

/**
 * Converts a checkpoint of any format that can be loaded (a folder, or a name on the Hub) to safetensors in Hugging Face's layout, with
 * config.json, vocabulary and preprocessor config beside it. Tensors are read and written some megabytes at a time. The folder appears
 * when all of it is written; after a failure or an abort nothing of it is left.
 *
 * @throws OptionError (`destination-exists`, `unknown-dtype`, `shard-size`); WeightError, also `f16-overflow`, `bf16-overflow` and
 *   `f16-underflow`, naming the tensor; what opening the source throws; Image2TextError (`disk-space`, `disk-full`, `cannot-write`);
 *   the signal's reason.
 */
export async function convertCheckpoint(
  source: string | ModelFiles,
  destination: string,
  options: ConvertOptions,
): Promise<Conversion> {
  checkOptions(options);
  await checkDestination(resolve(destination), options.overwrite ?? false); // before anything is fetched
  const files =
    typeof source === 'string' ? await openModel(source, { ...options, onProgress: options.onDownload }) : source;
  const opened = await openGit(files);
  const losses: Losses = { flushed: 0 };
  const groups = encodeAll(opened, files.label, options.dtype, losses);
  const all = groups.flat();
  const total = all.reduce((sum, tensor) => sum + byteLengthOf(tensor), 0);

  return withStaging(resolve(destination), options.overwrite ?? false, async (staging) => {
    await checkSpace(staging, total);
    let loaded = 0;
    const onProgress = options.onProgress && eventSink(options.onProgress);
    const weights = await writeCheckpoint(staging, groups, {
      metadata: { format: 'pt', ...(options.dtype === 'int8' && INT8_METADATA) },
      maxShardBytes: options.maxShardBytes,
      signal: options.signal,
      onBytes(bytes) {
        loaded += bytes;
        onProgress?.({ loaded, total });
      },
    });
    const beside = await writeSmallFiles(files, configOf(opened), options.dtype, staging);
    options.signal?.throwIfAborted();
    return {
      directory: destination,
      dtype: options.dtype,
      files: [...weights, ...beside.files],
      from: { format: opened.format, layout: opened.layout, bytes: bytesOf(opened.tensors) },
      bytes: total,
      tensors: all.length,
      flushed: losses.flushed,
      warnings: [...opened.warnings, ...beside.warnings],
    };
  });
}

/** Every tensor that the model needs in the new format; all names and shapes are compared before anything is written. */
function encodeAll({ config, tensors }: OpenedGit, label: string, dtype: ConvertDtype, losses: Losses): NewTensor[][] {
  const stored = canonicalNames(tensors);
  const needed = specEntries(gitSpec(config));
  compareWeights(needed, stored, { label, ignore: IGNORED, hint: weightHint(config) });
  return needed.map(({ name, spec }) => {
    const narrow = dtype !== 'int8' || isMatrix(spec) ? dtype : 'f32';
    return encodeTensor(stored.get(name)!, narrow, losses);
  });
}

/** What int8 is for: the matrices that make up a checkpoint's size, word embeddings included. */
const isMatrix = ({ layout }: TensorSpec): boolean => layout === 'linear' || layout === 'embedding';

/** A head of its own is written beside the word embeddings; older versions of transformers would tie the two all the same. */
function configOf({ json, tensors }: OpenedGit): unknown {
  const isTied = (json as { readonly tie_word_embeddings?: unknown }).tie_word_embeddings === true;
  return isTied && tensors.has('output.weight') ? { ...(json as object), tie_word_embeddings: false } : json;
}

const bytesOf = (tensors: TensorMap): number =>
  [...tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);

function checkOptions({ dtype, maxShardBytes, signal }: ConvertOptions): void {
  signal?.throwIfAborted();
  if (!CONVERT_DTYPES.includes(dtype)) {
    const detail = `${String(dtype)} is not one of ${CONVERT_DTYPES.join(', ')}`;
    throw new OptionError({ path: 'dtype', code: 'unknown-dtype', detail });
  }
  if (maxShardBytes !== undefined && !(Number.isFinite(maxShardBytes) && maxShardBytes >= 1)) {
    throw new OptionError({
      path: 'maxShardBytes',
      code: 'shard-size',
      detail: `${maxShardBytes} is no number of bytes`,
    });
  }
}

/** The files beside the weights, and is copied as it is where it is there. */
const COPIED = [
  'preprocessor_config.json',
  'processor_config.json',
  'generation_config.json',
  'vocab.txt',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
] as const;
const MAX_BYTES = 64 * 2 ** 20;

/** What Python makes of the weights when it is told to load them as they are. */
const TORCH_DTYPES: Readonly<Record<ConvertDtype, string>> = {
  f32: 'float32',
  f16: 'float16',
  bf16: 'bfloat16',
  int8: 'float32',
};

/** Writes config.json for weights of this format and copies the other small files of a checkpoint into `folder`. */
export async function writeSmallFiles(
  source: ModelFiles,
  config: unknown,
  dtype: ConvertDtype,
  folder: string,
): Promise<{ readonly files: WrittenFile[]; readonly warnings: string[] }> {
  const torch_dtype = TORCH_DTYPES[dtype];
  const text = JSON.stringify({ architectures: ['GitForCausalLM'], ...(config as object), torch_dtype }, undefined, 2);
  const files = [await write(folder, 'config.json', new TextEncoder().encode(`${text}\n`))];
  for (const name of COPIED) {
    const found = await source.open(name);
    if (found === undefined) continue;
    if (found.size > MAX_BYTES) throw new ConfigError({ file: name, code: 'too-large', detail: `${found.size} bytes` });
    files.push(await write(folder, name, await readBytes(found, 0, found.size)));
  }
  const named = new Set(files.map(({ name }) => name));
  const warnings =
    named.has('vocab.txt') || named.has('tokenizer.json')
      ? []
      : ['the source has no vocabulary: put its vocab.txt there (for the published models that of bert-base-uncased)'];
  return { files, warnings };
}

async function write(folder: string, name: string, bytes: Uint8Array): Promise<WrittenFile> {
  await writeFile(join(folder, name), (file) => file.writeFile(bytes));
  return { name, bytes: bytes.length };
}
