import * as z from 'zod/mini';
import { ConfigError, quote } from '../errors.js';
import { showValue } from '../options.js';
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

/** Where a processor is named: the first of these that is there counts. */
const PROCESSOR_KEYS = ['image_processor_type', 'video_processor_type', 'feature_extractor_type'] as const;

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
 * absent keys get the defaults of the named class, keys that do not change pixels are ignored, null is the same as absent.
 * @throws ConfigError naming file and key; `unsupported` for processors other than CLIP's and VideoMAE's.
 */
export function parseImageConfig(json: unknown, file: string, within?: string): ImageConfig {
  const keys = checkLayout(z.looseObject({}), json, file, within);
  const named = PROCESSOR_KEYS.find((key) => (keys[key] ?? null) !== null) ?? PROCESSOR_KEYS[0];
  const { [named]: name } = checkLayout(z.object({ [named]: processor }), json, file, within);
  const raw = checkLayout(schema, json, file, within);
  const defaults = defaultImageConfig(224, name ?? 'clip');
  return {
    processor: defaults.processor,
    doResize: raw.do_resize ?? defaults.doResize,
    size: raw.size ?? defaults.size,
    resample: raw.resample ?? defaults.resample,
    doCenterCrop: raw.do_center_crop ?? defaults.doCenterCrop,
    cropSize: raw.crop_size ?? defaults.cropSize,
    doRescale: raw.do_rescale ?? defaults.doRescale,
    rescaleFactor: raw.rescale_factor ?? defaults.rescaleFactor,
    doNormalize: raw.do_normalize ?? defaults.doNormalize,
    imageMean: raw.image_mean ?? defaults.imageMean,
    imageStd: raw.image_std ?? defaults.imageStd,
  };
}

/**
 * The image processor in a parsed processor_config.json, as transformers 5 writes it for all processors of a model; undefined where it
 * holds none. What it says wins over a preprocessor_config.json beside it.
 * @throws ConfigError as `parseImageConfig`, with paths that begin with the processor; for processors of other kinds, `unsupported`.
 */
export function parseProcessorConfig(json: unknown, file: string): ImageConfig | undefined {
  let found: { key: string; config: ImageConfig } | undefined;
  for (const [key, value] of Object.entries(checkLayout(z.looseObject({}), json, file))) {
    if (!/(_processor|feature_extractor)$/.test(key) || value === undefined || value === null) continue;
    const fail = (code: string, detail: string): never => {
      throw new ConfigError({ file, path: key, code, detail, unsupported: true });
    };
    if (key !== 'image_processor' && key !== 'video_processor' && key !== 'feature_extractor') {
      return fail('unknown-processor', `${quote(key)} is no processor of images or videos`);
    }
    const config = parseImageConfig(value, file, key);
    if (found && JSON.stringify({ ...config, processor: '' }) !== JSON.stringify({ ...found.config, processor: '' })) {
      return fail('two-processors', `it differs from ${found.key}; one for images and videos is supported`);
    }
    found ??= { key, config };
  }
  return found?.config;
}

/** Throws for the value at `path` below the one that is read. */
type Fail = (code: string, detail: string, path?: readonly string[]) => never;

class Broken extends Error {}

/** A schema of what may be absent or null: `read` returns what the value means, or fails. */
const field = <T>(read: (value: unknown, fail: Fail) => T) =>
  z.nullish(
    z.transform((value: unknown, { issues }): T => {
      const fail: Fail = (code, message, path = []) => {
        issues.push({ code: 'custom', message, path: [...path], params: { code }, input: value });
        throw new Broken();
      };
      try {
        return read(value, fail);
      } catch (error) {
        if (error instanceof Broken) return z.NEVER;
        throw error;
      }
    }),
  );

const flag = field((value, fail) =>
  typeof value === 'boolean' ? value : fail('not-a-flag', `${showValue(value)} is not true or false`),
);

