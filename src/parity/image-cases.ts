import { z } from 'zod/mini';
import { defaultImageConfig } from '../image/image-config.js';
import { preprocess, shortestEdgeSize } from '../image/preprocess.js';
import type { RawImage } from '../image/raw-image.js';
import { crop, place, planCenterCrop, resize } from '../image/resize.js';
import { checkLayout, firstOf, needTensor, readJsonFile, readTensors, sniffJson } from './case-file.js';
import type { CaseKind, ParityCase } from './case-kind.js';
import { compareNumbers } from './compare.js';
import type { Folder } from './folders.js';
import {
  channelsLast,
  compareBytes,
  compareFacts,
  comparePixelValues,
  readGzip,
  readImage,
  samples,
  sha256,
} from './image-rows.js';
import type { ParityRow } from './parity-row.js';

/** By these a file is known. */
const sign = z.object({
  pictures: firstOf(z.object({ file: z.string(), decoded: z.unknown() })),
});

/** Shortest edge and centre crop to the N of the key `sizeN`. */
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

/** Images and what the image processor of CLIP makes of them: decoded, resized, cropped and normalised. */
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
  source: RawImage,
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
