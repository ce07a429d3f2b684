import { encode } from 'fast-png';
import { OptionError } from '../errors.js';
import type { RgbImage } from '../image/raw-image.js';
import { resize } from '../image/resize.js';
import {
  type AttentionMap,
  attentionOf,
  type ExplainedImage,
  type Explanation,
  type Grid,
  type Rectangle,
  type View,
} from './attention-map.js';

/** Weights per pixel, float32 [height, width]. */
export interface HeatMap {
  readonly values: Float32Array;
  readonly width: number;
  readonly height: number;
}

/** How weights are filled in between patches: `smooth` bicubic, or `patches`, each a plain rectangle. */
export type Filling = 'smooth' | 'patches';

/** Which patches a pixel takes from, four for each pixel, and how much of each: both [length * 4]. */
interface Taps {
  readonly places: Int32Array;
  readonly weights: Float32Array;
}

/**
 * The weights of one frame's patches, drawn over `width` by `height` pixels of which the grid covers `area`. `smooth` is Catmull and Rom's
 * bicubic (a = -0.5): at the middle of a patch the value is exactly the patch's weight; between patches it is cut to 0 and the largest
 * weight, which the cubic may overshoot. Pixels outside `area` are 0.
 */
export function heatMap(
  map: Pick<AttentionMap, 'patches'>,
  grid: Grid,
  frame: number,
  area: Rectangle,
  width: number,
  height: number,
  filling: Filling = 'smooth',
): HeatMap {
  const { rows, columns } = grid;
  const weights = map.patches.subarray(frame * rows * columns, (frame + 1) * rows * columns);
  const most = weights.reduce((max, weight) => Math.max(max, weight), 0);
  const across = tapsOf(width, area.left, area.width, columns, filling);
  const down = tapsOf(height, area.top, area.height, rows, filling);
  const values = new Float32Array(width * height);
  const line = new Float32Array(columns);
  for (let y = 0; y < height; y++) {
    if (down.places[y * 4]! < 0) continue;
    for (let column = 0; column < columns; column++) line[column] = weighted(down, y, weights, column, columns);
    for (let x = 0; x < width; x++) {
      if (across.places[x * 4]! < 0) continue;
      values[y * width + x] = Math.min(most, Math.max(0, weighted(across, x, line, 0, 1)));
    }
  }
  return { values, width, height };
}

function weighted({ places, weights }: Taps, pixel: number, from: Float32Array, offset: number, stride: number) {
  let sum = 0;
  for (let tap = pixel * 4; tap < pixel * 4 + 4; tap++) sum += weights[tap]! * from[places[tap]! * stride + offset]!;
  return sum;
}

/** Taps along one axis: `count` patches over `length` pixels from `start`. A pixel whose middle is outside has places below 0. */
function tapsOf(pixels: number, start: number, length: number, count: number, filling: Filling): Taps {
  const places = new Int32Array(pixels * 4).fill(-1);
  const weights = new Float32Array(pixels * 4);
  for (let pixel = 0; pixel < pixels; pixel++) {
    const inside = (pixel + 0.5 - start) / length;
    if (inside < 0 || inside >= 1) continue;
    const place = filling === 'smooth' ? inside * count - 0.5 : Math.floor(inside * count);
    const first = Math.floor(place);
    const kernel = cubic(place - first);
    for (let tap = 0; tap < 4; tap++) {
      places[pixel * 4 + tap] = Math.min(count - 1, Math.max(0, first - 1 + tap)); // the border goes on outwards
      weights[pixel * 4 + tap] = kernel[tap]!;
    }
  }
  return { places, weights };
}

/** Catmull and Rom's weights of the four neighbors of a place `t` of the way from the second to the third. */
const cubic = (t: number): readonly [number, number, number, number] => [
  ((2 - t) * t - 1) * t * 0.5,
  ((3 * t - 5) * t * t + 2) * 0.5,
  ((4 - 3 * t) * t + 1) * t * 0.5,
  (t - 1) * t * t * 0.5,
];

