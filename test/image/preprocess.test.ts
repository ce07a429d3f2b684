import assert from 'node:assert/strict';
import { gunzipSync } from 'node:zlib';
import { defaultImageConfig, type ImageConfig } from '../../src/image/image-config.js';
import { keepRatioSize, preprocess, shortestEdgeSize, toChannelsFirst } from '../../src/image/preprocess.js';
import { type RgbImage, rgbImage } from '../../src/image/raw-image.js';
import { centerCrop, planCenterCrop, type ResizeFilter, resize } from '../../src/image/resize.js';
import { readBin, readJson } from '../support/fixtures.js';
import { decodeReference, PROCESSOR, type ReferenceSize, referenceImages, sha256 } from './support.js';

/** Tensors of a safetensors file as bytes, enough for these tests. */
function tensors(path: string): (name: string) => { bytes: Uint8Array; shape: number[] } {
  const file = readBin(path);
  const start = 8 + Number(new DataView(file.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(file.subarray(8, start)));
  return (name) => {
    const [from, to] = header[name].data_offsets;
    return { bytes: file.slice(start + from, start + to), shape: header[name].shape };
  };
}

const clip = (side: number): ImageConfig => defaultImageConfig(side);

describe('preprocessing', () => {
  it('resize: 30 cases, each filter of Pillow, bit for bit; also any window of the result', () => {
    const { resize_cases: cases } = readJson<{ resize_cases: Record<string, number & string>[] }>(
      `${PROCESSOR}resize.json`,
    );
    const stored = tensors(`${PROCESSOR}resize.safetensors`);
    let compared = 0;
    for (const { key, in_height, in_width, out_height, out_width } of cases) {
      const image = rgbImage(stored(`in.${key}`).bytes, in_width!, in_height!);
      for (const filter of ['bicubic', 'bilinear', 'lanczos', 'nearest', 'box', 'hamming'] as const) {
        let expected: Uint8Array;
        try {
          expected = stored(`out.${key}.${filter}`).bytes;
        } catch {
          continue;
        }
        const result = resize(image, out_width!, out_height!, filter);
        assert.equal(Buffer.compare(result.data, expected), 0, `${key} ${filter}`);
        compared++;
        checkWindow(image, result, filter);
      }
    }
    console.log(`      ${compared} resized images, 0 bytes differ`);
    assert.ok(compared >= 3 * cases.length);
  });

  function checkWindow(image: RgbImage, whole: RgbImage, filter: ResizeFilter): void {
    const window = { left: whole.width >> 2, top: whole.height >> 1, width: (whole.width + 1) >> 1, height: 1 };
    const part = resize(image, whole.width, whole.height, filter, window);
    const from = (window.top * whole.width + window.left) * 3;
    assert.deepEqual(part.data, whole.data.slice(from, from + window.width * 3));
  }

  it('target sizes and crop offsets: 400 cases', () => {
    const { target_sizes: sizes } = readJson<{ target_sizes: { rows: number[][] } }>(`${PROCESSOR}resize.json`);
    for (const [width, height, edge, newWidth, newHeight, left, top] of sizes.rows) {
      assert.deepEqual(shortestEdgeSize(width!, height!, edge!), [newWidth, newHeight]);
      const { window } = planCenterCrop(newWidth!, newHeight!, edge!, edge!);
      assert.deepEqual([window.left, window.top], [left, top]);
    }
    assert.ok(sizes.rows.length >= 400);
  });

  for (const side of [224, 30] as const) {
    it(`resized bytes, crops and pixel_values at ${side}: bit for bit`, async () => {
      for (const reference of referenceImages()) {
        const image = await decodeReference(reference.file);
        const expected: ReferenceSize = reference[`size${side}`];
        const { resized_width, resized_height, crop_left, crop_top } = expected;
        const resized = resize(image, resized_width, resized_height, 'bicubic');
        assert.equal(sha256(resized.data), expected.resized_sha256, reference.file);
        const { window } = planCenterCrop(resized_width, resized_height, side, side);
        assert.deepEqual([window.left, window.top], [crop_left, crop_top]);
        assert.equal(sha256(centerCrop(resized, side, side).data), expected.crop_sha256, reference.file);
        const values = preprocess([image], clip(side));
        assert.deepEqual(values.shape, [1, side, side, 3]);
        assert.equal(sha256(toChannelsFirst(values)), expected.pixel_values_sha256, reference.file);
      }
    });
  }

  it('a crop larger than the image is padded as Hugging Face 4.40 pads', async () => {
    const { crop_with_padding: facts } = readJson<{ crop_with_padding: Record<string, number & string> }>(
      `${PROCESSOR}pictures.json`,
    );
    const config: ImageConfig = {
      ...clip(224),
      size: { shortestEdge: facts['shortest_edge']! },
      cropSize: { height: facts['crop_height']!, width: facts['crop_width']! },
    };
    const values = preprocess([await decodeReference(facts['source']!)], config, {
      preprocessing: 'transformers-4.40',
    });
    const { bytes, shape } = tensors(`${PROCESSOR}crop_with_padding.safetensors`)('pixel_values');
    assert.deepEqual([3, values.shape[1], values.shape[2]], shape);
    assert.equal(sha256(toChannelsFirst(values)), sha256(bytes));
  });

  it('normalized values of all bytes: the three tables', () => {
    const stored = tensors(`${PROCESSOR}normalize_table.safetensors`);
    const ramp = rgbImage(
      Uint8Array.from({ length: 256 }, (_, i) => i),
      256,
      1,
      1,
    );
    const config = { ...clip(1), doResize: false, doCenterCrop: false };
    const table = stored('normalize_table').bytes;
    assert.equal(sha256(toChannelsFirst(preprocess([ramp], config))), sha256(table));
    assert.equal(sha256(stored('normalize_table_original').bytes), sha256(table));
    const video = { ...defaultImageConfig(1, 'videomae'), doResize: false, doCenterCrop: false };
    const oneChannel = toChannelsFirst(preprocess([ramp], video)).slice(0, 256);
    assert.equal(sha256(oneChannel), sha256(stored('normalize_table_video').bytes));
  });

  it('the original route and the video processor: sizes, bytes, values', async () => {
    const routes = readJson<{ minmax_sizes: { rows: number[][] }; cases: RouteCase[] }>(
      `${PROCESSOR}other-routes.json`,
    );
    for (const [width, height, min, max, newWidth, newHeight] of routes.minmax_sizes.rows) {
      assert.deepEqual(keepRatioSize(width!, height!, min!, max!), [newWidth, newHeight], `${width} ${height} ${min}`);
    }
    for (const { file, original_224, original_minmax_96_128, video_processor_224 } of routes.cases) {
      const image = await decodeReference(file);
      const original = preprocess([image], clip(224), { preprocessing: 'original' });
      assert.equal(sha256(toChannelsFirst(original)), original_224.pixel_values_sha256, file);
      const kept = preprocess([image], clip(224), { preprocessing: 'original', keepRatio: { min: 96, max: 128 } });
      assert.deepEqual(kept.shape, [1, original_minmax_96_128.height, original_minmax_96_128.width, 3]);
      assert.equal(sha256(toChannelsFirst(kept)), original_minmax_96_128.pixel_values_sha256, file);
      const video = preprocess([image], defaultImageConfig(224, 'videomae'));
      assert.equal(sha256(toChannelsFirst(video)), video_processor_224.pixel_values_sha256, file);
    }
    console.log(`      ${routes.minmax_sizes.rows.length} sizes, ${routes.cases.length} images by three routes`);
  });

  it('a batch equals its images one by one; images of different sizes are no batch', async () => {
    const images = await Promise.all(['images/png_rgb.png', 'images/jpeg_gray_q80.jpg'].map(decodeReference));
    const batch = preprocess(images, clip(30));
    const single = preprocess([images[1]!], clip(30));
    assert.deepEqual(batch.shape, [2, 30, 30, 3]);
    assert.deepEqual(batch.data.slice(single.data.length), single.data);
    assert.throws(() => preprocess(images, { ...clip(30), doCenterCrop: false }), {
      name: 'ImageError',
      code: 'image-batch',
    });
    assert.throws(() => preprocess([], clip(30)), { name: 'OptionError' });
  });

  it('extreme shapes cost what the crop costs', () => {
    const thin = rgbImage(new Uint8Array(65_000 * 3).fill(9), 1, 65_000);
    const { data } = preprocess([thin], clip(224)); // resized it would have 3 billion pixels, which no array holds
    assert.equal(new Set(data).size, 3);
    assert.throws(() => preprocess([thin], { ...clip(224), doCenterCrop: false }), { code: 'image-shape' });
    const endless = { data: new Uint8Array(0), width: 1, height: 100_000_000 };
    assert.throws(() => resize(endless, 5, 5, 'box'), { name: 'ImageError', code: 'image-size' });
  });

  it('wrong sizes and raw images are typed errors', () => {
    const image = rgbImage(new Uint8Array(12), 2, 2);
    for (const [width, height] of [
      [0, 1],
      [1, -1],
      [1.5, 1],
      [Number.NaN, 1],
      [1, Number.POSITIVE_INFINITY],
    ]) {
      assert.throws(() => resize(image, width!, height!, 'bicubic'), { name: 'OptionError' });
    }
    assert.throws(() => resize(image, 1, 1, 'constructor' as ResizeFilter), { name: 'OptionError' });
    assert.throws(() => rgbImage(new Uint8Array(11), 2, 2), { name: 'ImageError', code: 'raw-image' });
    assert.throws(() => rgbImage(new Uint8Array(0), 0, 2), { name: 'ImageError', code: 'raw-image' });
    assert.deepEqual([...rgbImage(Uint8ClampedArray.of(1, 2, 3, 0), 1, 1, 4).data], [1, 2, 3]);
    assert.deepEqual([...rgbImage(Uint8Array.of(7, 0), 1, 1, 2).data], [7, 7, 7]);
  });

  it('the decoded reference bytes are what their archive holds', () => {
    const [image] = referenceImages();
    assert.equal(sha256(gunzipSync(readBin(`${PROCESSOR}${image!.decoded.file}`))), image!.decoded.sha256);
  });
});

interface RouteCase {
  readonly file: string;
  readonly original_224: { readonly pixel_values_sha256: string };
  readonly original_minmax_96_128: {
    readonly width: number;
    readonly height: number;
    readonly pixel_values_sha256: string;
  };
  readonly video_processor_224: { readonly pixel_values_sha256: string };
}
