import {
  backend_util,
  type DataType,
  type FillAttrs,
  type LinSpaceAttrs,
  type MultinomialAttrs,
  type OneHotAttrs,
  type RangeAttrs,
  type TensorInfo,
  util,
} from '@tensorflow/tfjs-core';
import type { KernelContext } from '../kernel-context.js';
import { input, type Kernel, type KernelTable, sizeOf } from '../kernel-context.js';
import { reduceKernels } from './reduce.js';

function filled(backend: KernelContext, shape: readonly number[], dtype: DataType, value: number | string): TensorInfo {
  if (dtype === 'string') {
    return backend.stringOutput(shape, new Array(sizeOf(shape)).fill(util.encodeString(String(value))));
  }
  const output = backend.output(shape, dtype);
  backend.valuesOf(output).fill(Number(value));
  return output;
}

/** start, start + step, …; a step of 1 turns round where stop lies below, and steps in the wrong direction give nothing. */
function range(backend: KernelContext, { start, stop, step, dtype }: RangeAttrs): TensorInfo {
  const nothing = start === stop || (start < stop && step < 0) || (stop < start && step > 1);
  const length = nothing ? 0 : Math.abs(Math.ceil((stop - start) / step));
  const by = stop < start && step === 1 ? -1 : step;
  const output = backend.output([length], dtype);
  const target = backend.valuesOf(output);
  if (length > 0) target[0] = start;
  for (let i = 1; i < length; i++) target[i] = target[i - 1]! + by; // rounded at every step, as tfjs does
  return output;
}

function linSpace(backend: KernelContext, { start, stop, num }: LinSpaceAttrs): TensorInfo {
  const output = backend.output([num], 'float32');
  const target = backend.valuesOf(output);
  const step = (stop - start) / (num - 1);
  target[0] = start;
  for (let i = 1; i < num; i++) target[i] = target[i - 1]! + step;
  return output;
}

function oneHot(backend: KernelContext, indices: TensorInfo, attributes: OneHotAttrs): TensorInfo {
  const { depth, onValue, offValue, dtype } = attributes;
  const output = backend.output([...indices.shape, depth], dtype);
  const [places, target] = backend.viewsOf(indices, output);
  target.fill(offValue);
  places.forEach((place, i) => {
    if (place >= 0 && place < depth) target[i * depth + place] = onValue;
  });
  return output;
}

/** x on the diagonal of a tensor of twice its rank. */
function diagonal(backend: KernelContext, x: TensorInfo): TensorInfo {
  const output = backend.output([...x.shape, ...x.shape], x.dtype);
  const [values, target] = backend.viewsOf(x, output);
  target.fill(0);
  for (let i = 0; i < values.length; i++) target[i * (values.length + 1)] = values[i]!;
  return output;
}

/** The shape to which two shapes broadcast, as tensors all three. */
function broadcastShape(backend: KernelContext, a: TensorInfo, b: TensorInfo): TensorInfo {
  const shape = backend_util.assertAndGetBroadcastShape([...backend.valuesOf(a)], [...backend.valuesOf(b)]);
  const output = backend.output([shape.length], 'int32');
  backend.valuesOf(output).set(shape);
  return output;
}

/** Evenly spread numbers in [0, 1), the same for the same seed: a counter, mixed as in MurmurHash3. */
function randomNumbers(seed: number): () => number {
  let state = Math.imul(Math.floor(seed * 2 ** 32) ^ Math.floor(seed), 0x9e3779b1) | 0;
  const next = () => {
    state = (state + 0x9e3779b9) | 0;
    let x = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
    return (x ^ (x >>> 16)) >>> 0;
  };
  return () => (next() * 2 ** 21 + (next() >>> 11)) / 2 ** 53;
}

/** Draws from each row's probabilities: exp(logits), or `logits` themselves where they are normalized. Rows share the seed. */
const multinomial: Kernel = (backend, inputs, attributes) => {
  const logits = input(inputs, 'logits');
  const { numSamples, seed, normalized } = attributes as unknown as MultinomialAttrs;
  const [rows = 0, events = 0] = logits.shape;
  const odds = normalized ? logits : (reduceKernels['Softmax']!(backend, { logits }, { dim: -1 }) as TensorInfo);
  const output = backend.output([rows, numSamples], 'int32');
  const [shares, target] = backend.viewsOf(odds, output);
  for (let row = 0; row < rows; row++) {
    const random = randomNumbers(seed);
    for (let i = 0; i < numSamples; i++) {
      let [left, event] = [random(), 0];
      while (event < events - 1) {
        left -= shares[row * events + event]!;
        if (left < 0) break;
        event++;
      }
      target[row * numSamples + i] = event;
    }
  }
  if (odds !== logits) backend.release(odds);
  return output;
};

export const creationKernels: KernelTable = {
  Fill(backend, _, attributes) {
    const { shape, value, dtype } = attributes as unknown as FillAttrs;
    return filled(backend, shape, dtype ?? util.inferDtype(value as never), value);
  },
  ZerosLike: (backend, inputs) => {
    const x = input(inputs, 'x');
    return filled(backend, x.shape, x.dtype, x.dtype === 'string' ? '' : 0);
  },
  OnesLike: (backend, inputs) => filled(backend, input(inputs, 'x').shape, input(inputs, 'x').dtype, 1),
  Range: (backend, _, attributes) => range(backend, attributes as unknown as RangeAttrs),
  LinSpace: (backend, _, attributes) => linSpace(backend, attributes as unknown as LinSpaceAttrs),
  OneHot: (backend, inputs, attributes) =>
    oneHot(backend, input(inputs, 'indices'), attributes as unknown as OneHotAttrs),
  Diag: (backend, inputs) => diagonal(backend, input(inputs, 'x')),
  BroadcastArgs: (backend, inputs) => broadcastShape(backend, input(inputs, 's0'), input(inputs, 's1')),
  Multinomial: multinomial,
};
