/** Tensors as images. What images are otherwise is in inputs.ts, which needs no tfjs, so that a page with its model in a worker loads none. */
import type { Tensor } from '@tensorflow/tfjs-core';
import { Tensor as TensorClass, unstack } from '@tensorflow/tfjs-core';
import { ImageError } from '../errors.js';
import type { RgbImage } from '../image/raw-image.js';
import { rgbImage } from '../image/raw-image.js';

/** Whether a value is a tensor of rank 4, which stands for as many images as its first dimension says. */
export const isImageBatch = (input: unknown): input is Tensor => input instanceof TensorClass && input.rank === 4;

/** The images of a tensor [images, height, width, 1 | 3 | 4]; the caller disposes of them. */
export function imagesOf(batch: Tensor): Tensor[] {
  if (batch.isDisposed) throw new ImageError({ code: 'tensor-disposed', detail: 'this tensor was disposed' });
  return unstack(batch);
}

/** A tensor [height, width, 1 | 3 | 4] as RGB. */
export async function tensorToRawImage(tensor: Tensor): Promise<RgbImage> {
  const [height, width, channels] = tensor.shape;
  if (tensor.rank !== 3 || (channels !== 1 && channels !== 3 && channels !== 4)) {
    const detail = `a tensor of shape [${tensor.shape}]; an image is [height, width, 1 | 3 | 4], a batch [images, height, width, 3], a video is video(tensor)`;
    throw new ImageError({ code: 'tensor-shape', detail });
  }
  if (tensor.isDisposed) throw new ImageError({ code: 'tensor-disposed', detail: 'this tensor was disposed' });
  const values = (await tensor.data()) as ArrayLike<number>;
  const odd = Array.prototype.findIndex.call(values, (value: number) => !(value >= 0 && value <= 255));
  if (odd >= 0) {
    throw new ImageError({ code: 'tensor-values', detail: `value ${odd} is ${values[odd]}; samples are 0 to 255` });
  }
  if (tensor.dtype === 'float32' && isUnitRange(values)) {
    const detail = 'all values are within 0 to 1; samples are 0 to 255: multiply by 255';
    throw new ImageError({ code: 'tensor-values', detail });
  }
  return rgbImage(Uint8Array.from(values, Math.round), width!, height!, channels);
}

/** Is this an image in tfjs's other convention for floats? A black one is the same in both. */
function isUnitRange(values: ArrayLike<number>): boolean {
  let most = 0;
  for (let i = 0; i < values.length; i++) most = Math.max(most, values[i]!);
  return most > 0 && most <= 1;
}
