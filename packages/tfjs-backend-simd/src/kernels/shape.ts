import { type CastAttrs, type ExpandDimsAttrs, type ReshapeAttrs, type TensorInfo, util } from '@tensorflow/tfjs-core';
import { BackendError } from '../errors.js';
import type { SimdBackend } from '../simd-backend.js';
import { input, type KernelTable, sizeOf } from './table.js';

/** The numbers of `x` as another type; NaN becomes 0 and fractions are cut where the type is int32, as in JavaScript. */
export function cast(backend: SimdBackend, x: TensorInfo, dtype: CastAttrs['dtype']): TensorInfo {
  if (dtype === x.dtype) return backend.alias(x, x.shape);
  if (x.dtype === 'string') {
    const detail = `a string tensor cannot become ${dtype}`;
    throw new BackendError({ path: 'simd: Cast', code: 'unsupported-dtype', detail, unsupported: true });
  }
  const output = backend.output(x.shape, dtype);
  const [values, target] = backend.viewsOf(x, output);
  if (dtype === 'bool') for (let i = 0; i < values.length; i++) target[i] = values[i] !== 0 ? 1 : 0;
  else target.set(values);
  return output;
}

/** Kernels that give the same numbers another shape or type. */
export const shapeKernels: KernelTable = {
  Identity: (backend, inputs) => backend.alias(input(inputs, 'x'), input(inputs, 'x').shape),

  Reshape(backend, inputs, attributes) {
    const x = input(inputs, 'x');
    const size = sizeOf(x.shape);
    const shape = util.inferFromImplicitShape((attributes as unknown as ReshapeAttrs).shape, size);
    util.assert(
      sizeOf(shape) === size,
      () => `Reshape: [${x.shape}] has ${size} elements, [${shape}] has ${sizeOf(shape)}`,
    );
    return backend.alias(x, shape);
  },

  ExpandDims(backend, inputs, attributes) {
    const x = input(inputs, 'input');
    const { dim } = attributes as unknown as ExpandDimsAttrs;
    const rank = x.shape.length;
    util.assert(dim >= -rank - 1 && dim <= rank, () => `ExpandDims: axis ${dim} is not in [${-rank - 1}, ${rank}]`);
    const at = dim < 0 ? rank + dim + 1 : dim;
    return backend.alias(x, [...x.shape.slice(0, at), 1, ...x.shape.slice(at)]);
  },

  Cast: (backend, inputs, attributes) => cast(backend, input(inputs, 'x'), (attributes as unknown as CastAttrs).dtype),
};
