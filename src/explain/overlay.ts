import { encode } from 'fast-png';
import { OptionError } from '../errors.js';
import type { RawImage } from '../image/raw-image.js';
import { resize } from '../image/resize.js';
import { type Filling, heatMap } from './heat-map.js';
import { withLegend } from './legend.js';
import { lookOf } from './looks.js';
import { paintHeat } from './paint.js';
import type { ExplainedImage, Explanation, View } from './types.js';

export interface OverlayOptions {
  /** Default `mean`. */
  readonly view?: View | undefined;
  /** Which frame of a video. Default 0. */
  readonly frame?: number | undefined;
  /**
   * The weight that gets the brightest colour: the largest patch of this word in all frames (`word`, default), which shows where; or the
   * largest of all words in this view (`shared`), which also shows how much.
   */
  readonly scale?: 'word' | 'shared' | undefined;
  /** Between patches: `smooth` (default), or `patches` as they are. */
  readonly filling?: Filling | undefined;
  /** A strip with the colours and their percentages below the image, 26 pixels high. Default true. */
  readonly legend?: boolean | undefined;
  /** Longest side; larger images are shrunk. Default 1024 pixels. */
  readonly maxSide?: number | undefined;
}

/**
 * The image as it was given with one word's heat map on it, as a PNG. Where the crop had cut something away, it is gray and dim.
 *
 * @param word its place in `explanation.words`.
 * @throws OptionError for a word, frame, layer or head that is not there.
 */
export function overlayPng(explanation: Explanation, word: number, options: OverlayOptions = {}): Uint8Array {
  const { view = 'mean', frame = 0, scale = 'word', filling = 'smooth', legend = true, maxSide = 1024 } = options;
  checkPlaces(explanation, word, view, frame);
  const { image, seen } = fitted(explanation.images[frame]!, maxSide);
  const look = lookOf(explanation.words[word]!, view, explanation);
  const heat = heatMap(look, explanation.grid, frame, seen, image.width, image.height, filling);
  const top = scale === 'word' ? largest(look.patches) : sharedTop(explanation, view);
  const painted = paintHeat(image, heat, seen, top);
  return toPng(legend ? withLegend(painted, top) : painted);
}

/** The largest share of a patch over all words of the text, end token and the like apart. */
export function sharedTop(explanation: Explanation, view: View): number {
  const words = explanation.words.filter(({ special }) => !special);
  return words.reduce((top, word) => Math.max(top, largest(lookOf(word, view, explanation).patches)), 0);
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

export const toPng = ({ data, width, height }: RawImage): Uint8Array =>
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
