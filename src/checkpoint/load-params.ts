import { backend, dispose, getBackend, type Tensor, tensor, tensor1d } from '@tensorflow/tfjs-core';
import type { ParamSink, WeightFormat } from 'tfjs-backend-simd';
import { BackendError, OptionError, WeightError, type WeightFault } from '../errors.js';
import {
  type Layout,
  mapSpec,
  type ParamsOf,
  type SpecTree,
  specEntries,
  type TensorSpec,
} from '../layers/param-spec.js';
import { eventSink } from '../load-events.js';
import { transposedShape } from './layout.js';
import { beginReading, piecePool, type Reading } from './open-checkpoint.js';
import { elementCount, isWeight, nameOf, type StoredTensor, type TensorMap, WEIGHT_FORMATS } from './stored-tensor.js';

/**
 * What a tfjs backend may offer beyond tfjs: to make parameters from the pieces of a file itself. Ours does (`startParam` of tfjs-backend-simd).
 * Undefined for layouts that it leaves to others.
 */
export type StartParam = (shape: readonly number[], layout: Layout, format: WeightFormat) => ParamSink | undefined;

/** A backend with it; `weightFormats` are those that it keeps, where they are not all. */
interface ParamStarter {
  readonly startParam?: StartParam;
  readonly weightFormats?: readonly WeightFormat[];
}

/** A parameter that the model needs. */
export interface NeededParam {
  readonly name: string;
  readonly spec: TensorSpec;
}

export interface CompareOptions {
  readonly label: string;
  /** Tensors of these names may be left over (buffers such as position_ids). */
  readonly ignore: readonly RegExp[];
  /** Guesses the cause from all faults, for the last line of the report. */
  readonly hint?: ((faults: readonly WeightFault[]) => string | undefined) | undefined;
}

/** Says which tensors a checkpoint holds that a model does not need: in one warning, or none. */
export function unusedTensors(
  needed: readonly NeededParam[],
  stored: TensorMap,
  { label, ignore, hint }: CompareOptions,
): string[] {
  const unused = findFaults(needed, stored, ignore).filter(({ kind }) => kind === 'unexpected');
  if (unused.length === 0) return [];
  const cause = hint?.(unused);
  const tensors = unused.length === 1 ? 'tensor is' : 'tensors are';
  return [
    `${label}: ${unused.length} ${tensors} not used ${some(unused.map(({ name }) => nameOf(name)))}${cause ? `; ${cause}` : ''}`,
  ];
}

/**
 * Compares what a checkpoint holds with what a model needs, by the headers alone. Throws one WeightError for all that is missing or
 * misshapen (`weights-do-not-fit`, and then also what is left over), or of a dtype that cannot become a weight (`unsupported-dtype`).
 * Tensors that are only left over are no error: `unusedTensors` names them.
 */
export function compareWeights(needed: readonly NeededParam[], stored: TensorMap, options: CompareOptions): void {
  const faults = findFaults(needed, stored, options.ignore);
  const unreadable = needed
    .map(({ name }) => stored.get(name))
    .filter((tensor) => tensor !== undefined && !isWeight(tensor)) as StoredTensor[];
  if (faults.every(({ kind }) => kind === 'unexpected') && unreadable.length === 0) return;

  const misfit = faults.some(({ kind }) => kind !== 'unexpected');
  const hint = options.hint?.(faults);
  const detail = [
    summary('missing', faults),
    summary('misshapen', faults),
    summary('unexpected', faults),
    unreadable.length > 0 ? `${unreadable.length} of unsupported dtype ${some(unreadable.map(dtypeText))}` : '',
    hint ? `hint: ${hint}` : '',
  ];
  throw new WeightError({
    file: options.label,
    code: misfit ? 'weights-do-not-fit' : 'unsupported-dtype',
    detail: detail.filter((part) => part !== '').join('; '),
    unsupported: !misfit,
    faults,
    report: report(options.label, faults, unreadable, hint),
  });
}

function findFaults(needed: readonly NeededParam[], stored: TensorMap, ignore: readonly RegExp[]): WeightFault[] {
  const faults: WeightFault[] = [];
  const known = new Set<string>();
  for (const { name, spec } of needed) {
    known.add(name);
    const tensor = stored.get(name);
    if (!tensor) faults.push({ kind: 'missing', name, expected: spec.shape });
    else if (!sameShape(tensor.shape, spec.shape)) {
      faults.push({ kind: 'misshapen', name, expected: spec.shape, found: tensor.shape });
    }
  }
  for (const [name, tensor] of stored) {
    if (known.has(name) || ignore.some((pattern) => pattern.test(name))) continue;
    faults.push({ kind: 'unexpected', name, found: tensor.shape });
  }
  return faults;
}

