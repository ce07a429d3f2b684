import { dispose, type Tensor } from '@tensorflow/tfjs-core';
import type { WeightFault } from '../errors.js';
import { type Layout, mapSpec, type ParamsOf, type SpecTree, specEntries } from '../layers/param-spec.js';
import { compareWeights, type NeededParam } from './compare-weights.js';
import { paramMaker } from './param-maker.js';
import type { WeightFormat } from './param-sink.js';
import { beginReading, piecePool, type Reading } from './read-weights.js';
import type { TensorMap } from './stored-tensor.js';

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
  /** Makes the tensor, for backends that want to pack it; `values` and `shape` are turned already. Default: tfjs `tensor`. */
  readonly upload?: ((values: Float32Array, shape: number[], name: string, layout: Layout) => Tensor) | undefined;
  /** `upload` keeps nothing of `values`, so that their memory can hold the next tensor's. Default false. */
  readonly uploadCopies?: boolean | undefined;
  /** How linear weights are kept in memory. Default `f32`; all others need a backend that can, which is `simd`. Not with `upload`. */
  readonly weights?: WeightFormat | undefined;
}

/**
 * Loads the parameters that `spec` describes, as float32 tensors owned by the caller: names, shapes and dtypes are all compared
 * first, then tensors are read one at a time (peak: the model and one tensor; on `simd` the model and some pieces), widened, turned to their
 * layout and uploaded. On failure or abort everything made is disposed.
 *
 * Throws WeightError (`weights-do-not-fit`, `unsupported-dtype`, `non-finite`), BackendError (`weight-format`) where the backend does not keep
 * weights so, OptionError, what reading the file throws, or the signal's reason.
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
  stored: TensorMap,
  options: LoadParamsOptions,
): Promise<ReadonlyMap<string, Tensor>> {
  const { signal, onProgress } = options;
  signal?.throwIfAborted();
  compareWeights(needed, stored, {
    label: options.label ?? 'checkpoint',
    ignore: options.ignore ?? [],
    hint: options.hint,
  });
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

/** As the header lists them, which is mostly as they lie in the file. */
function inFileOrder(needed: readonly NeededParam[], stored: TensorMap): NeededParam[] {
  const order = new Map([...stored.keys()].map((name, position) => [name, position]));
  return [...needed].sort((a, b) => order.get(a.name)! - order.get(b.name)!);
}

/** Bytes of the tensors to come that are read while one is worked on: many small ones, or a piece of a large one. */
const AHEAD = 4 * 2 ** 20;

/** The parameters in turn, each with its reading, which has begun some time before. */
function* readAhead(
  needed: readonly NeededParam[],
  stored: TensorMap,
): Generator<NeededParam & { readonly reading: Reading }> {
  const pool = piecePool();
  const begun: Reading[] = [];
  let bytes = 0;
  for (const [turn, param] of needed.entries()) {
    while (turn + begun.length < needed.length && (begun.length < 2 || bytes < AHEAD)) {
      const { name, spec } = needed[turn + begun.length]!;
      begun.push(beginReading(stored.get(name)!, spec, pool));
      bytes += begun.at(-1)!.bytesAhead;
    }
    const reading = begun.shift()!;
    bytes -= reading.bytesAhead;
    yield { ...param, reading };
  }
}
