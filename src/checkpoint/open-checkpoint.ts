import type { ParamSink, StoredNumbers } from 'tfjs-backend-simd';
import { quote, SafetensorsError, TorchFileError, WeightError } from '../errors.js';
import type { TensorSpec } from '../layers/param-spec.js';
import { type ByteSource, type ModelFiles, readBytes } from './byte-source.js';
import { type ErrorClass, isJsonObject, type Json, parseJsonFile } from './json.js';
import { fromOriginalLayout, isOriginalLayout, ROW_GROUP, transposeKernels, transposeRows } from './layout.js';
import { readSafetensors } from './safetensors.js';
import {
  attachScales,
  dequantize,
  elementCount,
  nameOf,
  readScales,
  renameTensors,
  type StoredTensor,
  storedNumbers,
  type TensorMap,
  toFloat32,
} from './stored-tensor.js';

/** The reader of PyTorch's files comes when there is one: pages with safetensors, which is most of them, do without its 20 kB. */
const torchReader = () => import('./torch/torch-file.js');

const MAX_INDEX_BYTES = 32 * 2 ** 20;
const MAX_SHARDS = 1000;

/** All tensors of a checkpoint that an index spreads over several files. */
export interface ShardedCheckpoint {
  readonly tensors: TensorMap;
  readonly files: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  /** What is odd in the index, but harmless. */
  readonly warnings: readonly string[];
}

/** Opens one shard: its tensors by name, and what its header says beside them. */
export type OpenShard = (
  source: ByteSource,
  file: string,
) => Promise<{ readonly tensors: TensorMap; readonly metadata?: Readonly<Record<string, string>> }>;

/**
 * Reads `model.safetensors.index.json` (or PyTorch's, by another `openShard`) and opens every shard that it names. All or nothing:
 * shard names must be plain file names of the same folder, and each tensor must be in the shard that the map gives it. A tensor that the
 * map forgets is taken from where it is, as transformers does; one that two shards hold and the map forgets is an error.
 * Throws `ErrorClass`, or what `openShard` throws.
 */
export async function readSharded(
  files: ModelFiles,
  index: { readonly name: string; readonly source: ByteSource },
  openShard: OpenShard,
  Failure: ErrorClass = SafetensorsError,
): Promise<ShardedCheckpoint> {
  const fail = (code: string, detail: string, path?: string) => new Failure({ file: index.name, path, code, detail });
  if (index.source.size > MAX_INDEX_BYTES) throw fail('json-size', `an index of ${index.source.size} bytes`);
  const parsed = parseJsonFile(await readBytes(index.source, 0, index.source.size), index.name, Failure);
  const weightMap = readWeightMap(parsed, fail);
  const shards = [...new Set(weightMap.values())].sort();
  if (shards.length > MAX_SHARDS) throw fail('shard-count', `${shards.length} shards; the limit is ${MAX_SHARDS}`);

  const tensors = new Map<string, StoredTensor>();
  const forgotten: string[] = [];
  const headers: Readonly<Record<string, string>>[] = [];
  for (const shard of shards) {
    const source = await files.open(shard);
    if (!source) throw fail('shard-missing', `the index names it, but ${files.label} does not hold it`, shard);
    const opened = await openShard(source, shard);
    headers.push(opened.metadata ?? {});
    for (const [name, stored] of opened.tensors) {
      const home = weightMap.get(name);
      if (home !== undefined && home !== shard) {
        throw fail('weight-map', `${shard} holds it, the index puts it in ${home}`, quote(name));
      }
      const other = tensors.get(name);
      if (other) throw fail('weight-map', `${other.file} and ${shard} hold it, the index does not say whose counts`);
      if (home === undefined) forgotten.push(name);
      tensors.set(name, stored);
    }
  }
  for (const [name, shard] of weightMap) {
    if (!tensors.has(name)) throw fail('weight-map', `the index puts it in ${shard}, which lacks it`, nameOf(name));
  }
  const bytes = [...tensors.values()].reduce((sum, stored) => sum + stored.byteLength, 0);
  const warnings = sizeWarning(parsed, bytes, index.name);
  if (forgotten.length > 0) {
    warnings.push(
      `${index.name}: ${forgotten.length} stored tensors are not listed (${nameOf(forgotten[0]!)}, …); they are used`,
    );
  }
  return { tensors, files: [index.name, ...shards], metadata: common(headers), warnings };
}