const sameShape = (a: readonly number[], b: readonly number[]) =>
  a.length === b.length && a.every((size, axis) => size === b[axis]);
const shapeText = (shape: readonly number[] = []) => `[${shape.join(', ')}]`;
const dtypeText = ({ name, dtype }: StoredTensor) => `${nameOf(name)} ${dtype}`;
const some = (items: readonly string[]) => `(${items.slice(0, 2).join(', ')}${items.length > 2 ? ', ...' : ''})`;

function summary(kind: WeightFault['kind'], faults: readonly WeightFault[]): string {
  const names = faults.filter((fault) => fault.kind === kind).map((fault) => nameOf(fault.name));
  return names.length === 0 ? '' : `${names.length} ${kind} ${some(names)}`;
}

/** All of it, a line each: `-` is missing, `~` does not fit, `+` is left over. */
function report(
  label: string,
  faults: readonly WeightFault[],
  unreadable: readonly StoredTensor[],
  hint?: string,
): string {
  const width = Math.min(70, Math.max(...faults.map(({ name }) => nameOf(name).length), 0));
  const line = (sign: string, name: string, text: string) => `  ${sign} ${nameOf(name).padEnd(width)}  ${text}`;
  const lines = faults.map(({ kind, name, expected, found }) => {
    if (kind === 'missing') return line('-', name, `missing, ${shapeText(expected)}`);
    if (kind === 'unexpected') return line('+', name, `not used, ${shapeText(found)}`);
    return line('~', name, `expected ${shapeText(expected)}, found ${shapeText(found)}`);
  });
  const dtypes = unreadable.map(({ name, dtype }) => line('~', name, `dtype ${dtype} is not supported`));
  const last = hint ? [`  hint: ${hint}`] : [];
  return [`WeightError: ${label} does not fit its configuration`, ...lines, ...dtypes, ...last].join('\n');
}

/** One tensor was loaded. `loaded` and `total` are bytes in the checkpoint. */
export interface LoadProgress {
  readonly name: string;
  readonly loaded: number;
  readonly total: number;
}

export interface LoadParamsOptions {
  /** How to name the checkpoint in messages. */
  readonly label?: string | undefined;
  /** Tensors of these names may be left over (buffers such as position_ids). */
  readonly ignore?: readonly RegExp[] | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
  /** Guesses the cause when names or shapes do not fit. */
  readonly hint?: ((faults: readonly WeightFault[]) => string | undefined) | undefined;
  /** Makes the tensor, for backends that want to pack it; `values` and `shape` are transposed already. Default: tfjs `tensor`. */
  readonly upload?: ((values: Float32Array, shape: number[], name: string, layout: Layout) => Tensor) | undefined;
  /** `upload` keeps nothing of `values`, so that their memory can hold the next tensor's. Default false. */
  readonly uploadCopies?: boolean | undefined;
  /** How linear weights (and on `simd` embeddings) are kept in memory. Default `f32`; all others need a backend that can: `simd`, and `webgpu` all but `int8-fast`. Not with `upload`. */
  readonly weights?: WeightFormat | undefined;
}

/**
 * Loads the parameters that `spec` describes, as float32 tensors owned by the caller: names, shapes and dtypes are all compared
 * first, then tensors are read one at a time (peak: the model and one tensor; on `simd` the model and some pieces), widened, transposed to their
 * layout and uploaded. On failure or abort everything made is disposed.
 *
 * Throws WeightError (`weights-do-not-fit`, `unsupported-dtype`, `non-finite`), BackendError (`weight-format`) where the backend does not keep
 * weights so, and (`memory-limit`) before anything is read where they are too large for it, OptionError, what reading the file throws, or the signal's reason.
 */
export function loadParams<S extends SpecTree>(
  spec: S,
  stored: TensorMap,
  options: LoadParamsOptions = {},
): Promise<ParamsOf<S>> {
  // Not `async`, and `unknown` on the way: what a generic tree is awaited to is more than the compiler can work out.
  const params = (made: ReadonlyMap<string, Tensor>): unknown => mapSpec(spec, (name) => made.get(name)!);
  return loadTensors(specEntries(spec), stored, options).then(params) as Promise<ParamsOf<S>>;
}

