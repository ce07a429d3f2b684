import { rmSync } from 'node:fs';
import { type FileHandle, mkdir, readdir, rename, rm, rmdir, stat, statfs } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { type ModelFiles, readBytes } from '../checkpoint/byte-source.js';
import { CONVERT_DTYPES, type ConvertDtype, type Losses } from '../checkpoint/encode-tensor.js';
import { byteLengthOf, type NewTensor, planSafetensors } from '../checkpoint/safetensors.js';
import type { TensorMap } from '../checkpoint/stored-tensor.js';
import { ConfigError, Image2TextError, OptionError } from '../errors.js';
import { eventSink } from '../load-events.js';
import { convertedMetadata, convertTensors } from '../model/convert-git.js';
import { type OpenedGit, openGit } from '../model/load-git.js';
import { type HubOptions, openModel } from '../platform/open-model.js';
import { sweepTemporaries, temporaryIn, writeThrough } from '../platform/write-whole.js';

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
  const groups = convertTensors(opened, files.label, options.dtype, losses);
  const all = groups.flat();
  const total = all.reduce((sum, tensor) => sum + byteLengthOf(tensor), 0);

  return withStaging(resolve(destination), options.overwrite ?? false, async (staging) => {
    await checkSpace(staging, total);
    let loaded = 0;
    const onProgress = options.onProgress && eventSink(options.onProgress);
    const weights = await writeCheckpoint(staging, groups, {
      metadata: convertedMetadata(options.dtype),
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

/** What the tools need of the file system: its errors in our words, and writing that leaves nothing half-done. */

/** A file system's error as Image2TextError `disk-full` or `cannot-write`; everything else passes through. */
export function writeError(error: unknown, path: string): unknown {
  const code = String((error as { code?: unknown } | null)?.code ?? '');
  if (error instanceof Image2TextError || !/^E[A-Z0-9]+$/.test(code)) return error;
  const full = /^(?:ENOSPC|EDQUOT|EFBIG)$/.test(code);
  return new Image2TextError({
    file: path,
    code: full ? 'disk-full' : 'cannot-write',
    detail: full ? 'no space is left' : `it cannot be written here (${code})`,
    cause: error,
  });
}

/** `writeThrough`, in our errors. */
async function writeFile(path: string, write: (file: FileHandle) => Promise<void>): Promise<void> {
  await writeThrough(path, write).catch((error: unknown) => {
    throw writeError(error, path);
  });
}

/** Is there something at this path: nothing, an empty folder, a folder with files, or no folder? */
export async function whatIsAt(path: string): Promise<'nothing' | 'empty' | 'folder' | 'file'> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) return 'nothing';
  if (!found.isDirectory()) return 'file';
  return (await readdir(path)).length === 0 ? 'empty' : 'folder';
}

/** Bytes that a user may still write to the file system of an existing folder; undefined where it does not say. */
export async function freeBytes(folder: string): Promise<number | undefined> {
  const { bavail, bsize } = await statfs(folder).catch(() => ({ bavail: Number.NaN, bsize: 1 }));
  return Number.isFinite(bavail) ? bavail * bsize : undefined;
}

/** Throws Image2TextError (`disk-space`) where `bytes` do not fit the file system of `folder`. */
async function checkSpace(folder: string, bytes: number): Promise<void> {
  const free = await freeBytes(folder);
  if (free === undefined || free >= bytes) return;
  const detail = `${megabytes(bytes)} are needed, ${megabytes(free)} are free`;
  throw new Image2TextError({ file: folder, code: 'disk-space', detail });
}

/** Bytes for people: `176.6 MB`. */
export function megabytes(bytes: number): string {
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}

/**
 * Runs `body` with an empty folder beside `destination`, which takes its place when `body` has ended well and is removed when not, also
 * where a signal ends the process. What killed processes left there is removed first.
 *
 * @throws OptionError (`destination-exists`); Image2TextError (`cannot-write`); what `body` throws.
 */
async function withStaging<T>(
  destination: string,
  overwrite: boolean,
  body: (staging: string) => Promise<T>,
): Promise<T> {
  const parent = dirname(destination);
  const staging = temporaryIn(parent);
  const keep = removeAtExit(staging);
  try {
    await mkdir(parent, { recursive: true });
    await sweepTemporaries(parent);
    await mkdir(staging);
    const result = await body(staging);
    await publish(staging, destination, overwrite);
    return result;
  } catch (error) {
    await rm(staging, { recursive: true, force: true }).catch(() => undefined);
    throw writeError(error, destination);
  } finally {
    keep();
  }
}

const SIGNALS = ['SIGTERM', 'SIGHUP', 'SIGINT'] as const;

/** Removes a folder when the process exits or a signal ends it; a program that listens to the signal decides itself. Undone by the result. */
function removeAtExit(folder: string): () => void {
  const remove = () => rmSync(folder, { recursive: true, force: true });
  const onSignal = (signal: NodeJS.Signals) => {
    if (process.listenerCount(signal) > 1) return;
    remove();
    undo();
    process.kill(process.pid, signal);
  };
  const undo = () => {
    process.off('exit', remove);
    for (const signal of SIGNALS) process.off(signal, onSignal);
  };
  process.on('exit', remove);
  for (const signal of SIGNALS) process.on(signal, onSignal);
  return undo;
}

/** Throws OptionError (`destination-exists`) where files would be in the way. */
async function checkDestination(destination: string, overwrite: boolean): Promise<void> {
  const there = await whatIsAt(destination);
  if (there === 'nothing' || there === 'empty' || (there === 'folder' && overwrite)) return;
  const detail =
    there === 'file' ? 'this is a file; name a folder' : 'there are files in it; ask for overwriting, or name another';
  throw new OptionError({ file: destination, path: 'destination', code: 'destination-exists', detail });
}

/** One rename where there is no folder of that name; else file by file, since other files of that folder are none of our business. */
async function publish(staging: string, destination: string, overwrite: boolean): Promise<void> {
  if ((await whatIsAt(destination)) === 'empty') await rmdir(destination);
  if ((await whatIsAt(destination)) === 'nothing') return rename(staging, destination);
  await checkDestination(destination, overwrite); // it may have come while we were writing
  const fresh = await readdir(staging);
  for (const old of await readdir(destination)) {
    if (isWeights(old) && !fresh.includes(old)) await rm(join(destination, old));
  }
  for (const name of fresh) await rename(join(staging, name), join(destination, name));
  await rmdir(staging);
}

/** Weights of an earlier conversion: left there, they would be loaded instead of, or together with, the new ones. */
const isWeights = (name: string): boolean =>
  /^(model|pytorch_model)(-\d{5}-of-\d{5})?\.(safetensors|bin)(\.index\.json)?$/.test(name) || name === 'model.pt';

export interface WriteOptions {
  /** Goes into the `__metadata__` of every file. */
  readonly metadata?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
  /** Receives how many bytes were written, after each piece. */
  readonly onBytes?: ((bytes: number) => void) | undefined;
}

/** A file that was written. */
export interface WrittenFile {
  readonly name: string;
  readonly bytes: number;
}

/**
 * Writes one safetensors file, tensor by tensor, under another name that becomes `path` when all is there.
 *
 * @throws Image2TextError (`cannot-write`, `disk-full`), what the tensors' pieces throw, or the signal's reason; nothing is left then.
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly NewTensor[],
  options: WriteOptions = {},
): Promise<number> {
  const { header, tensors: ordered, size } = planSafetensors(tensors, options.metadata ?? {});
  await writeFile(path, async (file) => {
    await writeAll(file, header);
    for (const tensor of ordered) await writeTensor(file, tensor, options);
  });
  return size;
}

async function writeTensor(file: FileHandle, tensor: NewTensor, { signal, onBytes }: WriteOptions): Promise<void> {
  let written = 0;
  for await (const piece of tensor.pieces()) {
    signal?.throwIfAborted();
    await writeAll(file, piece);
    written += piece.byteLength;
    onBytes?.(piece.byteLength);
  }
  // A header that promises other sizes would be a file that nobody can read.
  if (written !== byteLengthOf(tensor))
    throw new Error(`${tensor.name}: ${written} bytes, not ${byteLengthOf(tensor)}`);
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) done += (await file.write(bytes, done)).bytesWritten;
}

/**
 * Writes a checkpoint into a folder: `model.safetensors`, or where its tensors have more than `maxShardBytes`, as many files as it takes
 * with their index. The tensors of one group stay together.
 *
 * @throws as `writeSafetensors`; files that are whole by then stay.
 */
export async function writeCheckpoint(
  folder: string,
  groups: readonly (readonly NewTensor[])[],
  options: WriteOptions & { readonly maxShardBytes?: number | undefined } = {},
): Promise<WrittenFile[]> {
  const shards = intoShards(groups, options.maxShardBytes ?? Number.POSITIVE_INFINITY);
  const number = (n: number) => String(n).padStart(5, '0');
  const names = shards.map((_, n) =>
    shards.length === 1 ? 'model.safetensors' : `model-${number(n + 1)}-of-${number(shards.length)}.safetensors`,
  );
  const written: WrittenFile[] = [];
  for (const [n, tensors] of shards.entries()) {
    written.push({ name: names[n]!, bytes: await writeSafetensors(join(folder, names[n]!), tensors, options) });
  }
  if (shards.length > 1) written.push(await writeIndex(folder, shards, names));
  return written;
}

/** Groups in their order, as many to a shard as fit; a group that is larger than a shard has one for itself. */
function intoShards(groups: readonly (readonly NewTensor[])[], most: number): NewTensor[][] {
  const shards: NewTensor[][] = [[]];
  let bytes = 0;
  for (const group of groups) {
    const size = group.reduce((sum, tensor) => sum + byteLengthOf(tensor), 0);
    if (bytes > 0 && bytes + size > most) {
      shards.push([]);
      bytes = 0;
    }
    shards.at(-1)!.push(...group);
    bytes += size;
  }
  return shards;
}

async function writeIndex(folder: string, shards: readonly NewTensor[][], names: readonly string[]) {
  const placed = shards.flatMap((tensors, n) => tensors.map(({ name }) => [name, names[n]!] as const));
  const total = shards.flat().reduce((sum, tensor) => sum + byteLengthOf(tensor), 0);
  const index = {
    metadata: { total_size: total },
    weight_map: Object.fromEntries(placed.sort(([a], [b]) => (a < b ? -1 : 1))),
  };
  const name = 'model.safetensors.index.json';
  const bytes = new TextEncoder().encode(`${JSON.stringify(index, undefined, 2)}\n`);
  await writeFile(join(folder, name), (file) => file.writeFile(bytes));
  return { name, bytes: bytes.length };
}
