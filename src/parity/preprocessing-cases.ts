import * as z from 'zod/mini';
import { ConfigError } from '../errors.js';
import { defaultImageConfig } from '../image/image-config.js';
import { keepRatioSize, preprocess, shortestEdgeSize, toChannelsFirst } from '../image/preprocess.js';
import type { RgbImage } from '../image/raw-image.js';
import { planCenterCrop, type ResizeFilter, resize } from '../image/resize.js';
import type { HostTensor } from './cases.js';
import {
  type CaseFile,
  type CaseKind,
  checkLayout,
  type Folder,
  firstOf,
  needTensor,
  notRun,
  type ParityCase,
  type ParityRow,
  readCaseFile,
  readJsonFile,
  sniffJson,
} from './cases.js';
import { compareIdRows, compareNumbers } from './compare.js';
import { compareBytes, compareFacts, comparePixelValues, readImage, samples, sha256 } from './image-cases.js';

/** By these a file is known. */
const sign = z.object({ resize_cases: z.array(z.unknown()) });
const tableSchema = z.object({ columns: z.array(z.string()), rows: z.array(z.array(z.number())) });
const schema = z.object({
  resize_cases: z.array(z.object({ key: z.string() })),
  file: z.string(),
  target_sizes: z.optional(tableSchema),
});

/** `in.KEY` resized to the size of `out.KEY.FILTER`, and a table of target sizes and crop offsets. */
export const resizeCases: CaseKind = {
  async find(folder, unclaimed) {
    const cases: ParityCase[] = [];
    const claims: string[] = [];
    for (const json of unclaimed.filter((name) => name.endsWith('.json'))) {
      if (!(await sniffJson(folder.path, json, sign))) continue;
      const { resize_cases: keys, file, target_sizes: sizes } = await readJsonFile(folder.path, json, schema);
      const prefix = `${folder.label}/${json.replace(/\.json$/, '')}`;
      const base = file.replace(/\.safetensors$/, '');
      for (const { key } of keys) {
        const name = `${prefix}/${key}`;
        cases.push({
          name,
          async *run() {
            yield* resizeRows(await readCaseFile(folder.path, base, false), key, name);
          },
        });
      }
      if (sizes !== undefined) cases.push(sizesCase(`${prefix}/target_sizes`, sizes, targetSize));
      claims.push(json, file);
    }
    return { cases, claims };
  },
};

const FILTERS = new Set<string>([
  'nearest',
  'box',
  'bilinear',
  'hamming',
  'bicubic',
  'lanczos',
] satisfies ResizeFilter[]);

function* resizeRows(file: CaseFile, key: string, caseName: string): Generator<ParityRow> {
  const source = toImage(needTensor(file, `in.${key}`), file.name, `in.${key}`);
  const prefix = `out.${key}.`;
  for (const [name, expected] of file.tensors) {
    if (!name.startsWith(prefix)) continue;
    const filter = name.slice(prefix.length);
    if (!FILTERS.has(filter)) yield notRun(caseName, filter, 'no filter of this name');
    else {
      const { width, height, data: bytes } = toImage(expected, file.name, name);
      yield compareBytes(caseName, filter, resize(source, width, height, filter as ResizeFilter), {
        width,
        height,
        bytes,
      });
    }
  }
}

/** uint8 [H, W, 3] as an image. */
function toImage({ shape, values }: HostTensor, file: string, path: string): RgbImage {
  const [height = 0, width = 0, channels] = shape;
  if (values instanceof Uint8Array && shape.length === 3 && channels === 3) return { data: values, height, width };
  throw new ConfigError({ file: `${file}.safetensors`, path, code: 'case-layout', detail: 'not uint8 [H, W, 3]' });
}

/** A table of sizes: the columns that `compute` gives, from those that it takes. */
function sizesCase(
  name: string,
  { columns, rows }: z.infer<typeof tableSchema>,
  compute: (row: Readonly<Record<string, number>>) => Readonly<Record<string, number>>,
): ParityCase {
  return {
    name,
    async *run() {
      const named = rows.map((row) => Object.fromEntries(columns.map((column, i) => [column, row[i]!])));
      const ours = named.map((row) => ({ ...row, ...compute(row) }) as Record<string, number>);
      const pick = (table: readonly Readonly<Record<string, number>>[]) =>
        table.map((row) => columns.map((column) => row[column]!));
      yield compareIdRows(name, 'sizes', pick(ours), pick(named));
    },
  };
}