async function loadTensors(
  needed: readonly NeededParam[],
  given: TensorMap,
  options: LoadParamsOptions,
): Promise<ReadonlyMap<string, Tensor>> {
  const { signal } = options;
  const onProgress = options.onProgress && eventSink(options.onProgress);
  signal?.throwIfAborted();
  compareWeights(needed, given, {
    label: options.label ?? 'checkpoint',
    ignore: options.ignore ?? [],
    hint: options.hint,
  });
  checkMemory(needed, options);
  const stored = await holdScales(given);
  const total = needed.reduce((sum, { name }) => sum + stored.get(name)!.byteLength, 0);
  const made = new Map<string, Tensor>();
  const make = await paramMaker(needed, options);
  try {
    let loaded = 0;
    for (const param of readAhead(inFileOrder(needed, stored), stored)) {
      const { name } = param;
      made.set(name, await make(param, stored.get(name)!));
      signal?.throwIfAborted();
      loaded += stored.get(name)!.byteLength;
      onProgress?.({ name, loaded, total });
    }
  } catch (error) {
    dispose([...made.values()]);
    throw error;
  }
  return made;
}

/**
 * The same tensors, with the scales of int8 weights in memory. A file has them together, before the numbers: between those, read for one tensor after
 * another, they would bring its first parts from the network again and again.
 */
async function holdScales(stored: TensorMap): Promise<TensorMap> {
  const held = new Map(stored);
  for (const [name, tensor] of stored) {
    if (tensor.scales === undefined) continue;
    const bytes = await tensor.scales.read();
    held.set(name, { ...tensor, scales: { ...tensor.scales, read: async () => bytes } });
  }
  return held;
}

/** As the header lists them, which is mostly their order in the file. */
function inFileOrder(needed: readonly NeededParam[], stored: TensorMap): NeededParam[] {
  const order = new Map([...stored.keys()].map((name, position) => [name, position]));
  return [...needed].sort((a, b) => order.get(a.name)! - order.get(b.name)!);
}

/** Bytes of the tensors to come that are read while one is worked on: many small ones, or a piece of a large one. */
const AHEAD = 4 * 2 ** 20;

/**
 * The parameters one by one, each with its reading, which has begun some time before. Never ahead of a tensor of which a piece is still to be read: parts
 * of a remote file would come once for the one and again for the other.
 */
function* readAhead(
  needed: readonly NeededParam[],
  stored: TensorMap,
): Generator<NeededParam & { readonly reading: Reading }> {
  const pool = piecePool();
  const begun: Reading[] = [];
  let bytes = 0;
  let isWhole = true;
  for (const [index, param] of needed.entries()) {
    while (index + begun.length < needed.length && (begun.length === 0 || (isWhole && bytes < AHEAD))) {
      const { name, spec } = needed[index + begun.length]!;
      const tensor = stored.get(name)!;
      const reading = beginReading(tensor, spec, pool);
      begun.push(reading);
      bytes += reading.bytesAhead;
      isWhole = reading.bytesAhead >= tensor.byteLength;
    }
    const reading = begun.shift()!;
    bytes -= reading.bytesAhead;
    yield { ...param, reading };
  }
}

/** Makes a parameter from its reading. */
export type MakeParam = (param: NeededParam & { readonly reading: Reading }, stored: StoredTensor) => Promise<Tensor>;

/**
 * How parameters become tensors on the current backend: streamed into its memory where it takes them so, otherwise from values that are transposed
 * on the host.
 *
 * @throws OptionError (`unknown-format`, `contradiction`); BackendError (`weight-format`).
 */
export async function paramMaker(needed: readonly NeededParam[], options: LoadParamsOptions): Promise<MakeParam> {
  const { weights = 'f32', signal, upload = (values, shape) => tensor(values, shape, 'float32') } = options;
  checkWeights(options);
  const start = options.upload === undefined ? startParamOf(backend()) : undefined;
  const transposed = needed.filter(({ spec }) => start === undefined || spec.layout === 'conv2d');
  const reuse = options.upload === undefined ? await copiesAtOnce() : options.uploadCopies === true;
  const space = reuse ? roomFor(transposed) : undefined;
  return async ({ name, spec, reading }, stored) => {
    const streamed = start && (await streamParam(start, stored, spec, reading, weights));
    if (streamed !== undefined) return streamed;
    const values = await reading.finish(space?.subarray(0, elementCount(spec.shape)));
    signal?.throwIfAborted();
    return upload(values, transposedShape(spec.shape, spec.layout), name, spec.layout);
  };
}

/** What a backend that knows its own memory says of it. */
interface MemoryLimits {
  readonly paramBytes: (shape: readonly number[], layout: Layout, format: WeightFormat) => number;
  readonly freeBytes: () => number;
}

function limitsOf(current: Partial<MemoryLimits> | object): MemoryLimits | undefined {
  return 'paramBytes' in current && 'freeBytes' in current ? (current as MemoryLimits) : undefined;
}

/**
 * Compares what parameters need with what the current backend's memory can still take, where the backend knows (`simd` does: 4 GiB in all). No
 * tensor is read for it.
 *
 * @throws as `checkWeights`; BackendError (`memory-limit`) that says how much is needed, and in which formats it would fit.
 */
