import { boolean, choice, fail, integer, type OptionsFor, objectOf, signal } from '../options.js';
import { MAX_IMAGE_SIDE } from './image-config.js';

/** Ways from an image to the model's input. */
export const PREPROCESSINGS = ['huggingface', 'original', 'transformers-4.40'] as const;
export type Preprocessing = (typeof PREPROCESSINGS)[number];

/** Most pixels of an image unless told otherwise. docs/tasks.md says what that many can cost. */
export const DEFAULT_MAX_PIXELS = 100_000_000;

/** Sides in pixels of an image that keeps its shape. */
export interface KeepRatio {
  readonly min: number;
  readonly max: number;
}

function checkKeepRatio({ min, max }: KeepRatio, name: string): void {
  const isSide = (side: number) => Number.isInteger(side) && side >= 1 && side <= MAX_IMAGE_SIDE;
  if (!isSide(min) || !isSide(max)) fail(name, 'out-of-range', `sides must be 1 to ${MAX_IMAGE_SIDE} pixels`);
}

/** Options of reading images, in the order of their use. `DecodeOptions`, `PreprocessOptions` and the command's flags are made from this table. */
export const IMAGE_OPTIONS = {
  maxPixels: integer({
    defaults: { decode: DEFAULT_MAX_PIXELS },
    least: 1,
    flag: '--max-megapixels',
    help: 'The most pixels of an image, checked in its header; of an animation all frames count together.',
  }),
  orientation: boolean({
    defaults: { decode: true },
    flag: '--ignore-orientation',
    help: 'Rotate and mirror an image as its metadata (EXIF, else XMP) ask for, as viewers do.',
  }),
  signal: signal({ defaults: { decode: undefined }, help: 'Ends the work within some 25 ms.' }),
  preprocessing: choice(PREPROCESSINGS, {
    defaults: { preprocess: 'huggingface' },
    flag: '--preprocessing',
    help: "From an image to the model's input as transformers 5.18, the original project or transformers 4.40 does it.",
  }),
  keepRatio: objectOf<KeepRatio>()({
    defaults: { preprocess: undefined },
    flag: '--keep-ratio',
    expected: 'an object of min and max',
    help: "Keep the shape of the image instead of cropping it (preprocessing original only): short side min, long side at most about max; the original's VQA models have 480 and 640, large ones 420 and 560.",
    check: checkKeepRatio,
  }),
} as const;

/**
 * Options of `preprocess`.
 * `preprocessing`: `huggingface` (default) is the checkpoint's processor as transformers 5.18 runs it. `transformers-4.40` is the same as
 * that version ran it, which returns one pixel less where a center crop is larger than the image by an odd number. `original` has the
 * original project's transforms, for images and video frames alike: bicubic, CLIP mean and deviation, crop offsets rounded half to even,
 * whatever the processor's configuration says.
 * `keepRatio` (`original` only) keeps the image's shape instead of cropping it.
 */
export interface PreprocessOptions extends OptionsFor<typeof IMAGE_OPTIONS, 'preprocess'> {}

/** Options of reading an image, from its file to the model's input. */
export interface ImageOptions extends OptionsFor<typeof IMAGE_OPTIONS, 'decode'>, PreprocessOptions {}