export interface OverlayOptions {
  /** Default `mean`. */
  readonly view?: View | undefined;
  /** Which frame of a video. Default 0. */
  readonly frame?: number | undefined;
  /**
   * The weight where nothing is darkened: the largest patch of this word in all frames (`word`, default), which shows where; or the
   * largest of all words in this view (`shared`), which also shows how much.
   */
  readonly scale?: 'word' | 'shared' | undefined;
  /** Between patches: `smooth` (default), or `patches` as they are. */
  readonly filling?: Filling | undefined;
  /** A strip below the image that says how light goes with percentages, 26 pixels high. Default true. */
  readonly legend?: boolean | undefined;
  /** Longest side; larger images are shrunk. Default 1024 pixels. */
  readonly maxSide?: number | undefined;
}

/**
 * The image as it was given darkened where a word's attention did not go, as a PNG; colors stay true. Where the crop had cut something away, it is gray and dim.
 *
 * @param word its place in `explanation.words`.
 * @throws OptionError for a word, frame, layer or head that is not there.
 */
export function overlayPng(explanation: Explanation, word: number, options: OverlayOptions = {}): Uint8Array {
  const { view = 'mean', frame = 0, scale = 'word', filling = 'smooth', legend = true, maxSide = 1024 } = options;
  checkPlaces(explanation, word, view, frame);
  const { image, seen } = fitted(explanation.images[frame]!, maxSide);
  const map = attentionOf(explanation.words[word]!, view, explanation);
  const heat = heatMap(map, explanation.grid, frame, seen, image.width, image.height, filling);
  const top = scale === 'word' ? largest(map.patches) : sharedTop(explanation, view);
  const painted = paintHeat(image, heat, seen, top);
  return toPng(legend ? withLegend(painted, top) : painted);
}

/** The largest share of a patch over all words of the text, end token and the like apart. */
export function sharedTop(explanation: Explanation, view: View): number {
  const words = explanation.words.filter(({ special }) => !special);
  return words.reduce((top, word) => Math.max(top, largest(attentionOf(word, view, explanation).patches)), 0);
}

export const largest = (shares: Float32Array): number => shares.reduce((most, share) => Math.max(most, share), 0);

/** The image with no side above `maxSide`, and what was seen of it in the new pixels. */
export function fitted({ image, seen }: ExplainedImage, maxSide: number): ExplainedImage {
  if (!Number.isInteger(maxSide) || maxSide < 1) {
    throw new OptionError({ path: 'maxSide', code: 'out-of-range', detail: `${maxSide} is no number of pixels` });
  }
  const long = Math.max(image.width, image.height);
  if (long <= maxSide) return { image, seen };
  const shrink = (side: number) => Math.max(1, Math.round((side * maxSide) / long));
  const small = resize(image, shrink(image.width), shrink(image.height), 'bicubic');
  const [x, y] = [small.width / image.width, small.height / image.height];
  const area = { left: seen.left * x, top: seen.top * y, width: seen.width * x, height: seen.height * y };
  return { image: small, seen: area };
}

export const toPng = ({ data, width, height }: RgbImage): Uint8Array =>
  encode({ data, width, height, channels: 3 }, { zlib: { level: 6 } });

function checkPlaces({ words, grid, layers, heads }: Explanation, word: number, view: View, frame: number): void {
  const check = (path: string, value: number, count: number): void => {
    if (Number.isInteger(value) && value >= 0 && value < count) return;
    throw new OptionError({ path, code: 'out-of-range', detail: `${value}; there are ${count}, counted from 0` });
  };
  check('word', word, words.length);
  check('frame', frame, grid.frames);
  if (view === 'mean' || view === 'rollout') return;
  if (typeof view !== 'object' || view === null) {
    throw new OptionError({ path: 'view', code: 'unknown-view', detail: 'expected mean, rollout or a layer' });
  }
  check('view.layer', view.layer, layers);
  if (view.head !== undefined) check('view.head', view.head, heads);
}

/** How the image is darkened; the page's script is given the same numbers. */
export const PAINT = {
  /** How much of the light is taken where no weight is. Where the weight is largest, the image is as it was given. */
  veil: 0.68,
  /** What is left of the brightness of the part that was cut away before the model saw the image, which is gray. */
  unseen: 0.22,
} as const;

