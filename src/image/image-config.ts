import { ConfigError, quote } from '../errors.js';
import type { ResizeFilter } from './resize.js';

/** What a checkpoint's image processor does, checked and complete. Sizes in pixels. */
export interface ImageConfig {
  readonly processor: 'clip' | 'videomae';
  readonly doResize: boolean;
  readonly size: { readonly shortestEdge: number } | Sides;
  readonly resample: ResizeFilter;
  readonly doCenterCrop: boolean;
  readonly cropSize: Sides;
  readonly doRescale: boolean;
  readonly rescaleFactor: number;
  readonly doNormalize: boolean;
  /** Per channel, R G B, after rescaling. */
  readonly imageMean: Channels;
  readonly imageStd: Channels;
}

export interface Sides {
  readonly height: number;
  readonly width: number;
}

export type Channels = readonly [number, number, number];

/** Largest side of an image as the model sees it. */
export const MAX_IMAGE_SIDE = 4096;

export const CLIP_MEAN: Channels = [0.48145466, 0.4578275, 0.40821073];
export const CLIP_STD: Channels = [0.26862954, 0.26130258, 0.27577711];
const HALVES: Channels = [0.5, 0.5, 0.5];

/** PIL.Image.Resampling's numbers. */
const RESAMPLE: readonly ResizeFilter[] = ['nearest', 'lanczos', 'bilinear', 'bicubic', 'box', 'hamming'];

/** Names of the processors and, in older files, of the feature extractors. */
const PROCESSORS: Readonly<Record<string, ImageConfig['processor']>> = {
  CLIPImageProcessor: 'clip',
  CLIPImageProcessorFast: 'clip',
  CLIPImageProcessorPil: 'clip',
  CLIPFeatureExtractor: 'clip',
  VideoMAEImageProcessor: 'videomae',
  VideoMAEImageProcessorFast: 'videomae',
  VideoMAEImageProcessorPil: 'videomae',
  VideoMAEFeatureExtractor: 'videomae',
};

/** The defaults of Hugging Face's classes for what a file does not say, and for when there is no file. */
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

/**
 * Checks a parsed preprocessor_config.json. Reads today's files and older ones (`feature_extractor_type`, sizes as plain integers);
 * absent keys get the defaults of the named class, keys that do not change pixels are ignored.
 * @throws ConfigError naming file and key; `unsupported` for processors other than CLIP's and VideoMAE's.
 */
export function parseImageConfig(json: unknown, file: string, within = ''): ImageConfig {
  const fields = fieldsOf(json, file, within);
  const defaults = defaultImageConfig(224, readProcessor(fields));
  return {
    processor: defaults.processor,
    doResize: readFlag(fields, 'do_resize', defaults.doResize),
    size: readSize(fields) ?? defaults.size,
    resample: readFilter(fields) ?? defaults.resample,
    doCenterCrop: readFlag(fields, 'do_center_crop', defaults.doCenterCrop),
    cropSize: readCropSize(fields) ?? defaults.cropSize,
    doRescale: readFlag(fields, 'do_rescale', defaults.doRescale),
    rescaleFactor: readFactor(fields) ?? defaults.rescaleFactor,
    doNormalize: readFlag(fields, 'do_normalize', defaults.doNormalize),
    imageMean: readChannels(fields, 'image_mean') ?? defaults.imageMean,
    imageStd: readChannels(fields, 'image_std', 'positive') ?? defaults.imageStd,
  };
}

/**
 * The image processor in a parsed processor_config.json, as transformers 5 writes it for all processors of a model; undefined where it
 * holds none. What it says wins over a preprocessor_config.json beside it.
 * @throws ConfigError as `parseImageConfig`, with paths that begin with the processor; for processors of other kinds, `unsupported`.
 */
export function parseProcessorConfig(json: unknown, file: string): ImageConfig | undefined {
  const { get, fail } = fieldsOf(json, file);
  let found: { key: string; config: ImageConfig } | undefined;
  for (const key of Object.keys(json as Json)) {
    const value = get(key);
    if (!/(_processor|feature_extractor)$/.test(key) || value === undefined) continue;
    if (key !== 'image_processor' && key !== 'video_processor' && key !== 'feature_extractor') {
      return fail(key, 'unknown-processor', `${quote(key)} is no processor of images or videos`, true);
    }
    if (!isObject(value)) return fail(key, 'not-an-object', `${show(value)} is not an object`);
    const config = parseImageConfig(value, file, key);
    if (found && JSON.stringify({ ...config, processor: '' }) !== JSON.stringify({ ...found.config, processor: '' })) {
      return fail(key, 'two-processors', `it differs from ${found.key}; one for images and videos is supported`, true);
    }
    found ??= { key, config };
  }
  return found?.config;
}

