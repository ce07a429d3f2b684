import { ImageError } from '../errors.js';
import { finish } from '../event-loop.js';
import { checkOptions, fail } from '../options.js';
import { CLIP_MEAN, CLIP_STD, type ImageConfig, MAX_IMAGE_SIDE } from './image-config.js';
import { IMAGE_OPTIONS, type PreprocessOptions } from './image-options.js';
import { allocate, isRawImage, type RgbImage } from './raw-image.js';
import {
  type CropPlan,
  type CropRounding,
  place,
  planCenterCrop,
  type ResizeFilter,
  resizeSteps,
  roundHalfEven,
} from './resize.js';

/** Images ready for the model: float32 [B, height, width, 3], rows from the top, RGB. */
export interface PixelValues {
  readonly data: Float32Array;
  readonly shape: readonly [batch: number, height: number, width: number, channels: 3];
}

/** How one image becomes input: resized size, filter, the part that is kept, and the value of every byte per channel. */
export interface ResizePlan {
  readonly width: number;
  readonly height: number;
  readonly filter: ResizeFilter;
  readonly crop: CropPlan;
}

const whole = (width: number, height: number): CropPlan => ({
  window: { left: 0, top: 0, width, height },
  ...{ padTop: 0, padLeft: 0, width, height },
});

/** Short side `edge`, long side in proportion, cut to an integer: multiplied first, as Hugging Face and torchvision do. */
export function shortestEdgeSize(width: number, height: number, edge: number): [width: number, height: number] {
  const long = Math.trunc((edge * Math.max(width, height)) / Math.min(width, height));
  return width <= height ? [edge, long] : [long, edge];
}

/** The original's ratio-keeping size for VQA: short side `min`, less where the long side would go above `max`. */
export function keepRatioSize(
  width: number,
  height: number,
  min: number,
  max: number,
): [width: number, height: number] {
  const short = Math.min(width, height);
  const long = Math.max(width, height);
  const size = (long / short) * min > max ? roundHalfEven((max * short) / long) : min;
  if (short === size) return [width, height];
  return width < height ? [size, Math.trunc((size * height) / width)] : [Math.trunc((size * width) / height), size];
}

interface Size {
  readonly width: number;
  readonly height: number;
}

function huggingFacePlan(image: Size, config: ImageConfig, rounding: CropRounding): ResizePlan {
  const { size, cropSize } = config;
  let { width, height } = image;
  if (config.doResize) {
    [width, height] =
      'shortestEdge' in size ? shortestEdgeSize(width, height, size.shortestEdge) : [size.width, size.height];
  }
  const crop = config.doCenterCrop
    ? planCenterCrop(width, height, cropSize.width, cropSize.height, rounding)
    : whole(width, height);
  return { width, height, filter: config.resample, crop };
}

function originalPlan(image: Size, config: ImageConfig, options: PreprocessOptions): ResizePlan {
  if (options.keepRatio) {
    const { min, max } = options.keepRatio;
    const [width, height] = keepRatioSize(image.width, image.height, min, max);
    if (width < 1 || height < 1) throw new ImageError({ code: 'image-shape', detail: 'too narrow to keep its shape' });
    return { width, height, filter: 'bicubic', crop: whole(width, height) };
  }
  const { width: cropWidth, height: cropHeight } = config.cropSize;
  const [width, height] = shortestEdgeSize(image.width, image.height, Math.min(cropWidth, cropHeight));
  const crop = planCenterCrop(width, height, cropWidth, cropHeight, 'half-even');
  return { width, height, filter: 'bicubic', crop };
}

/**
 * The size an image of `size` is resized to, and what is cut out of that: what `preprocess` does, and what the way back from the
 * model's input to the image must undo.
 */
export function resizePlan(size: Size, config: ImageConfig, options: PreprocessOptions = {}): ResizePlan {
  if (options.preprocessing === 'original') return originalPlan(size, config, options);
  return huggingFacePlan(size, config, options.preprocessing === 'transformers-4.40' ? 'transformers-4.40' : 'floor');
}

