import { engine, type Tensor } from '@tensorflow/tfjs-core';
import type { WeightFormat } from './memory-map.js';
import type { SimdBackend } from './simd-backend.js';
import { newPanels, type PackFault, packChannels } from './weight-panels.js';

/** Numbers as a file stores them, with the names that safetensors has for their types. */
export interface StoredNumbers {
  readonly dtype: string;
  /** Float32Array for F32, the bits as Uint16Array for BF16 and F16, Int8Array for I8. */
  readonly data: Float32Array | Uint16Array | Int8Array;
  /** Of I8: what one of them is worth in each output channel of the whole weight. */
  readonly scales?: Float32Array | undefined;
}

/** Takes the numbers of one parameter as they lie in a file, piece by piece and in order, straight into the backend's memory. */
export interface ParamSink {
  /** The types that it takes; all others must be made F32 first. */
  readonly dtypes: readonly string[];
  /**
   * Takes numbers from element `first` of the stored tensor on; of a linear weight whole rows, multiples of 8 of them up to its last.
   * Says where they cannot be taken. Their memory is the caller's again.
   */
  add(numbers: StoredNumbers, first: number): PackFault | 'int8-range' | undefined;
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

const SOURCES: Readonly<Record<string, WeightFormat>> = { F32: 'f32', BF16: 'bf16', F16: 'f16', I8: 'int8' };

function startWeight(
  backend: SimdBackend,
  [outputs, inputs]: readonly [number, number],
  format: WeightFormat,
): ParamSink {
  const packed = newPanels(backend.heap, format, inputs, outputs);
  return {
    dtypes: Object.keys(SOURCES).filter((dtype) => dtype !== 'I8' || format === 'int8'),
    tensor: engine().makeTensorFromDataId(backend.adopt(packed), [inputs, outputs], 'float32', backend),
    add({ dtype, data, scales }, first) {
      const [channel, count] = [first / inputs, data.length / inputs];
      if (data instanceof Int8Array && data.includes(-128)) return 'int8-range'; // files of int8 weights leave it out
      const own = scales?.subarray(channel, channel + count);
      if (own !== undefined) backend.view(packed.scales + channel * 4, count, 'float32').set(own);
      const channels = { data, source: SOURCES[dtype]!, turned: true, given: own !== undefined };
      return packChannels(backend, packed, channel, channels);
    },
  };
}

function startNumbers(backend: SimdBackend, shape: readonly number[]): ParamSink {
  const { dataId, address } = backend.call('startParam', () => backend.output(shape, 'float32'));
  return {
    dtypes: ['F32'],
    tensor: engine().makeTensorFromDataId(dataId, [...shape], 'float32', backend),
    add({ data }, first) {
      const at = address / 4 + first;
      backend.heap.f32.set(data, at);
      return backend.kernels.largest(at * 4, data.length) < Number.POSITIVE_INFINITY ? undefined : 'non-finite';
    },
  };
}
