import { z } from 'zod/mini';
import { defaultImageConfig } from '../image/image-config.js';
import { keepRatioSize, preprocess, shortestEdgeSize } from '../image/preprocess.js';
import type { RawImage } from '../image/raw-image.js';
import { planCenterCrop, resize } from '../image/resize.js';
import { checkLayout, firstOf, readJsonFile, sniffJson } from './case-file.js';
import type { CaseKind, ParityCase } from './case-kind.js';
import { compareFacts, comparePixelValues, readImage, samples, sha256 } from './image-rows.js';
import type { ParityRow } from './parity-row.js';
import { notRun } from './parity-row.js';
import { ratioSize, sizesCase } from './resize-cases.js';

/** By these a file is known. */
const sign = z.object({ minmax_sizes: z.unknown(), cases: firstOf(z.object({ file: z.string() })) });

const routeSchema = z.object({
  pixel_values_sha256: z.string(),
  crop_top: z.optional(z.int()),
  crop_left: z.optional(z.int()),
  width: z.optional(z.int()),
  height: z.optional(z.int()),
  resized_sha256: z.optional(z.string()),
  sample: z.optional(samples),
});
type Route = z.infer<typeof routeSchema>;

const schema = z.object({
  minmax_sizes: z.object({ columns: z.array(z.string()), rows: z.array(z.array(z.number())) }),
  cases: z.array(z.catchall(z.object({ file: z.string() }), z.unknown())),
});

/** Other ways from an image to model input: the original's, with and without keeping the shape, and the video processor's. */
export const routeCases: CaseKind = {
  async find(folder, unclaimed) {
    const cases: ParityCase[] = [];
    const claims: string[] = [];
    for (const file of unclaimed.filter((name) => name.endsWith('.json'))) {
      if (!(await sniffJson(folder.path, file, sign))) continue;
      const { minmax_sizes: sizes, cases: images } = await readJsonFile(folder.path, file, schema);
      const prefix = `${folder.label}/${file.replace(/\.json$/, '')}`;
      cases.push(sizesCase(`${prefix}/minmax_sizes`, sizes, ratioSize));
      for (const { file: image, ...routes } of images) {
        const name = `${prefix}/${image.split('/').at(-1)}`;
        cases.push({
          name,
          async *run() {
            const source = await readImage(folder.path, image);
            for (const [key, route] of Object.entries(routes)) yield* routeRows(name, key, source, route);
          },
        });
      }
      claims.push(file);
    }
    return { cases, claims };
  },
};

function* routeRows(caseName: string, key: string, source: RawImage, json: unknown): Generator<ParityRow> {
  const [, kind, first, second] =
    /^(original|original_minmax|video_processor)_(\d{1,4})(?:_(\d{1,4}))?$/.exec(key) ?? [];
  const [edge, most] = [Number(first), Number(second)];
  const routeOf = (value: unknown): Route => checkLayout(value, `${caseName} ${key}`, routeSchema);
  if (kind === 'original' && second === undefined) yield* originalRows(caseName, key, source, edge, routeOf(json));
  else if (kind === 'original_minmax' && second !== undefined) {
    yield* ratioRows(caseName, key, source, { min: edge, max: most }, routeOf(json));
  } else if (kind === 'video_processor' && second === undefined) {
    const route = routeOf(json);
    const pixels = preprocess([source], defaultImageConfig(edge, 'videomae'));
    yield comparePixelValues(caseName, key, pixels, { sha256: route.pixel_values_sha256, samples: route.sample });
  } else yield notRun(caseName, key, 'no route of this name');
}

function* originalRows(
  caseName: string,
  key: string,
  source: RawImage,
  edge: number,
  route: Route,
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
  source: RawImage,
  keepRatio: { readonly min: number; readonly max: number },
  route: Route,
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