/** What all shards say alike: a statement that one of them does not make holds for none of the others either. */
function common(headers: readonly Readonly<Record<string, string>>[]): Record<string, string> {
  const [first = {}, ...others] = headers;
  const agreed = Object.entries(first).filter(([key, text]) => others.every((header) => header[key] === text));
  return Object.assign(Object.create(null), Object.fromEntries(agreed));
}

type Fail = (code: string, detail: string, path?: string) => Error;

function readWeightMap(index: Json, fail: Fail): Map<string, string> {
  if (!isJsonObject(index)) throw fail('index', 'not a JSON object');
  const map = index['weight_map'];
  if (!isJsonObject(map)) throw fail('index', map === undefined ? 'lacks weight_map' : 'weight_map is not an object');
  const result = new Map<string, string>();
  for (const [name, shard] of Object.entries(map)) {
    if (typeof shard !== 'string') throw fail('index', 'a shard name that is not a string', nameOf(name));
    if (!isPlainFileName(shard)) {
      throw fail('shard-name', `${quote(shard)} is not a plain file name of this folder`, nameOf(name));
    }
    result.set(name, shard);
  }
  if (result.size === 0) throw fail('index', 'weight_map is empty');
  return result;
}

/** No way out of the folder on any system, nor by URL: no separators, drives, escapes, control characters, leading dots. */
function isPlainFileName(name: string): boolean {
  return name.length <= 255 && /^[^./\\:*?"<>|%\u0000-\u001f\u007f][^/\\:*?"<>|%\u0000-\u001f\u007f]*$/.test(name);
}

function sizeWarning(index: Json, bytes: number, file: string): string[] {
  const metadata = isJsonObject(index) ? index['metadata'] : undefined;
  const stated = isJsonObject(metadata) ? metadata['total_size'] : undefined;
  return typeof stated === 'number' && stated !== bytes
    ? [`${file}: total_size says ${stated} bytes, the tensors have ${bytes}`]
    : [];
}

/** A checkpoint whose headers were read and checked, and none of whose tensors was. */
export interface OpenCheckpoint {
  /** By Hugging Face's names, whatever the layout of the files. */
  readonly tensors: TensorMap;
  readonly format: CheckpointFormat;
  /** Whose names the files use. */
  readonly layout: 'hugging-face' | 'original';
  /** The files that hold it. */
  readonly files: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  /** What is odd, but harmless. */
  readonly warnings: readonly string[];
}

export type CheckpointFormat = 'safetensors' | 'safetensors-sharded' | 'pytorch' | 'pytorch-sharded';
type Opened = Omit<OpenCheckpoint, 'layout'>;
type Opener = (files: ModelFiles, name: string, source: ByteSource) => Promise<Opened>;

async function openSafetensors(_files: ModelFiles, name: string, source: ByteSource): Promise<Opened> {
  return { format: 'safetensors', files: [name], warnings: [], ...(await readSafetensors(source, name)) };
}

async function openShardedSafetensors(files: ModelFiles, name: string, source: ByteSource): Promise<Opened> {
  return { format: 'safetensors-sharded', ...(await readSharded(files, { name, source }, readSafetensors)) };
}

async function openPytorch(_files: ModelFiles, name: string, source: ByteSource): Promise<Opened> {
  const { readPytorch } = await torchReader();
  return { format: 'pytorch', files: [name], warnings: [], metadata: {}, ...(await readPytorch(source, name)) };
}

async function openShardedPytorch(files: ModelFiles, name: string, source: ByteSource): Promise<Opened> {
  const { readPytorch } = await torchReader();
  return { format: 'pytorch-sharded', ...(await readSharded(files, { name, source }, readPytorch, TorchFileError)) };
}