/** How much of the image's light is left at a weight of `value` of the largest, 0 to 1. */
const light = (value: number): number => 1 - PAINT.veil * (1 - value);

/**
 * Darkens an image where little weight is, and keeps its colors. What is outside `seen` is gray and dim.
 *
 * @param top the weight where the image is as it was given.
 */
export function paintHeat(image: RgbImage, heat: HeatMap, seen: Rectangle, top: number): RgbImage {
  const { width, height } = image;
  const data = new Uint8Array(image.data.length);
  for (let y = 0, at = 0; y < height; y++) {
    const rowSeen = y + 0.5 >= seen.top && y + 0.5 < seen.top + seen.height;
    for (let x = 0; x < width; x++, at += 3) {
      const isSeen = rowSeen && x + 0.5 >= seen.left && x + 0.5 < seen.left + seen.width;
      const gray = 0.2126 * image.data[at]! + 0.7152 * image.data[at + 1]! + 0.0722 * image.data[at + 2]!;
      const value = top > 0 ? Math.min(1, heat.values[y * width + x]! / top) : 0;
      for (let c = 0; c < 3; c++)
        data[at + c] = Math.round(isSeen ? image.data[at + c]! * light(value) : PAINT.unseen * gray);
    }
  }
  return { data, width, height };
}

/** Digits of 3 by 5 dots, a row a digit of base 8. */
const DOTS: Readonly<Record<string, string>> = {
  ...{ '0': '75557', '1': '26227', '2': '71747', '3': '71717', '4': '55711' },
  ...{ '5': '74717', '6': '74757', '7': '71222', '8': '75757', '9': '75717' },
  ...{ '.': '00002', '%': '51245', ' ': '00000', '<': '12421' },
};
const DOT = 2; // pixels
const GAP = 8;
const STRIP = 26;
const INK = [225, 225, 230] as const;
const PAPER = [20, 19, 24] as const;

/** A share as people read it: `12.3 %`, `< 0.1 %`. */
export const percent = (share: number): string =>
  share > 0 && share < 0.001 ? '< 0.1 %' : `${(100 * share).toFixed(1)} %`;

/** The image with a strip below it: white under the veil from 0 to `top`, with the numbers where there is room for them. */
export function withLegend(image: RgbImage, top: number): RgbImage {
  const { width } = image;
  const height = image.height + STRIP;
  const data = new Uint8Array(width * height * 3);
  data.set(image.data);
  const dot = (x: number, y: number, color: ArrayLike<number>): void => {
    if (x >= 0 && x < width) data.set(Array.from(color), ((image.height + y) * width + x) * 3);
  };
  for (let y = 0; y < STRIP; y++) for (let x = 0; x < width; x++) dot(x, y, PAPER);
  const [low, high] = ['0 %', percent(top)];
  const roomy = width >= textWidth(low) + textWidth(high) + 4 * GAP + 24;
  const left = roomy ? GAP + textWidth(low) + GAP : GAP;
  const right = width - (roomy ? GAP + textWidth(high) + GAP : GAP);
  for (let x = left; x < right; x++) {
    const level = Math.round(255 * light((x - left) / Math.max(1, right - left - 1)));
    for (let y = GAP; y < STRIP - GAP; y++) dot(x, y, [level, level, level]);
  }
  if (roomy) {
    writeText(low, GAP, dot);
    writeText(high, right + GAP, dot);
  }
  return { data, width, height };
}

const textWidth = (text: string): number => (text.length * 4 - 1) * DOT;

function writeText(text: string, left: number, dot: (x: number, y: number, color: ArrayLike<number>) => void): void {
  for (const [place, letter] of [...text].entries()) {
    for (const [row, dots] of [...DOTS[letter]!].entries()) {
      for (let column = 0; column < 3; column++) {
        if (((Number(dots) >> (2 - column)) & 1) === 0) continue;
        const [x, y] = [left + (place * 4 + column) * DOT, GAP + row * DOT];
        for (let i = 0; i < DOT * DOT; i++) dot(x + (i % DOT), y + Math.floor(i / DOT), INK);
      }
    }
  }
}
