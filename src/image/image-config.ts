import { ConfigError, quote } from '../errors.js';
import type { ResizeFilter } from './resize-filters.js';

/** What a checkpoint's image processor does, checked and complete. Sizes in pixels. */
export interface ImageConfig {
  readonly processor: 'clip' | 'videomae';
  readonly doResize: boolean;
  readonly size: { readonly shortestEdge: number } | { readonly height: number; readonly width: number };
  readonly resample: ResizeFilter;
  readonly doCenterCrop: boolean;
  readonly cropSize: { readonly height: number; readonly width: number };
  readonly doRescale: boolean;
  readonly rescaleFactor: number;
  readonly doNormalize: boolean;
  /** Per channel, R G B, after rescaling. */
  readonly imageMean: readonly [number, number, number];
  readonly imageStd: readonly [number, number, number];
}

/** Largest side of a picture as the model sees it. */
export const MAX_IMAGE_SIDE = 4096;

export const CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073] as const;
export const CLIP_STD = [0.26862954, 0.26130258, 0.27577711] as const;
const HALVES = [0.5, 0.5, 0.5] as const;

/** PIL.Image.Resampling's numbers. */
const RESAMPLE: readonly ResizeFilter[] = ['nearest', 'lanczos', 'bilinear', 'bicubic', 'box', 'hamming'];

/** Names of the processors, then (older files) of the feature extractors; `Fast` and other variants do the same. */
const PROCESSORS: Readonly<Record<string, ImageConfig['processor']>> = {
  CLIPImageProcessor: 'clip',
  CLIPImageProcessorFast: 'clip',
  CLIPImageProcessorPil: 'clip',
  CLIPFeatureExtractor: 'clip',
  VideoMAEImageProcessor: 'videomae',
  VideoMAEImageProcessorPil: 'videomae',
  VideoMAEFeatureExtractor: 'videomae',
};

/** The defaults of Hugging Face's classes for what a file does not say. */
export function defaultImageConfig(imageSize = 224, processor: ImageConfig['processor'] = 'clip'): ImageConfig {
  const clip = processor === 'clip';
  return {
    processor,
    doResize: true,
    size: { shortestEdge: imageSize },
    resample: clip ? 'bicubic' : 'bilinear',
    doCenterCrop: true,
    cropSize: { height: imageSize, width: imageSize },
    doRescale: true,
    rescaleFactor: 1 / 255,
    doNormalize: true,
    imageMean: clip ? CLIP_MEAN : HALVES,
    imageStd: clip ? CLIP_STD : HALVES,
  };
}

type Json = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const show = (value: unknown): string => quote(typeof value === 'string' ? value : String(JSON.stringify(value)));

/**
 * Checks a parsed preprocessor_config.json. Reads today's files and older ones (`feature_extractor_type`, sizes as plain integers);
 * absent keys get the defaults of the named class, keys that do not change pixels are ignored.
 * @throws ConfigError naming file and key; `unsupported` for processors other than CLIP's and VideoMAE's.
 */
