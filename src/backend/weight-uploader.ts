import { type Tensor, tensor } from '@tensorflow/tfjs-core';
import { BackendError } from '../errors.js';
import type { WeightFormat } from './memory-map.js';
import { uploadWeight } from './upload-weight.js';

/**
 * Makes a tensor of values that are turned already: the `upload` of `loadImage2Text` and `loadGit`. `layout` says what the tensor
 * is for; only `linear`, a weight matrix [in, out], is kept in another format.
 */
export type WeightUploader = (values: Float32Array, shape: number[], name: string, layout: string) => Tensor;

/**
 * Keeps the weights of linear layers in `format` and uses them so; everything else stays float32. bf16 and f16 halve what a step
 * reads, int8 quarters it. f16 matrices with numbers of 128 and more stay float32: the kernels have no room for them.
 *
 *     await loadImage2Text(folder, { backend: 'simd', upload: weightUploader('bf16') });
 *
 * @throws BackendError, when called: `not-current` while another backend is the current one, `unknown-format`, `memory-limit`.
 */
export function weightUploader(format: WeightFormat): WeightUploader {
  return (values, shape, _name, layout) => {
    if (layout !== 'linear') return tensor(values, shape, 'float32');
    const matrix = { data: values, shape: shape as [number, number] };
    try {
      return uploadWeight({ ...matrix, format });
    } catch (error) {
      if (error instanceof BackendError && error.rule === 'too-large')
        return uploadWeight({ ...matrix, format: 'f32' });
      throw error;
    }
  };
}
