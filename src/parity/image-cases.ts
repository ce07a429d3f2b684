import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import * as z from 'zod/mini';
import { ConfigError } from '../errors.js';
import { decodeImage } from '../image/decode.js';
import { defaultImageConfig } from '../image/image-config.js';
import { type PixelValues, preprocess, shortestEdgeSize, toChannelsFirst } from '../image/preprocess.js';
import type { RgbImage } from '../image/raw-image.js';
import { crop, place, planCenterCrop, resize } from '../image/resize.js';
import {
  type CaseKind,
  checkLayout,
  exactRow,
  type Folder,
  firstOf,
  needTensor,
  type ParityCase,
  type ParityRow,
  readJsonFile,
  readTensors,
  sniffJson,
} from './cases.js';
import { compareNumbers } from './compare.js';

/** `[channel, y, x, value]` */
export const samples = z.array(z.tuple([z.int(), z.int(), z.int(), z.number()]));

/** An image file as stored: its orientation is left as it is, as Pillow does. */
export async function readImage(folder: string, file: string): Promise<RgbImage> {
  return decodeImage(new Uint8Array(await readFile(join(folder, file))), { file, orientation: false });
}

/** Bytes of a gzipped file that must be `size` of them. */
async function readGzip(folder: string, file: string, size: number): Promise<Uint8Array> {
  const packed = await readFile(join(folder, file));
  let bytes: Uint8Array | undefined;
  try {
    bytes = gunzipSync(packed, { maxOutputLength: size + 1 });
  } catch {
    bytes = undefined;
  }
  if (bytes?.length === size) return bytes;
  throw new ConfigError({ file, code: 'case-layout', detail: `not ${size} bytes in gzip` });
}

/** Pixels of one image against bytes; the error is in levels of 0 to 255. */
export function compareBytes(
  caseName: string,
  tensor: string,
  ours: RgbImage,
  expected: { readonly width: number; readonly height: number; readonly bytes: Uint8Array },
  tolerance = 0,
): ParityRow {
  return compareNumbers(
    caseName,
    tensor,
    { shape: [ours.height, ours.width, 3], values: ours.data },
    { expected: { shape: [expected.height, expected.width, 3], values: expected.bytes }, isTruth: false, tolerance },
  );
}

/** Facts that must be the same: sizes, offsets, hashes. The error is how many are not. */
export function compareFacts(
  caseName: string,
  tensor: string,
  ours: Readonly<Record<string, number | string>>,
  expected: Readonly<Record<string, number | string | undefined>>,
): ParityRow {
  const wrong = Object.keys(ours).filter((fact) => expected[fact] !== undefined && expected[fact] !== ours[fact]);
  const [first] = wrong;
  return exactRow(
    caseName,
    tensor,
    wrong.length,
    first === undefined ? undefined : `${first}: ours ${ours[first]}, expected ${expected[first]}`,
  );
}