const targetSize = (row: Readonly<Record<string, number>>): Readonly<Record<string, number>> => {
  const edge = row['shortest_edge']!;
  const [new_width, new_height] = shortestEdgeSize(row['width']!, row['height']!, edge);
  const { window } = planCenterCrop(new_width, new_height, edge, edge);
  return { new_width, new_height, crop_left: window.left, crop_top: window.top };
};

/** The original's size for questions: short side `min_size`, long side at most about `max_size`. */
const ratioSize = (row: Readonly<Record<string, number>>): Readonly<Record<string, number>> => {
  const [new_width, new_height] = keepRatioSize(row['width']!, row['height']!, row['min_size']!, row['max_size']!);
  return { new_width, new_height };
};

/** What each of the 256 byte values becomes in each channel, `normalize_table…`, with the file's `mean` and `std`. */
export const normalizeCases: CaseKind = {
  async find(folder: Folder, unclaimed) {
    const files = unclaimed.filter((file) => /^normali[sz]e_table\.safetensors$/.test(file));
    const cases = files.map((file): ParityCase => {
      const base = file.replace(/\.safetensors$/, '');
      const name = `${folder.label}/${base}`;
      return {
        name,
        async *run() {
          yield* tableRows(await readCaseFile(folder.path, base, false), name);
        },
      };
    });
    return { cases, claims: files };
  },
};

function* tableRows(file: CaseFile, caseName: string): Generator<ParityRow> {
  const three = (name: string) => Array.from(needTensor(file, name).values) as [number, number, number];
  const clip = { ...defaultImageConfig(256), imageMean: three('mean'), imageStd: three('std') };
  const tables: Readonly<Record<string, () => Float32Array>> = {
    normalize_table: () => byteValues(preprocess([allBytes()], clip)),
    normalize_table_original: () => byteValues(preprocess([allBytes()], clip, { preprocessing: 'original' })),
    normalize_table_video: () => byteValues(preprocess([allBytes()], defaultImageConfig(256, 'videomae'))),
  };
  for (const [name, expected] of file.tensors) {
    if (name === 'mean' || name === 'std') continue;
    const table = tables[name]?.();
    if (table === undefined) {
      yield notRun(caseName, name, 'no table of this name');
      continue;
    }
    const values = expected.shape.length === 1 ? table.subarray(0, 256) : table; // one row where all channels are alike
    yield compareNumbers(
      caseName,
      name,
      { shape: expected.shape.length === 1 ? [256] : [3, 256], values },
      {
        expected,
        isTruth: false,
        tolerance: 0,
      },
    );
  }
}

/** 256 by 256 pixels: column v is gray of value v, so that no resizing is needed. */
function allBytes(): RgbImage {
  const data = Uint8Array.from({ length: 256 * 256 * 3 }, (_, i) => Math.floor(i / 3) % 256);
  return { data, width: 256, height: 256 };
}

/** The first row of each channel: [3 · 256]. */
function byteValues(pixels: ReturnType<typeof preprocess>): Float32Array {
  const values = toChannelsFirst(pixels);
  return Float32Array.from({ length: 768 }, (_, i) => values[Math.floor(i / 256) * 256 * 256 + (i % 256)]!);
}

/** By these a file is known. */
const preprocessingSign = z.object({ minmax_sizes: z.unknown(), cases: firstOf(z.object({ file: z.string() })) });

const expectedSchema = z.object({
  pixel_values_sha256: z.string(),
  crop_top: z.optional(z.int()),
  crop_left: z.optional(z.int()),
  width: z.optional(z.int()),
  height: z.optional(z.int()),
  resized_sha256: z.optional(z.string()),
  sample: z.optional(samples),
});
type Expected = z.infer<typeof expectedSchema>;