/** The keys of the file, own properties only; null counts as absent. */
interface Fields {
  readonly get: (key: string) => unknown;
  readonly fail: (path: string, code: string, detail: string, unsupported?: boolean) => never;
}

type Json = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const show = (value: unknown): string => quote(typeof value === 'string' ? value : String(JSON.stringify(value)));

function fieldsOf(json: unknown, file: string, within = ''): Fields {
  if (!isObject(json)) {
    throw new ConfigError({ file, code: 'not-an-object', detail: 'the file must hold one JSON object' });
  }
  return {
    get: (key) => (Object.hasOwn(json, key) ? (json[key] ?? undefined) : undefined),
    fail(key, code, detail, unsupported) {
      const path = within === '' ? key : `${within}.${key}`;
      throw new ConfigError({ file, path, code, detail, unsupported });
    },
  };
}

function readProcessor({ get, fail }: Fields): ImageConfig['processor'] {
  const names = ['image_processor_type', 'video_processor_type', 'feature_extractor_type'];
  const key = names.find((name) => get(name) !== undefined) ?? names[0]!;
  const name = get(key) ?? 'CLIPImageProcessor';
  if (typeof name !== 'string') return fail(key, 'bad-processor', `${show(name)} is not a name`);
  if (Object.hasOwn(PROCESSORS, name)) return PROCESSORS[name]!;
  const known = Object.keys(PROCESSORS).filter((kind) => !/(Fast|Pil)$/.test(kind));
  return fail(key, 'unknown-processor', `${quote(name)} is none of ${known.join(', ')} (or Fast, Pil)`, true);
}

function readFlag({ get, fail }: Fields, key: string, otherwise: boolean): boolean {
  const value = get(key) ?? otherwise;
  return typeof value === 'boolean' ? value : fail(key, 'not-a-flag', `${show(value)} is not true or false`);
}

function side(value: unknown, path: string, { fail }: Fields): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= MAX_IMAGE_SIDE) return value;
  return fail(path, 'bad-size', `${show(value)} is not an integer from 1 to ${MAX_IMAGE_SIDE}`);
}

/** Height and width, of an object or a list of two; undefined for anything else. */
function sides(value: unknown, path: string, fields: Fields): Sides | undefined {
  if (Array.isArray(value) && value.length !== 2) fields.fail(path, 'bad-size', 'a list needs height and width');
  const both = Array.isArray(value) ? { height: value[0], width: value[1] } : value;
  if (!isObject(both)) return undefined;
  return {
    height: side(both['height'], `${path}.height`, fields),
    width: side(both['width'], `${path}.width`, fields),
  };
}

function readSize(fields: Fields): ImageConfig['size'] | undefined {
  const value = fields.get('size');
  if (value === undefined) return undefined;
  if (isObject(value) && Object.hasOwn(value, 'shortest_edge')) {
    return { shortestEdge: side(value['shortest_edge'], 'size.shortest_edge', fields) };
  }
  return sides(value, 'size', fields) ?? { shortestEdge: side(value, 'size', fields) };
}

function readCropSize(fields: Fields): Sides | undefined {
  const value = fields.get('crop_size');
  if (value === undefined) return undefined;
  const square = () => side(value, 'crop_size', fields);
  return sides(value, 'crop_size', fields) ?? { height: square(), width: square() };
}

function readFilter({ get, fail }: Fields): ResizeFilter | undefined {
  const value = get('resample');
  if (value === undefined) return undefined;
  const filter = typeof value === 'number' ? RESAMPLE[value] : undefined;
  return filter ?? fail('resample', 'unknown-filter', `${show(value)} is not one of Pillow's filters 0 to 5`);
}

function readFactor({ get, fail }: Fields): number | undefined {
  const value = get('rescale_factor');
  if (value === undefined || (typeof value === 'number' && Number.isFinite(value) && value > 0)) return value;
  return fail('rescale_factor', 'bad-factor', `${show(value)} is not a positive number`);
}

function readChannels({ get, fail }: Fields, key: string, sign?: 'positive'): Channels | undefined {
  const value = get(key);
  if (value === undefined) return undefined;
  if (!Array.isArray(value)) return fail(key, 'bad-channels', `${show(value)} is not a list`);
  if (value.length !== 3) fail(key, 'bad-channels', `${value.length} values; each of 3 channels needs one`);
  // float32 is what the pixels are computed in: a deviation that vanishes there would divide by zero
  const legal = (v: unknown) =>
    typeof v === 'number' && Number.isFinite(Math.fround(v)) && (!sign || Math.fround(v) > 0);
  const wrong = value.findIndex((v) => !legal(v));
  if (wrong >= 0) fail(key, 'bad-channels', `${show(value[wrong])} is not a ${sign ?? ''} number`);
  return [value[0], value[1], value[2]];
}
