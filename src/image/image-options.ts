import { boolean, choice, integer, type OptionsFor, objectOf, signal } from '../options.js';

/** Ways from an image to the model's input. */
export const PREPROCESSINGS = ['huggingface', 'original', 'transformers-4.40'] as const;
export type Preprocessing = (typeof PREPROCESSINGS)[number];

/**
 * Most pixels of an image unless told otherwise. Time and memory grow with them: in the worst case, a progressive JPEG in four colors,
 * 100 million pixels take half a minute and 0.9 GB; the event loop has a turn every 25 ms meanwhile.
 */
export const DEFAULT_MAX_PIXELS = 100_000_000;

/** Options of reading images, in the order of their use. They are handed on as one object from the caller to the decoder. */
export const IMAGE_OPTIONS = {
  maxPixels: integer({
    defaults: { decode: DEFAULT_MAX_PIXELS },
    least: 1,
    flag: '--max-pixels',
    help: 'The most pixels of an image, checked in its header; of an animation all frames count together.',
  }),
  orientation: boolean({
    defaults: { decode: true },
    help: 'Rotate and mirror an image as its metadata (EXIF, else XMP) ask for, as viewers do.',
  }),
  signal: signal({ defaults: { decode: undefined }, help: 'Ends the work within some 25 ms.' }),
  preprocessing: choice(PREPROCESSINGS, {
    defaults: { preprocess: 'huggingface' },
    flag: '--preprocessing',
    help: "From an image to the model's input as transformers 5.18, transformers 4.40 or the original project has it.",
  }),
  keepRatio: objectOf<{ readonly min: number; readonly max: number }>()({
    defaults: { preprocess: undefined },
    flag: '--keep-ratio',
    expected: 'an object of min and max',
    help: 'Keep the shape of the image instead of cropping it: short side min, long side at most about max (preprocessing original).',
  }),
} as const;

export type ImageOptions = OptionsFor<typeof IMAGE_OPTIONS, 'decode'> & OptionsFor<typeof IMAGE_OPTIONS, 'preprocess'>;