export function checkMemory(
  needed: readonly NeededParam[],
  options: Pick<LoadParamsOptions, 'weights' | 'upload'>,
): void {
  checkWeights(options);
  const { weights = 'f32', upload } = options;
  const limits = upload === undefined ? limitsOf(backend()) : undefined;
  if (limits === undefined) return;
  const bytesIn = (format: WeightFormat): number =>
    needed.reduce((sum, { spec }) => sum + limits.paramBytes(spec.shape, spec.layout, format), 0);
  const [bytes, free] = [bytesIn(weights), limits.freeBytes()];
  if (bytes <= free) return;
  const mebibytes = (count: number): string => `${Math.max(0, Math.ceil(count / 2 ** 20))} MiB`;
  const smaller = WEIGHT_FORMATS.filter((format) => bytesIn(format) <= free);
  const advice =
    smaller.length > 0
      ? `; it fits with weights ${smaller.map((f) => `${f} (${mebibytes(bytesIn(f))})`).join(', ')}`
      : '';
  const detail = `the weights need ${mebibytes(bytes)} as ${weights}, and the backend's memory takes ${mebibytes(free)} more${advice}`;
  throw new BackendError({ path: getBackend(), code: 'memory-limit', detail });
}

/**
 * The layouts of parameters that the current backend keeps in this format, the others being float32 in its memory: those whose numbers it takes as a file
 * of that format has them, and linear weights in any case. None where the format is f32, or differs from every file's.
 */
export function narrowedLayouts(weights: WeightFormat): Layout[] {
  const start = startParamOf(backend());
  if (start === undefined || weights === 'f32' || weights === 'int8-fast') return [];
  const table = start([8, 8], 'embedding', weights);
  table?.tensor.dispose();
  return table === undefined || table.dtypes.length === 1 ? ['linear'] : ['linear', 'embedding'];
}

/** Bytes that the current backend's memory can still take; undefined where it does not say. */
export const freeBackendBytes = (): number | undefined => limitsOf(backend())?.freeBytes();

/** Bound to its backend. */
function startParamOf(current: ParamStarter | object): StartParam | undefined {
  return 'startParam' in current ? current.startParam?.bind(current) : undefined;
}

/** A tensor with a number that is too large for the format is read once more, and kept as f32. */
async function streamParam(
  start: StartParam,
  stored: StoredTensor,
  spec: TensorSpec,
  reading: Reading,
  format: WeightFormat,
): Promise<Tensor | undefined> {
  const sink = start(spec.shape, spec.layout, format);
  if (sink === undefined) return undefined;
  let whole = false;
  try {
    whole = await reading.streamInto(sink);
  } finally {
    if (!whole) sink.tensor.dispose();
  }
  return whole ? sink.tensor : streamParam(start, stored, spec, beginReading(stored, spec), 'f32');
}

/**
 * Refuses a format that there is not, that contradicts `upload`, or that the current backend does not keep weights in.
 *
 * @throws OptionError (`unknown-format`, `contradiction`); BackendError (`weight-format`).
 */
export function checkWeights({ weights = 'f32', upload }: Pick<LoadParamsOptions, 'weights' | 'upload'>): void {
  if (!WEIGHT_FORMATS.includes(weights)) {
    const detail = `${String(weights)} is not one of ${WEIGHT_FORMATS.join(', ')}`;
    throw new OptionError({ path: 'weights', code: 'unknown-format', detail });
  }
  if (weights === 'f32') return;
  if (upload !== undefined) {
    throw new OptionError({ path: 'weights', code: 'contradiction', detail: 'not with upload, which decides it' });
  }
  const current = backend() as ParamStarter;
  const { weightFormats = current.startParam === undefined ? ['f32'] : WEIGHT_FORMATS } = current;
  if (weightFormats.includes(weights)) return;
  const kept = weightFormats.length === 1 ? 'f32 only' : weightFormats.join(', ');
  const detail = `this backend keeps weights as ${kept}: for ${weights} choose the backend simd, or leave the format out`;
  throw new BackendError({ path: getBackend(), code: 'weight-format', detail, unsupported: true });
}

/** Memory for the largest tensor, used for each: fresh memory of that size costs more than what is done in it. */
const roomFor = (needed: readonly NeededParam[]): Float32Array<ArrayBuffer> =>
  new Float32Array(Math.max(0, ...needed.map(({ spec }) => elementCount(spec.shape))));

/** Does the backend copy values when a tensor is made, or will it still look at the caller's array later (cpu, webgl)? */
async function copiesAtOnce(): Promise<boolean> {
  const values = new Float32Array([1]);
  const probe = tensor1d(values, 'float32');
  try {
    values[0] = 2;
    return (await probe.data())[0] === 1;
  } finally {
    probe.dispose();
  }
}
