import { engine, type Tensor } from '@tensorflow/tfjs-core';
import type { WeightFormat } from './memory-map.js';
import type { SimdBackend } from './simd-backend.js';
import { newPanels, type PackFault, packChannels } from './weight-panels.js';

/** Takes the numbers of one parameter as they lie in a file, piece by piece and in order, straight into the backend's memory. */
export interface ParamSink {
  /**
   * Takes numbers from element `first` of the stored tensor on; of a linear weight whole rows, multiples of 8 of them up to its last.
   * Says where they cannot be taken: not finite, or too large for the format. The memory is the caller's again.
   */
  add(values: Float32Array, first: number): PackFault | undefined;
  /** The parameter; its values are undefined before all numbers are added. The caller disposes of it. */
  readonly tensor: Tensor;
}

/**
 * Begins a parameter that a file has as `shape`. `linear`: a weight [out, in], kept as panels in `format` and read as [in, out]; `as-is`: float32.
 * Undefined for other layouts.
 * @throws BackendError (`memory-limit`).
 */
export function startParam(
  backend: SimdBackend,
  shape: readonly number[],
  layout: string,
  format: WeightFormat,
): ParamSink | undefined {
  if (layout === 'linear') return startWeight(backend, shape as [number, number], format);
  return layout === 'as-is' ? startNumbers(backend, shape) : undefined;
}

function startWeight(
  backend: SimdBackend,
  [outputs, inputs]: readonly [number, number],
  format: WeightFormat,
): ParamSink {
  const packed = newPanels(backend.heap, format, inputs, outputs);
  return {
    tensor: engine().makeTensorFromDataId(backend.adopt(packed), [inputs, outputs], 'float32', backend),
    add: (data, first) => packChannels(backend, packed, first / inputs, { data, source: 'f32', turned: true }),
  };
}

function startNumbers(backend: SimdBackend, shape: readonly number[]): ParamSink {
  const { dataId, address } = backend.call('startParam', () => backend.output(shape, 'float32'));
  return {
    tensor: engine().makeTensorFromDataId(dataId, [...shape], 'float32', backend),
    add(values, first) {
      const at = address / 4 + first;
      backend.heap.f32.set(values, at);
      return backend.kernels.largest(at * 4, values.length) < Number.POSITIVE_INFINITY ? undefined : 'non-finite';
    },
  };
}