const preprocessingFile = z.object({
  minmax_sizes: z.object({ columns: z.array(z.string()), rows: z.array(z.array(z.number())) }),
  cases: z.array(z.catchall(z.object({ file: z.string() }), z.unknown())),
});

/** Other ways from an image to model input: the original's, with and without keeping the shape, and the video processor's. */
export const preprocessingCases: CaseKind = {
  async find(folder, unclaimed) {
    const cases: ParityCase[] = [];
    const claims: string[] = [];
    for (const file of unclaimed.filter((name) => name.endsWith('.json'))) {
      if (!(await sniffJson(folder.path, file, preprocessingSign))) continue;
      const { minmax_sizes: sizes, cases: images } = await readJsonFile(folder.path, file, preprocessingFile);
      const prefix = `${folder.label}/${file.replace(/\.json$/, '')}`;
      cases.push(sizesCase(`${prefix}/minmax_sizes`, sizes, ratioSize));
      for (const { file: image, ...kinds } of images) {
        const name = `${prefix}/${image.split('/').at(-1)}`;
        cases.push({
          name,
          async *run() {
            const source = await readImage(folder.path, image);
            for (const [key, route] of Object.entries(kinds)) yield* preprocessingRows(name, key, source, route);
          },
        });
      }
      claims.push(file);
    }
    return { cases, claims };
  },
};

function* preprocessingRows(caseName: string, key: string, source: RgbImage, json: unknown): Generator<ParityRow> {
  const [, kind, first, second] =
    /^(original|original_minmax|video_processor)_(\d{1,4})(?:_(\d{1,4}))?$/.exec(key) ?? [];
  const [edge, most] = [Number(first), Number(second)];
  const expectedOf = (value: unknown): Expected => checkLayout(value, `${caseName} ${key}`, expectedSchema);
  if (kind === 'original' && second === undefined) yield* originalRows(caseName, key, source, edge, expectedOf(json));
  else if (kind === 'original_minmax' && second !== undefined) {
    yield* ratioRows(caseName, key, source, { min: edge, max: most }, expectedOf(json));
  } else if (kind === 'video_processor' && second === undefined) {
    const route = expectedOf(json);
    const pixels = preprocess([source], defaultImageConfig(edge, 'videomae'));
    yield comparePixelValues(caseName, key, pixels, { sha256: route.pixel_values_sha256, samples: route.sample });
  } else yield notRun(caseName, key, 'no preprocessing of this name');
}

function* originalRows(
  caseName: string,
  key: string,
  source: RgbImage,
  edge: number,
  route: Expected,
): Generator<ParityRow> {
  const [width, height] = shortestEdgeSize(source.width, source.height, edge);
  const { window } = planCenterCrop(width, height, edge, edge, 'half-even');
  const { crop_top, crop_left } = route;
  yield compareFacts(
    caseName,
    `${key} crop`,
    { crop_top: window.top, crop_left: window.left },
    { crop_top, crop_left },
  );
  const pixels = preprocess([source], defaultImageConfig(edge), { preprocessing: 'original' });
  yield comparePixelValues(caseName, key, pixels, { sha256: route.pixel_values_sha256, samples: route.sample });
}

function* ratioRows(
  caseName: string,
  key: string,
  source: RgbImage,
  keepRatio: { readonly min: number; readonly max: number },
  route: Expected,
): Generator<ParityRow> {
  const [width, height] = keepRatioSize(source.width, source.height, keepRatio.min, keepRatio.max);
  const resized = resize(source, width, height, 'bicubic');
  const { width: expectedWidth, height: expectedHeight, resized_sha256 } = route;
  const facts = { width, height, resized_sha256: sha256(resized.data) };
  yield compareFacts(caseName, `${key} resized`, facts, {
    width: expectedWidth,
    height: expectedHeight,
    resized_sha256,
  });
  const pixels = preprocess([source], defaultImageConfig(), { preprocessing: 'original', keepRatio });
  yield comparePixelValues(caseName, key, pixels, { sha256: route.pixel_values_sha256, samples: route.sample });
}