/** In the order in which they are looked for: what cannot hide a program comes first. */
const FORMATS: readonly (readonly [name: string, open: Opener])[] = [
  ['model.safetensors', openSafetensors],
  ['model.safetensors.index.json', openShardedSafetensors],
  ['pytorch_model.bin', openPytorch],
  ['pytorch_model.bin.index.json', openShardedPytorch],
  ['model.pt', openPytorch],
];

/**
 * Opens the checkpoint of a folder: the first of the known file names that is there. A file that is there and broken is an error;
 * nothing else is tried in its place. Throws WeightError (`no-weights`) when there is none, else what reading the file throws.
 */
export async function openCheckpoint(files: ModelFiles): Promise<OpenCheckpoint> {
  for (const [name, open] of FORMATS) {
    const source = await files.open(name);
    if (source) return byOurNames(await open(files, name, source));
  }
  const names = FORMATS.map(([name]) => name).join(', ');
  throw new WeightError({ file: files.label, code: 'no-weights', detail: `no weights here; looked for ${names}` });
}

/**
 * Opens one file of weights, whatever its name: an index by its ending (its shards come from `files`), else by what it begins with.
 * Throws what reading the file throws.
 */
export async function openWeights(files: ModelFiles, name: string, source: ByteSource): Promise<OpenCheckpoint> {
  return byOurNames(await (await openerOf(name, source))(files, name, source));
}

async function openerOf(name: string, source: ByteSource): Promise<Opener> {
  if (/\.index\.json$/.test(name)) return /\.(bin|pt|pth)\./.test(name) ? openShardedPytorch : openShardedSafetensors;
  if (/\.safetensors$/.test(name)) return openSafetensors;
  if (/\.(bin|pt|pth|ckpt)$/.test(name)) return openPytorch;
  const { looksLikeTorch } = await torchReader();
  return looksLikeTorch(await readBytes(source, 0, Math.min(2, source.size))) ? openPytorch : openSafetensors;
}

function byOurNames(opened: Opened): OpenCheckpoint {
  const stored = withoutWrappers(opened.tensors);
  if (!isOriginalLayout(stored)) {
    const tensors = attachScales(stored, opened.metadata, opened.files[0]!);
    return { ...opened, layout: 'hugging-face', tensors };
  }
  return { ...opened, layout: 'original', tensors: fromOriginalLayout(stored) };
}

/** What torch.compile, data-parallel training and training code put before every name of the model that they wrap. */
const WRAPPERS = ['_orig_mod.', 'module.', 'model.'];
const MAX_WRAPPERS = 8;

/** The same tensors without such prefixes, in any order and number, as far as all names begin with them. */
function withoutWrappers(tensors: TensorMap): TensorMap {
  let result = tensors;
  for (let count = 0; count < MAX_WRAPPERS; count++) {
    const names = [...result.keys()];
    const prefix = WRAPPERS.find((wrapper) => names.every((name) => name.startsWith(wrapper)));
    if (prefix === undefined || names.length === 0) break;
    result = renameTensors(result, (name) => name.slice(prefix.length));
  }
  return result;
}

/** Memory that is used again while a checkpoint is read: what is thrown away makes the collector run every few pieces. */
export interface BufferPool {
  /** Memory of that many bytes, whatever is in it. */
  take(bytes: number): Uint8Array<ArrayBuffer>;
  /** What `take` gave is needed no longer; the caller must not look at it again. */
  give(buffer: Uint8Array<ArrayBuffer>): void;
}

/** Below this the collector hardly notices. */
const SMALL = 2 ** 16;

/** A pool of buffers of `size` bytes; what is much smaller, or larger, is made and left to the collector. */
export function bufferPool(size: number): BufferPool {
  const free: ArrayBuffer[] = [];
  return {
    take(bytes) {
      if (bytes < SMALL || bytes > size) return new Uint8Array(bytes);
      return new Uint8Array(free.pop() ?? new ArrayBuffer(size), 0, bytes);
    },
    give({ buffer, length }) {
      if (length >= SMALL && buffer.byteLength === size) free.push(buffer);
    },
  };
}

