import { z } from 'zod/mini';
import { ConfigError } from '../errors.js';
import { defaultImageConfig } from '../image/image-config.js';
import { keepRatioSize, preprocess, shortestEdgeSize, toChannelsFirst } from '../image/preprocess.js';
import type { RawImage } from '../image/raw-image.js';
import type { ResizeFilter } from '../image/resize.js';
import { planCenterCrop, resize } from '../image/resize.js';
import type { CaseFile } from './case-file.js';
import { needTensor, readCaseFile, readJsonFile, sniffJson } from './case-file.js';
import type { CaseKind, ParityCase } from './case-kind.js';
import type { HostTensor } from './compare.js';
import { compareNumbers } from './compare.js';
import { compareIdRows } from './compare-sequences.js';
import type { Folder } from './folders.js';
import { compareBytes } from './image-rows.js';
import type { ParityRow } from './parity-row.js';
import { notRun } from './parity-row.js';

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
function toImage({ shape, values }: HostTensor, file: string, path: string): RawImage {
  const [height = 0, width = 0, channels] = shape;
  if (values instanceof Uint8Array && shape.length === 3 && channels === 3) return { data: values, height, width };
  throw new ConfigError({ file: `${file}.safetensors`, path, code: 'case-layout', detail: 'not uint8 [H, W, 3]' });
}

/** A table of sizes: the columns that `compute` gives, from those that it takes. */
export function sizesCase(
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
export const ratioSize = (row: Readonly<Record<string, number>>): Readonly<Record<string, number>> => {
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
function allBytes(): RawImage {
  const data = Uint8Array.from({ length: 256 * 256 * 3 }, (_, i) => Math.floor(i / 3) % 256);
  return { data, width: 256, height: 256 };
}

/** The first row of each channel: [3 · 256]. */
function byteValues(pixels: ReturnType<typeof preprocess>): Float32Array {
  const values = toChannelsFirst(pixels);
  return Float32Array.from({ length: 768 }, (_, i) => values[Math.floor(i / 256) * 256 * 256 + (i % 256)]!);
}
