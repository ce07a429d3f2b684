import { dispose, type Tensor, tensor } from '@tensorflow/tfjs-core';
import type { WeightFault } from '../errors.js';
import { type Layout, mapSpec, type ParamsOf, type SpecTree, specEntries } from '../layers/param-spec.js';
import { compareWeights, type NeededParam } from './compare-weights.js';
import { turnedShape } from './layout.js';
import { readWeights } from './read-weights.js';
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
}

/**
 * Loads the parameters that `spec` describes, as float32 tensors owned by the caller: names, shapes and dtypes are all compared
 * first, then tensors are read one at a time (peak: the model and one tensor), widened, turned to their layout and uploaded.
 * On failure or abort everything made is disposed.
 *
 * Throws WeightError (`weights-do-not-fit`, `unsupported-dtype`, `non-finite`), what reading the file throws, or the signal's reason.
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
  const { signal, onProgress, upload = (values, shape) => tensor(values, shape, 'float32') } = options;
  signal?.throwIfAborted();
  compareWeights(needed, stored, {
    label: options.label ?? 'checkpoint',
    ignore: options.ignore ?? [],
    hint: options.hint,
  });
  const total = needed.reduce((sum, { name }) => sum + stored.get(name)!.byteLength, 0);
  const made = new Map<string, Tensor>();
  try {
    let loaded = 0;
    for (const { name, spec: leaf } of needed) {
      const source = stored.get(name)!;
      const values = await readWeights(source, leaf);
      signal?.throwIfAborted();
      made.set(name, upload(values, turnedShape(leaf.shape, leaf.layout), name, leaf.layout));
      loaded += source.byteLength;
      onProgress?.({ name, loaded, total });
    }
  } catch (error) {
    dispose([...made.values()]);
    throw error;
  }
  return made;
}