export function parseImageConfig(json: unknown, file: string): ImageConfig {
  const fail = (place: string | undefined, rule: string, detail: string, unsupported = false): never => {
    throw new ConfigError({ file, place, rule, detail, unsupported });
  };
  if (!isObject(json)) return fail(undefined, 'not-an-object', 'the file must hold one JSON object');
  const root: Json = json;
  const get = (key: string): unknown => (Object.hasOwn(root, key) ? (root[key] ?? undefined) : undefined);

  const positiveInteger = (value: unknown, place: string): number => {
    if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= MAX_IMAGE_SIDE) return value;
    return fail(place, 'bad-size', `${show(value)} is not an integer from 1 to ${MAX_IMAGE_SIDE}`);
  };
  const sides = (value: Json, place: string) => ({
    height: positiveInteger(value['height'], `${place}.height`),
    width: positiveInteger(value['width'], `${place}.width`),
  });
  const pair = (value: unknown, place: string) => {
    if (!Array.isArray(value)) return undefined;
    if (value.length !== 2) return fail(place, 'bad-size', 'a list of sides needs height and width');
    return sides({ height: value[0], width: value[1] }, place);
  };
  const sizeOf = (value: unknown): ImageConfig['size'] => {
    if (!isObject(value)) return pair(value, 'size') ?? { shortestEdge: positiveInteger(value, 'size') };
    if (Object.hasOwn(value, 'shortest_edge')) {
      return { shortestEdge: positiveInteger(value['shortest_edge'], 'size.shortest_edge') };
    }
    return sides(value, 'size');
  };
  const cropSizeOf = (value: unknown): ImageConfig['cropSize'] => {
    if (isObject(value)) return sides(value, 'crop_size');
    const side = () => positiveInteger(value, 'crop_size');
    return pair(value, 'crop_size') ?? { height: side(), width: side() };
  };
  const flag = (key: string, otherwise: boolean): boolean => {
    const value = get(key) ?? otherwise;
    return typeof value === 'boolean' ? value : fail(key, 'not-a-flag', `${show(value)} is not true or false`);
  };
  const three = (key: string, otherwise: ImageConfig['imageMean'], isLegal: (v: number) => boolean, what: string) => {
    const value = get(key) ?? otherwise;
    const values: unknown[] = Array.isArray(value) ? value : fail(key, 'bad-channels', `${show(value)} is not a list`);
    if (values.length !== 3) fail(key, 'bad-channels', `${values.length} values; one for each of 3 channels is needed`);
    const wrong = values.find((v) => typeof v !== 'number' || !Number.isFinite(v) || !isLegal(v));
    if (wrong !== undefined) fail(key, 'bad-channels', `${show(wrong)} is not ${what}`);
    return values as [number, number, number];
  };
  const processorOf = (): ImageConfig['processor'] => {
    const key = get('image_processor_type') === undefined ? 'feature_extractor_type' : 'image_processor_type';
    const name = get(key) ?? 'CLIPImageProcessor';
    if (typeof name === 'string' && Object.hasOwn(PROCESSORS, name)) return PROCESSORS[name]!;
    if (typeof name !== 'string') return fail(key, 'bad-processor', `${show(name)} is not a name`);
    return fail(key, 'unknown-processor', `${quote(name)} is none of ${Object.keys(PROCESSORS).join(', ')}`, true);
  };
  const resampleOf = (otherwise: ResizeFilter): ResizeFilter => {
    const value = get('resample');
    if (value === undefined) return otherwise;
    const filter = typeof value === 'number' ? RESAMPLE[value] : undefined;
    return filter ?? fail('resample', 'unknown-filter', `${show(value)} is not one of Pillow's filters 0 to 5`);
  };
  const factorOf = (): number => {
    const value = get('rescale_factor') ?? 1 / 255;
    if (typeof value === 'number' && Number.isFinite(value) && value > 0) return value;
    return fail('rescale_factor', 'bad-factor', `${show(value)} is not a positive number`);
  };

  const defaults = defaultImageConfig(224, processorOf());
  const [size, cropSize] = [get('size'), get('crop_size')];
  return {
    processor: defaults.processor,
    doResize: flag('do_resize', defaults.doResize),
    size: size === undefined ? defaults.size : sizeOf(size),
    resample: resampleOf(defaults.resample),
    doCenterCrop: flag('do_center_crop', defaults.doCenterCrop),
    cropSize: cropSize === undefined ? defaults.cropSize : cropSizeOf(cropSize),
    doRescale: flag('do_rescale', defaults.doRescale),
    rescaleFactor: factorOf(),
    doNormalize: flag('do_normalize', defaults.doNormalize),
    imageMean: three('image_mean', defaults.imageMean, () => true, 'a number'),
    imageStd: three('image_std', defaults.imageStd, (v) => v > 0, 'a positive number'),
  };
}