/** The float32 value of each byte in each channel, [3 * 256]: rescaled in double, then as float32 arithmetic does. */
function valueTable(config: ImageConfig): Float32Array {
  const { doRescale, rescaleFactor, doNormalize, imageMean, imageStd } = config;
  return Float32Array.from({ length: 768 }, (_, i) => {
    const channel = i >> 8;
    const value = Math.fround(doRescale ? (i & 255) * rescaleFactor : i & 255);
    if (!doNormalize) return value;
    return Math.fround(value - Math.fround(imageMean[channel]!)) / Math.fround(imageStd[channel]!);
  });
}

const ORIGINAL_VALUES = {
  ...{ doRescale: true, rescaleFactor: 1 / 255, doNormalize: true },
  ...{ imageMean: CLIP_MEAN, imageStd: CLIP_STD },
} as const;

/**
 * Images to model input: resize, center crop, rescale, normalize. Resized bytes, crops and float32 values equal those of
 * `CLIPImageProcessor`, `VideoMAEImageProcessor` (transformers 5.18 or 4.40) or the original's transforms bit for bit. Only the pixels that the
 * crop keeps are computed. All images of one call must come out at one size; video frames are a batch.
 * @throws ImageError for images that cannot share a batch, or a result above 4096 pixels a side; OptionError for wrong options.
 */
export function preprocess(
  images: readonly RgbImage[],
  config: ImageConfig,
  options: PreprocessOptions = {},
): PixelValues {
  return finish(preprocessSteps(images, config, options));
}

/** `preprocess`, yielding within the resize of a large image. */
export function* preprocessSteps(
  images: readonly RgbImage[],
  config: ImageConfig,
  options: PreprocessOptions = {},
): Generator<void, PixelValues> {
  checkArguments(images, options);
  const original = options.preprocessing === 'original';
  const table = valueTable(original ? { ...config, ...ORIGINAL_VALUES } : config);
  const plans = images.map((image) => resizePlan(image, config, options));
  const { width, height } = plans[0]!.crop;
  if (Math.max(width, height) > MAX_IMAGE_SIDE) {
    throw new ImageError({
      code: 'image-shape',
      detail: `${width} by ${height} pixels of input; at most ${MAX_IMAGE_SIDE}`,
    });
  }
  const data = allocate(Float32Array, images.length * height * width * 3);
  for (const [i, plan] of plans.entries()) {
    if (plan.crop.width !== width || plan.crop.height !== height) {
      const detail = `image ${i} becomes ${plan.crop.width} by ${plan.crop.height}, image 0 ${width} by ${height}`;
      throw new ImageError({ code: 'image-batch', detail });
    }
    const resized = yield* resizeSteps(images[i]!, plan.width, plan.height, plan.filter, plan.crop.window);
    writeValues(place(resized, plan.crop).data, table, data, i * height * width * 3);
  }
  return { data, shape: [images.length, height, width, 3] };
}

function writeValues(bytes: Uint8Array, table: Float32Array, out: Float32Array, at: number): void {
  for (let i = 0; i < bytes.length; i += 3) {
    out[at + i] = table[bytes[i]!]!;
    out[at + i + 1] = table[256 + bytes[i + 1]!]!;
    out[at + i + 2] = table[512 + bytes[i + 2]!]!;
  }
}

function checkArguments(images: readonly RgbImage[], options: PreprocessOptions): void {
  const { preprocessing, keepRatio } = checkOptions(options, IMAGE_OPTIONS, 'preprocess');
  if (images.length === 0) fail('images', 'preprocess', 'no image');
  const odd = images.findIndex((image) => !isRawImage(image));
  if (odd >= 0) throw new ImageError({ code: 'raw-image', detail: `image ${odd} is no RGB image with all its bytes` });
  if (keepRatio && preprocessing !== 'original') fail('keepRatio', 'preprocess', 'is for preprocessing "original"');
}

/** The same values as float32 [B, 3, height, width], the order of PyTorch, for comparing. */
export function toChannelsFirst({ data, shape }: PixelValues): Float32Array {
  const [batch, height, width] = shape;
  const plane = height * width;
  const out = new Float32Array(data.length);
  for (let b = 0; b < batch; b++) {
    for (let p = 0; p < plane; p++) {
      for (let c = 0; c < 3; c++) out[(b * 3 + c) * plane + p] = data[(b * plane + p) * 3 + c]!;
    }
  }
  return out;
}