/** Model input against the hash of the reference's float32 [3, H, W] and, to say more when it differs, samples of it. */
export function comparePixelValues(
  caseName: string,
  tensor: string,
  pixels: PixelValues,
  expected: { readonly sha256: string; readonly samples?: z.infer<typeof samples> | undefined },
): ParityRow {
  const [, height, width] = pixels.shape;
  const values = toChannelsFirst(pixels);
  const found = sha256(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  if (found === expected.sha256) return exactRow(caseName, tensor, 0);
  const odd = expected.samples?.find(([c, y, x, value]) => values[(c * height + y) * width + x] !== value);
  const detail =
    odd === undefined
      ? 'the hash differs'
      : `at [${odd.slice(0, 3)}]: ours ${values[(odd[0] * height + odd[1]) * width + odd[2]]}, expected ${odd[3]}`;
  return exactRow(caseName, tensor, 1, detail);
}

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** [3, H, W] → [H, W, 3]. */
export function channelsLast(values: ArrayLike<number>, [channels, height, width]: readonly number[]): Float32Array {
  const area = height! * width!;
  return Float32Array.from(
    { length: values.length },
    (_, i) => values[(i % channels!) * area + Math.floor(i / channels!)]!,
  );
}

/** By these a file is known. */
const sign = z.object({
  pictures: firstOf(z.object({ file: z.string(), decoded: z.unknown() })),
});

/** Shortest edge and center crop to the N of the key `sizeN`. */
const sizeSchema = z.object({
  resized_width: z.int(),
  resized_height: z.int(),
  resized_sha256: z.string(),
  crop_top: z.int(),
  crop_left: z.int(),
  crop_sha256: z.string(),
  pixel_values_sha256: z.string(),
  crop_file: z.optional(z.nullable(z.string())),
  pixel_values_sample: z.optional(samples),
});

const imageSchema = z.catchall(
  z.object({
    file: z.string(),
    pillow_mode: z.optional(z.string()),
    width: z.int(),
    height: z.int(),
    decoded: z.object({ file: z.optional(z.string()), sha256: z.string() }),
  }),
  z.unknown(),
);
type ImageInput = z.infer<typeof imageSchema>;

const paddingSchema = z.object({
  file: z.string(),
  source: z.string(),
  shortest_edge: z.int(),
  crop_height: z.int(),
  crop_width: z.int(),
});
const schema = z.object({ pictures: z.array(imageSchema), crop_with_padding: z.optional(paddingSchema) });

/** CMYK images may be off by this many levels: Pillow's conversion is one of several. */
const CMYK_TOLERANCE = 3;

/** Images and what the image processor of CLIP makes of them: decoded, resized, cropped and normalized. */
export const imageCases: CaseKind = {
  async find(folder, unclaimed) {
    const cases: ParityCase[] = [];
    const claims: string[] = [];
    for (const file of unclaimed.filter((name) => name.endsWith('.json'))) {
      if (!(await sniffJson(folder.path, file, sign))) continue;
      const { pictures: images, crop_with_padding: padding } = await readJsonFile(folder.path, file, schema);
      const prefix = `${folder.label}/${file.replace(/\.json$/, '')}`;
      cases.push(...images.map((image) => imageCase(folder, prefix, image)));
      claims.push(file);
      if (padding === undefined) continue;
      cases.push(paddingCase(folder, padding));
      claims.push(padding.file);
    }
    return { cases, claims };
  },
};

function imageCase(folder: Folder, prefix: string, image: ImageInput): ParityCase {
  const name = `${prefix}/${image.file.split('/').at(-1)}`;
  return {
    name,
    async *run() {
      const ours = await readImage(folder.path, image.file);
      const { width, height, decoded } = image;
      let source = ours;
      if (decoded.file === undefined) {
        const facts = { width: ours.width, height: ours.height, sha256: sha256(ours.data) };
        yield compareFacts(name, 'decoded', facts, { width, height, sha256: decoded.sha256 });
      } else {
        const bytes = await readGzip(folder.path, decoded.file, width * height * 3);
        const tolerance = image.pillow_mode === 'CMYK' ? CMYK_TOLERANCE : 0;
        yield compareBytes(name, 'decoded', ours, { width, height, bytes }, tolerance);
        source = { data: bytes, width, height }; // what follows is exact from the reference's bytes on
      }
      for (const [key, value] of Object.entries(image)) {
        const [, edge] = /^size(\d{1,4})$/.exec(key) ?? [];
        if (edge !== undefined) yield* sizeRows(folder, name, key, source, Number(edge), value);
      }
    },
  };
}

/** One size: the resized image, the crop from it, and the model's input. */
async function* sizeRows(
  folder: Folder,
  caseName: string,
  key: string,
  source: RgbImage,
  edge: number,
  json: unknown,
): AsyncGenerator<ParityRow> {
  const expected = checkLayout(json, `${caseName} ${key}`, sizeSchema);
  const config = defaultImageConfig(edge);
  const [width, height] = shortestEdgeSize(source.width, source.height, edge);
  const resized = resize(source, width, height, config.resample);
  const { resized_width, resized_height, resized_sha256, crop_top, crop_left, crop_sha256, crop_file } = expected;
  const facts = { resized_width: width, resized_height: height, resized_sha256: sha256(resized.data) };
  yield compareFacts(caseName, `${key} resized`, facts, { resized_width, resized_height, resized_sha256 });
  const plan = planCenterCrop(width, height, edge, edge);
  const cut = place(crop(resized, plan.window), plan);
  const cropFacts = { crop_top: plan.window.top, crop_left: plan.window.left, crop_sha256: sha256(cut.data) };
  yield compareFacts(caseName, `${key} crop`, cropFacts, { crop_top, crop_left, crop_sha256 });
  if (typeof crop_file === 'string') {
    const bytes = await readGzip(folder.path, crop_file, cut.data.length);
    yield compareBytes(caseName, `${key} crop bytes`, cut, { width: cut.width, height: cut.height, bytes });
  }
  yield comparePixelValues(caseName, `${key} pixel_values`, preprocess([source], config), {
    sha256: expected.pixel_values_sha256,
    samples: expected.pixel_values_sample,
  });
}

/** A crop larger than the resized image. */
function paddingCase(folder: Folder, padding: z.infer<typeof paddingSchema>): ParityCase {
  const base = padding.file.replace(/\.safetensors$/, '');
  const name = `${folder.label}/${base}`;
  return {
    name,
    async *run() {
      const source = await readImage(folder.path, padding.source);
      const config = {
        ...defaultImageConfig(),
        size: { shortestEdge: padding.shortest_edge },
        cropSize: { height: padding.crop_height, width: padding.crop_width },
      };
      const { data, shape } = preprocess([source], config, { preprocessing: 'transformers-4.40' });
      const tensors = await readTensors(folder.path, padding.file);
      const expected = needTensor({ folder: folder.path, name: base, facts: {}, tensors }, 'pixel_values');
      const values = channelsLast(expected.values, expected.shape);
      const [channels, height, width] = expected.shape as [number, number, number];
      yield compareNumbers(
        name,
        'pixel_values',
        { shape: shape.slice(1), values: data },
        { expected: { shape: [height, width, channels], values }, isTruth: false, tolerance: 0 },
      );
    },
  };
}