const processor = field((name, fail) => {
  if (typeof name !== 'string') return fail('bad-processor', `${showValue(name)} is not a name`);
  if (Object.hasOwn(PROCESSORS, name)) return PROCESSORS[name]!;
  const known = Object.keys(PROCESSORS).filter((kind) => !/(Fast|Pil)$/.test(kind));
  return fail('unknown-processor', `${quote(name)} is none of ${known.join(', ')} (or Fast, Pil)`);
});

function side(value: unknown, fail: Fail, path?: readonly string[]): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= MAX_IMAGE_SIDE) return value;
  return fail('bad-size', `${showValue(value)} is not an integer from 1 to ${MAX_IMAGE_SIDE}`, path);
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  z.safeParse(z.looseObject({}), value).success;

/** Height and width, of an object or a list of two; undefined for anything else. */
function sides(value: unknown, fail: Fail): Sides | undefined {
  if (Array.isArray(value) && value.length !== 2) fail('bad-size', 'a list needs height and width');
  const both = Array.isArray(value) ? { height: value[0], width: value[1] } : value;
  if (!isObject(both)) return undefined;
  return { height: side(both['height'], fail, ['height']), width: side(both['width'], fail, ['width']) };
}

const size = field((value, fail): ImageConfig['size'] =>
  isObject(value) && Object.hasOwn(value, 'shortest_edge')
    ? { shortestEdge: side(value['shortest_edge'], fail, ['shortest_edge']) }
    : (sides(value, fail) ?? { shortestEdge: side(value, fail) }),
);

const cropSize = field((value, fail): Sides => {
  const square = () => side(value, fail);
  return sides(value, fail) ?? { height: square(), width: square() };
});

const filter = field((value, fail) => {
  const found = typeof value === 'number' ? RESAMPLE[value] : undefined;
  return found ?? fail('unknown-filter', `${showValue(value)} is not one of Pillow's filters 0 to 5`);
});

const factor = field((value, fail) =>
  typeof value === 'number' && Number.isFinite(value) && value > 0
    ? value
    : fail('bad-factor', `${showValue(value)} is not a positive number`),
);

const channels = (sign?: 'positive') =>
  field((value, fail): Channels => {
    if (!Array.isArray(value)) return fail('bad-channels', `${showValue(value)} is not a list`);
    if (value.length !== 3) fail('bad-channels', `${value.length} values; each of 3 channels needs one`);
    // float32 is what the pixels are computed in: a deviation that vanishes there would divide by zero
    const legal = (v: unknown) =>
      typeof v === 'number' && Number.isFinite(Math.fround(v)) && (!sign || Math.fround(v) > 0);
    const wrong = value.findIndex((v) => !legal(v));
    if (wrong >= 0) fail('bad-channels', `${showValue(value[wrong])} is not a ${sign ?? ''} number`);
    return [value[0], value[1], value[2]];
  });

const schema = z.object({
  do_resize: flag,
  size,
  resample: filter,
  do_center_crop: flag,
  crop_size: cropSize,
  do_rescale: flag,
  rescale_factor: factor,
  do_normalize: flag,
  image_mean: channels(),
  image_std: channels('positive'),
});

/** Codes of processors that other models have. */
const UNSUPPORTED = new Set(['unknown-processor']);

/** @throws ConfigError for the first key that breaks a rule; `within`: the key that holds `json`. */
function checkLayout<T extends z.core.$ZodType>(layout: T, json: unknown, file: string, within?: string): z.infer<T> {
  const parsed = z.safeParse(layout, json);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const path = [...(within === undefined ? [] : [within]), ...issue.path].join('.') || undefined;
  if (issue.code === 'custom') {
    const code = String(issue.params?.['code']);
    throw new ConfigError({ file, path, code, detail: issue.message, unsupported: UNSUPPORTED.has(code) });
  }
  const detail = within === undefined ? 'the file must hold one JSON object' : `${showValue(json)} is not an object`;
  throw new ConfigError({ file, path, code: 'not-an-object', detail });
}
