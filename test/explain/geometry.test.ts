import assert from 'node:assert/strict';
import fc from 'fast-check';
import { OptionError } from '../../src/errors.js';
import { defaultImageConfig, type ImageConfig } from '../../src/image/image-config.js';
import type { PreprocessOptions } from '../../src/image/image-options.js';
import { preprocess } from '../../src/image/preprocess.js';
import type { RgbImage } from '../../src/image/raw-image.js';
import { heatMap, patchArea, type Rectangle } from '../../src/index.js';

/** Bytes as they are, no averaging of neighbors: what a patch of the input shows can be read off. */
const plain: ImageConfig = {
  ...defaultImageConfig(56),
  ...{ resample: 'nearest', doRescale: false, doNormalize: false },
};

/** A black image, white where one patch's weight would be drawn. */
function litImage(
  size: { width: number; height: number },
  grid: { rows: number; columns: number },
  patch: number,
  seen: Rectangle,
): RgbImage {
  const patches = new Float32Array(grid.rows * grid.columns);
  patches[patch] = 1;
  const { width, height } = size;
  const { values } = heatMap({ patches }, { frames: 1, ...grid }, 0, seen, width, height, 'patches');
  const data = new Uint8Array(width * height * 3);
  for (const [i, value] of values.entries()) data.fill(value * 255, i * 3, i * 3 + 3);
  return { data, width, height };
}

/** The mean level of every patch of the model's input. */
function levels(data: Float32Array, width: number, side: number, grid: { rows: number; columns: number }): number[] {
  return Array.from({ length: grid.rows * grid.columns }, (_, patch) => {
    const [top, left] = [Math.floor(patch / grid.columns) * side, (patch % grid.columns) * side];
    let sum = 0;
    for (let y = top; y < top + side; y++) for (let x = left; x < left + side; x++) sum += data[(y * width + x) * 3]!;
    return sum / (side * side * 255);
  });
}

/**
 * Draws patch `patch` on the image and lets `preprocess` look at it: the input's patch must be white and all others black, but for a pixel
 * at the edges, which is what drawing and reading in whole pixels can miss.
 */
function checkRoundTrip(
  size: { width: number; height: number },
  side: number,
  config: ImageConfig,
  options: PreprocessOptions,
  patch: number,
): void {
  const { seen, ...grid } = patchArea(size, side, config, options);
  const image = litImage(size, grid, patch % (grid.rows * grid.columns), seen);
  const { data, shape } = preprocess([image], config, options);
  assert.deepEqual([grid.rows, grid.columns], [Math.floor(shape[1] / side), Math.floor(shape[2] / side)]);
  const all = levels(data, shape[2], side, grid);
  const [lit] = all.splice(patch % all.length, 1);
  const edge = 1 / Math.min(side, seen.width / grid.columns, seen.height / grid.rows);
  const said = `patch ${patch} of ${size.width} by ${size.height}: ${lit}, another ${Math.max(...all)}, edge ${edge}`;
  assert.ok(lit! >= (1 - edge) ** 2 - 1e-6 && Math.max(0, ...all) <= edge + 1e-6, said);
}

describe('where patches lie on the image as it was given', () => {
  const shapes = [
    ['wide', { width: 400, height: 130 }],
    ['tall', { width: 121, height: 300 }],
    ['square', { width: 224, height: 224 }],
    ['small', { width: 23, height: 31 }],
    ['odd', { width: 177, height: 112 }],
  ] as const;
  for (const [name, size] of shapes) {
    it(`a ${name} image: the drawn patch is the one that the model's input shows`, () => {
      for (let patch = 0; patch < 16; patch++) {
        checkRoundTrip(size, 14, plain, {}, patch);
      }
    });
  }

  it('without a crop, without a resize, and with a crop larger than the image', () => {
    const squeezed: ImageConfig = { ...plain, size: { height: 42, width: 70 }, doCenterCrop: false };
    const asIs: ImageConfig = { ...plain, doResize: false, doCenterCrop: false };
    const cropped: ImageConfig = { ...plain, doResize: false };
    for (const config of [squeezed, asIs, cropped]) {
      for (let patch = 0; patch < 12; patch++) {
        checkRoundTrip({ width: 111, height: 90 }, 14, config, {}, patch);
      }
    }
    const padded = patchArea({ width: 30, height: 20 }, 14, cropped); // 56 by 56 around it
    assert.deepEqual(padded.seen, { left: -13, top: -18, width: 56, height: 56 });
  });

  it("the original's routes: its crop, and the ratio kept without any", () => {
    // preprocessing normalizes and resizes bicubically, whatever the configuration says: compare brightness before and after
    const size = { width: 300, height: 121 };
    for (const options of [
      { preprocessing: 'original' },
      { preprocessing: 'original', keepRatio: { min: 56, max: 100 } },
    ] as const satisfies PreprocessOptions[]) {
      const { seen, ...grid } = patchArea(size, 14, plain, options);
      for (let patch = 0; patch < grid.rows * grid.columns; patch++) {
        const { data, shape } = preprocess([litImage(size, grid, patch, seen)], plain, options);
        const all = levels(data, shape[2], 14, grid);
        assert.equal(all.indexOf(Math.max(...all)), patch);
      }
      if ('keepRatio' in options) assert.deepEqual([grid, seen.left, seen.top], [{ rows: 2, columns: 7 }, 0, 0]);
    }
  });

  it('any size: inside the image, centered, patches as square as the resize left them', () => {
    const side = fc.integer({ min: 8, max: 700 });
    fc.assert(
      fc.property(side, side, fc.integer({ min: 0, max: 15 }), (width, height, patch) => {
        const { seen } = patchArea({ width, height }, 14, plain);
        const slack = Math.max(width, height) / 56 + 1e-9; // a pixel of the resized image
        assert.ok(seen.left >= 0 && seen.top >= 0);
        assert.ok(seen.left + seen.width <= width + slack && seen.top + seen.height <= height + slack);
        assert.ok(Math.abs(seen.left + seen.width / 2 - width / 2) <= slack);
        assert.ok(Math.abs(seen.top + seen.height / 2 - height / 2) <= slack);
        if (Math.min(width, height) < 56) return; // fewer than a pixel of the image per pixel of the input: edges blur
        checkRoundTrip({ width, height }, 14, plain, {}, patch);
      }),
      { numRuns: 60, seed: 7 },
    );
  });

  it('refuses an input without a patch', () => {
    const code = (error: unknown) => error instanceof OptionError && error.code === 'out-of-range';
    assert.throws(() => patchArea({ width: 100, height: 100 }, 57, plain), code);
  });
});