/** Elements read at a time where values must be converted or transposed, so that a matrix is in memory once, not twice. */
const PIECE = 2 ** 20;

/** A tensor whose first bytes are on their way. */
export interface Reading {
  /** How many bytes that is. */
  readonly bytesAhead: number;
  /**
   * The float32 values that the parameter holds, transposed to its layout; in `target` where it is given, which has that many elements.
   * Call it once. Throws as `readWeights`.
   */
  finish(target?: Float32Array<ArrayBuffer>): Promise<Float32Array<ArrayBuffer>>;
  /**
   * Instead of `finish`: streams the numbers into `sink` in their order in the file, not transposed, and not widened where it takes them so. Resolves to
   * whether it took them; not if one is too large for it. Throws as `readWeights`.
   */
  streamInto(sink: Omit<ParamSink, 'tensor'>): Promise<boolean>;
}

/** Begins to read a tensor, so that the disk works while another one is being transposed. An error shows in `finish` only. */
export function beginReading(stored: StoredTensor, { shape, layout }: TensorSpec, pool?: BufferPool): Reading {
  const count = elementCount(shape);
  const [outputs = 1, inputs = 1] = shape;
  const units = { 'as-is': 1, embedding: inputs * ROW_GROUP, linear: inputs * ROW_GROUP, conv2d: count };
  const { pieces, rawPieces, bytesAhead } = beginPieces(stored, units[layout], pool);
  return {
    bytesAhead,
    async finish(target = new Float32Array(count)) {
      for await (const piece of pieces()) {
        const { values, first } = piece;
        if (layout === 'linear') {
          if (!transposeRows(values, first / inputs, outputs, inputs, target)) throw nonFinite(stored, piece);
          continue;
        }
        if (!allFinite(values)) throw nonFinite(stored, piece);
        if (layout === 'conv2d') transposeKernels(values, shape, target);
        else target.set(values, first);
      }
      return target;
    },
    async streamInto(sink) {
      const asStored = sink.dtypes.includes(stored.dtype);
      for await (const piece of rawPieces()) {
        const numbers = asStored ? piece.stored() : { dtype: 'F32', data: piece.values() };
        const fault = sink.add(numbers, piece.first);
        if (fault === 'too-large') return false;
        if (fault !== undefined) throw nonFinite(stored, { values: piece.values(), first: piece.first }); // int8 throws its own
      }
      return true;
    },
  };
}

/**
 * Reads one stored tensor as the float32 values that a parameter holds, transposed to its layout.
 * Throws WeightError: `unsupported-dtype`, `non-finite` for NaN and infinity, which no trained weight has and which would only
 * show much later, as an empty caption; `bad-scale` or `int8-range` for int8 weights.
 */
export const readWeights = (stored: StoredTensor, spec: TensorSpec): Promise<Float32Array<ArrayBuffer>> =>
  beginReading(stored, spec).finish();

/** Some values of a tensor as the file has them; `first` is the index of their first element. */
export interface Piece {
  readonly values: Float32Array<ArrayBuffer>;
  readonly first: number;
}
type Pieces = AsyncGenerator<Piece, void, void>;

/** A piece that is widened when it is asked for. */
interface RawPiece {
  readonly first: number;
  stored(): StoredNumbers;
  values(): Float32Array<ArrayBuffer>;
}

/**
 * The float32 values of a stored tensor as the file has them, a million or so at a time. Those of a piece are gone when the next is
 * asked for. Throws as `readWeights`.
 */
export async function* readPieces(stored: StoredTensor, pool?: BufferPool): Pieces {
  for await (const piece of beginPieces(stored, 1, pool).pieces()) {
    if (!allFinite(piece.values)) throw nonFinite(stored, piece);
    yield piece;
  }
}

/** Memory for pieces, to be shared by the tensors of a checkpoint. */
export const piecePool = (): BufferPool => bufferPool(4 * PIECE);

