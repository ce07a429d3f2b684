import { backend, getBackend, type Tensor, tensor, tensor1d } from '@tensorflow/tfjs-core';
import { BackendError, OptionError } from '../errors.js';
import type { TensorSpec } from '../layers/param-spec.js';
import type { NeededParam } from './compare-weights.js';
import { turnedShape } from './layout.js';
import type { LoadParamsOptions } from './load-params.js';
import { type StartParam, WEIGHT_FORMATS, type WeightFormat } from './param-sink.js';
import { beginReading, type Reading } from './read-weights.js';
import { elementCount, type StoredTensor } from './stored-tensor.js';

/** Makes a parameter from its reading. */
export type MakeParam = (param: NeededParam & { readonly reading: Reading }, stored: StoredTensor) => Promise<Tensor>;

/**
 * How parameters become tensors on the current backend: poured into its memory where it takes them so, otherwise from values that are turned
 * on the host.
 *
 * @throws OptionError (`unknown-format`, `contradiction`); BackendError (`weight-format`).
 */
export async function paramMaker(needed: readonly NeededParam[], options: LoadParamsOptions): Promise<MakeParam> {
  const { weights = 'f32', signal, upload = (values, shape) => tensor(values, shape, 'float32') } = options;
  checkWeights(options);
  const start = options.upload === undefined ? startParamOf(backend()) : undefined;
  const turned = needed.filter(({ spec }) => start === undefined || spec.layout === 'conv2d');
  const reuse = options.upload === undefined ? await copiesAtOnce() : options.uploadCopies === true;
  const room = reuse ? roomFor(turned) : undefined;
  return async ({ name, spec, reading }, stored) => {
    const poured = start && (await pour(start, stored, spec, reading, weights));
    if (poured !== undefined) return poured;
    const values = await reading.finish(room?.subarray(0, elementCount(spec.shape)));
    signal?.throwIfAborted();
    return upload(values, turnedShape(spec.shape, spec.layout), name, spec.layout);
  };
}

/** Bound to its backend. */
function startParamOf(current: { startParam?: StartParam } | object): StartParam | undefined {
  return 'startParam' in current ? current.startParam?.bind(current) : undefined;
}

/** A tensor with a number that is too large for the format is read once more, and kept as f32. */
async function pour(
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
    whole = await reading.pour(sink);
  } finally {
    if (!whole) sink.tensor.dispose();
  }
  return whole ? sink.tensor : pour(start, stored, spec, beginReading(stored, spec), 'f32');
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
  if (startParamOf(backend()) !== undefined) return;
  const detail = `this backend keeps weights as f32 only: for ${weights} choose the backend simd, or leave the format out`;
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
