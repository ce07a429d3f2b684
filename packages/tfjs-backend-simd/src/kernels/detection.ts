import { kernel_impls, type NonMaxSuppressionV4Attrs, type NonMaxSuppressionV5Attrs } from '@tensorflow/tfjs-core';
import type { SimdBackend } from '../simd-backend.js';
import { type Inputs, input, type KernelTable } from './table.js';

type Boxes = Float32Array;

/** Boxes [n, 4] and scores [n]. */
const read = (backend: SimdBackend, inputs: Inputs) =>
  backend.viewsOf(input(inputs, 'boxes'), input(inputs, 'scores')) as [Boxes, Boxes];

function vector(backend: SimdBackend, values: ArrayLike<number>, dtype: 'int32' | 'float32', shape = [values.length]) {
  const output = backend.output(shape, dtype);
  backend.valuesOf(output).set(values);
  return output;
}

/** Which boxes to keep, best first, so that none overlaps a better one too much: tfjs-core's own search. */
export const detectionKernels: KernelTable = {
  NonMaxSuppressionV3(backend, inputs, attributes) {
    const [boxes, scores] = read(backend, inputs);
    const { maxOutputSize, iouThreshold, scoreThreshold } = attributes as unknown as NonMaxSuppressionV4Attrs;
    const { selectedIndices } = kernel_impls.nonMaxSuppressionV3Impl(
      ...([boxes, scores, maxOutputSize, iouThreshold, scoreThreshold] as const),
    );
    return vector(backend, selectedIndices, 'int32');
  },

  NonMaxSuppressionV4(backend, inputs, attributes) {
    const [boxes, scores] = read(backend, inputs);
    const { maxOutputSize, iouThreshold, scoreThreshold, padToMaxOutputSize } =
      attributes as unknown as NonMaxSuppressionV4Attrs;
    const { selectedIndices, validOutputs } = kernel_impls.nonMaxSuppressionV4Impl(
      ...([boxes, scores, maxOutputSize, iouThreshold, scoreThreshold, padToMaxOutputSize] as const),
    );
    return [vector(backend, selectedIndices, 'int32'), vector(backend, [validOutputs!], 'int32', [])];
  },

  NonMaxSuppressionV5(backend, inputs, attributes) {
    const [boxes, scores] = read(backend, inputs);
    const { maxOutputSize, iouThreshold, scoreThreshold, softNmsSigma } =
      attributes as unknown as NonMaxSuppressionV5Attrs;
    const { selectedIndices, selectedScores } = kernel_impls.nonMaxSuppressionV5Impl(
      ...([boxes, scores, maxOutputSize, iouThreshold, scoreThreshold, softNmsSigma] as const),
    );
    return [vector(backend, selectedIndices, 'int32'), vector(backend, selectedScores!, 'float32')];
  },
};