/** Pieces whose `first` is a multiple of `unit`. The first of them is being read when this returns. */
function beginPieces(
  stored: StoredTensor,
  unit: number,
  pool = piecePool(),
): { readonly bytesAhead: number; pieces(): Pieces; rawPieces(): AsyncGenerator<RawPiece, void, void> } {
  const count = elementCount(stored.shape);
  const step = count === 0 ? 0 : Math.min(count, Math.max(1, Math.floor(PIECE / unit)) * unit);
  const itemBytes = count === 0 ? 0 : stored.byteLength / count;
  const read = (first: number) => {
    const end = Math.min(count, first + step);
    const space = pool.take((end - first) * itemBytes);
    const bytes = stored.read(first * itemBytes, end * itemBytes, space);
    return promptly(bytes.then((found) => ({ found, space })));
  };
  const widener = promptly(widenerOf(stored, pool));
  const begun = read(0);
  async function* rawPieces(): AsyncGenerator<RawPiece, void, void> {
    const { widen, scales } = await widener;
    let next = begun;
    for (let first = 0; first < count; first += step) {
      const { found, space } = await next;
      if (first + step < count) next = read(first + step); // while this piece is worked on
      const made: { values?: Float32Array<ArrayBuffer> } = {};
      yield {
        first,
        stored: () => ({ dtype: stored.dtype, data: storedNumbers(stored, found), scales }),
        values: () => (made.values ??= widen(found, first)),
      };
      if (made.values !== undefined && made.values.buffer !== found.buffer) pool.give(bytesOf(made.values));
      pool.give(space);
    }
  }
  async function* pieces(): Pieces {
    for await (const { first, values } of rawPieces()) yield { values: values(), first };
  }
  return { bytesAhead: step * itemBytes, pieces, rawPieces };
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array<ArrayBuffer>): Uint8Array<ArrayBuffer> =>
  new Uint8Array(buffer, byteOffset, byteLength);

/** The promise itself; that nobody waits for it yet, or ever, is no mistake. */
function promptly<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}

/** From bytes of a tensor to float32; `first` is the index of their first element. */
interface Widener {
  widen(bytes: Uint8Array<ArrayBuffer>, first: number): Float32Array<ArrayBuffer>;
  readonly scales: Float32Array | undefined;
}

async function widenerOf(stored: StoredTensor, pool: BufferPool): Promise<Widener> {
  if (stored.dtype === 'F32') return { widen: (bytes) => toFloat32(stored, bytes), scales: undefined };
  const scales = stored.dtype === 'I8' && stored.scales !== undefined ? await readScales(stored.scales) : undefined;
  const itemBytes = stored.byteLength / elementCount(stored.shape);
  const widen = (bytes: Uint8Array<ArrayBuffer>, first: number) => {
    const space = pool.take((bytes.length / itemBytes) * 4);
    const values = new Float32Array(space.buffer, 0, space.length / 4);
    if (scales === undefined) return toFloat32(stored, bytes, values);
    dequantize(stored, bytes, first, scales, values);
    return values;
  };
  return { widen, scales };
}

/** x * 0 is 0 for every finite x and NaN for the others; four sums, because one would wait for itself. */
function allFinite(values: Float32Array): boolean {
  const even = values.length & ~3;
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;
  for (let i = 0; i < even; i += 4) {
    a += values[i]! * 0;
    b += values[i + 1]! * 0;
    c += values[i + 2]! * 0;
    d += values[i + 3]! * 0;
  }
  for (let i = even; i < values.length; i++) a += values[i]! * 0;
  return a + b + c + d === 0;
}

function nonFinite(stored: StoredTensor, { values, first }: Piece): WeightError {
  const index = values.findIndex((value) => !Number.isFinite(value));
  return new WeightError({
    file: stored.file,
    path: nameOf(stored.name),
    code: 'non-finite',
    detail: `value ${first + index} is ${values[index]}${stored.dtype === 'F64' ? ' as float32' : ''}`,
  });
}
