import { readFileSync } from 'node:fs';
import type { Random } from '../../src/generation/generate.js';
import type { RgbImage } from '../../src/index.js';
import {
  Canvas,
  type Color,
  type Contour,
  ellipse,
  lowerHalfEllipse,
  rectangle,
  reversed,
  roundedRectangle,
} from './canvas.js';
import { FONT_COUNT, type Lettering, letterWord } from './lettering.js';

export { FONT_COUNT };

// The demo's world: one colored object that carries a printed word, before a plain background.

const listed = JSON.parse(readFileSync(new URL('./words.json', import.meta.url), 'utf8')) as { words: string[] };
export const WORDS: readonly string[] = listed.words;
export const OBJECTS = ['sign', 'round sign', 'book', 'bottle', 'mug', 'shirt', 'phone', 'ticket'] as const;
export const COLORS: Readonly<Record<string, Color>> = {
  red: [200, 30, 35],
  green: [35, 135, 60],
  blue: [30, 75, 200],
  yellow: [232, 218, 40],
  orange: [238, 122, 35],
  purple: [120, 45, 150],
  black: [22, 28, 26],
  white: [250, 246, 246],
  pink: [252, 140, 172],
  brown: [110, 68, 38],
  cyan: [40, 205, 215], // not of the demo's world, as the house below: what examples/few-shot-lora teaches
};
export const COLOR_NAMES = Object.keys(COLORS).filter((name) => name !== 'cyan');

/** A way to say what an object carries. */
const CARRIES: Readonly<Record<string, (word: string) => string>> = {
  book: (word) => `with the title ${word}`,
  bottle: (word) => `labeled ${word}`,
  mug: (word) => `with the word ${word} on it`,
  phone: (word) => `that shows the word ${word}`,
  ticket: (word) => `for the ${word}`,
};

export interface Scene {
  readonly object: string;
  readonly color: string;
  readonly word: string;
}

export const captionOf = ({ object, color, word }: Scene): string =>
  `a ${color} ${object} ${(CARRIES[object] ?? ((text: string) => `that says ${text}`))(word)}`;

/** The three questions and their answers. */
export const questionsOf = ({ object, color, word }: Scene) => [
  { question: `what color is the ${object}?`, text: color },
  { question: `what does the ${object} say?`, text: word },
  { question: 'what is this?', text: `a ${object}` },
];

export const videoCaptionOf = ({ object, color }: Scene, direction: string): string =>
  `a ${color} ${object} moves ${direction}`;

/** How a scene is drawn; everything that chance decides, so that the frames of a video are alike. */
export interface Look {
  readonly shade: Color;
  readonly font: number;
  readonly isUpper: boolean;
  /** Half the object's size, of the image's side. */
  readonly radius: number;
  /** Middle of the object, of the image's side. */
  readonly x: number;
  readonly y: number;
  /** Middle of the word, of the radius, from the object's. */
  readonly wordShift: readonly [x: number, y: number];
  readonly fill: { readonly width: number; readonly size: number };
  readonly background: { readonly from: Color; readonly to: Color; readonly isAcross: boolean };
  readonly patches: readonly { readonly place: readonly number[]; readonly color: Color; readonly opacity: number }[];
  /** Above 0 sharper, below 0 softer. */
  readonly sharpness: number;
  readonly noise: number;
}

const between = (random: Random, least: number, most: number): number => least + random() * (most - least);
export const pick = <T>(random: Random, list: readonly T[]): T => list[Math.floor(random() * list.length)]!;

/** What a scene of `words` shows. */
export const randomScene = (
  random: Random,
  words: readonly string[] = WORDS,
  objects: readonly string[] = OBJECTS,
  colors: readonly string[] = COLOR_NAMES,
): Scene => ({ object: pick(random, objects), color: pick(random, colors), word: pick(random, words) });

export interface LookOptions {
  /** 0 to 1: how much of the shifts and other variety there is. */
  readonly jitter?: number;
  readonly isVideo?: boolean;
  /** How many of the fonts. */
  readonly fonts?: number;
}

/** How a scene looks this time. */
export function randomLook(
  random: Random,
  { color }: Scene,
  { jitter = 1, isVideo = false, fonts = FONT_COUNT }: LookOptions = {},
): Look {
  const spread = (most: number) => jitter * between(random, -most, most);
  const ground = (): Color => [between(random, 50, 235), between(random, 50, 235), between(random, 50, 235)];
  const from = ground();
  const near = between(random, 0.1, 0.5);
  const other = ground();
  const [red, green, blue] = COLORS[color]!;
  return {
    shade: [red + spread(14), green + spread(14), blue + spread(14)].map((v) => Math.min(255, Math.max(0, v))) as never,
    font: Math.floor(random() * fonts),
    isUpper: random() < 0.5,
    radius: isVideo ? 0.268 + spread(0.015) : 0.415 + spread(0.022),
    x: 0.5 + spread(0.035),
    y: 0.5 + spread(0.035),
    wordShift: [spread(0.05), spread(0.06)],
    fill: { width: 1.31 + spread(0.06), size: 0.57 + spread(0.05) },
    background: { from, to: from.map((v, i) => v + near * (other[i]! - v)) as never, isAcross: random() < 0.5 },
    patches: Array.from({ length: Math.floor(random() * 4) }, () => {
      const [x, y] = [random(), random()];
      const place = [x, y, x + between(random, 0.06, 0.25), y + between(random, 0.04, 0.25)];
      return { place, color: ground(), opacity: between(random, 0.25, 0.8) };
    }),
    sharpness: spread(0.45),
    noise: jitter * between(random, 0, 5),
  };
}

const mix = (a: Color, b: Color, share: number): Color => a.map((v, i) => v + share * (b[i]! - v)) as never;
const brightness = ([red, green, blue]: Color): number => (0.299 * red + 0.587 * green + 0.114 * blue) / 255;

/** An image and where its letters are. */
export interface Drawing {
  /** Red, green, blue, row by row, 0 to 255. */
  readonly pixels: Float32Array;
  /** Nothing where there is no word. */
  readonly lettering: Lettering | undefined;
}

/** Draws a scene as a square of `size` pixels. */
export function drawScene({ object, word }: Scene, look: Look, size: number, random: Random): Drawing {
  const canvas = new Canvas(size);
  const { from, to, isAcross } = look.background;
  canvas.fillGradient(from, to, isAcross);
  for (const { place, color, opacity } of look.patches)
    canvas.fill([rectangle(...(place.map((v) => v * size) as [number, number, number, number]))], color, opacity);
  const [x, y, r] = [look.x * size, look.y * size, look.radius * size];
  const isDark = brightness(look.shade) < 0.2;
  const edge = mix(look.shade, isDark ? [255, 255, 255] : [0, 0, 0], 0.5);
  const line = 0.013 * r;
  const outlined = (shape: (grow: number) => Contour) => {
    canvas.fill([shape(line)], edge);
    canvas.fill([shape(-line)], look.shade);
  };
  const drawers: Record<string, () => void> = {
    sign() {
      canvas.fill([rectangle(x - 0.055 * r, y, x + 0.055 * r, y + 1.12 * r)], [118, 118, 118]);
      outlined((g) => roundedRectangle(x - r - g, y - 0.465 * r - g, x + r + g, y + 0.465 * r + g, 0.1 * r));
    },
    'round sign'() {
      outlined((g) => ellipse(x, y, r + g, r + g));
    },
    book() {
      outlined((g) => rectangle(x - 0.8 * r - g, y - 1.04 * r - g, x + 0.8 * r + g, y + 1.04 * r + g));
      canvas.fill([rectangle(x - 0.8 * r, y - 1.04 * r, x - 0.65 * r, y + 1.04 * r)], edge);
    },
    bottle() {
      canvas.fill([rectangle(x - 0.19 * r, y - 1.15 * r, x + 0.19 * r, y - 0.5 * r)], look.shade);
      outlined((g) => roundedRectangle(x - 0.7 * r - g, y - 0.65 * r - g, x + 0.7 * r + g, y + 1.15 * r + g, 0.25 * r));
    },
    mug() {
      const [outer, inner] = [
        ellipse(x + 0.74 * r, y, 0.33 * r, 0.465 * r),
        ellipse(x + 0.74 * r, y, 0.22 * r, 0.345 * r),
      ];
      canvas.fill([outer, reversed(inner)], look.shade);
      outlined((g) => roundedRectangle(x - 0.86 * r - g, y - 0.8 * r - g, x + 0.74 * r + g, y + 0.8 * r + g, 0.14 * r));
    },
    shirt() {
      const half = [0.535, -1, 1.07, -0.643, 0.818, -0.22, 0.714, -0.33, 0.714, 1];
      const right = half.map((v, i) => (i % 2 === 0 ? x + v * r : y + v * r));
      const left = [0, 1, 2, 3, 4].reverse().flatMap((n) => [x - half[2 * n]! * r, y + half[2 * n + 1]! * r]);
      canvas.fill([[...right, ...left]], look.shade);
      canvas.fill([lowerHalfEllipse(x, y - r, 0.253 * r, 0.208 * r)], edge);
    },
    phone() {
      outlined((g) => roundedRectangle(x - 0.64 * r - g, y - 1.1 * r - g, x + 0.64 * r + g, y + 1.1 * r + g, 0.15 * r));
      canvas.fill([rectangle(x - 0.18 * r, y - r, x + 0.18 * r, y - 0.94 * r)], edge);
      canvas.fill([ellipse(x, y + 0.95 * r, 0.096 * r, 0.096 * r)], edge);
    },
    ticket() {
      outlined((g) => rectangle(x - 1.05 * r - g, y - 0.52 * r - g, x + 1.05 * r + g, y + 0.52 * r + g));
      for (const down of [-0.31, 0, 0.31])
        canvas.fill([ellipse(x - 1.05 * r, y + down * r, 0.075 * r, 0.075 * r)], edge);
      canvas.fill([rectangle(x + 0.627 * r, y - 0.52 * r, x + 0.637 * r, y + 0.52 * r)], [255, 255, 255]);
    },
    house() {
      outlined((g) => [
        ...[x, y - 1.1 * r - g, x + r + g, y - 0.35 * r, x + 0.8 * r + g, y - 0.35 * r],
        ...[
          x + 0.8 * r + g,
          y + r + g,
          x - 0.8 * r - g,
          y + r + g,
          x - 0.8 * r - g,
          y - 0.35 * r,
          x - r - g,
          y - 0.35 * r,
        ],
      ]);
      canvas.fill([rectangle(x - 0.18 * r, y + 0.5 * r, x + 0.18 * r, y + r)], edge);
    },
  };
  drawers[object]!();
  const lettering = word === '' ? undefined : letteringOf(object, word, look, size);
  if (lettering !== undefined)
    canvas.fill(lettering.contours, brightness(look.shade) < 0.6 ? [250, 250, 250] : [16, 16, 16]);
  finish(canvas, look, random);
  return { pixels: canvas.pixels, lettering };
}

function letteringOf(object: string, word: string, look: Look, size: number): Lettering {
  const [x, y, r] = [look.x * size, look.y * size, look.radius * size];
  const [shiftX, shiftY] = look.wordShift;
  const middle = object === 'mug' ? -0.06 : 0; // left of its handle
  return letterWord(look.isUpper ? word.toUpperCase() : word, look.font, {
    ...{ x: x + (middle + shiftX) * r, y: y + shiftY * r, width: look.fill.width * r, size: look.fill.size * r },
  });
}

/** Sharpens or softens, as resizing another image would, and adds noise. */
function finish({ pixels, size }: Canvas, { sharpness, noise }: Look, random: Random): void {
  const before = pixels.slice();
  const row = size * 3;
  let state = 1 + Math.floor(random() * 0xfffffffe); // xorshift32 (Marsaglia 2003): noise is most of what chance decides
  for (let i = 0; i < pixels.length; i++) {
    const x = i % row;
    const left = before[x < 3 ? i : i - 3]!;
    const right = before[x >= row - 3 ? i : i + 3]!;
    const above = before[i < row ? i : i - row]!;
    const below = before[i >= pixels.length - row ? i : i + row]!;
    const here = before[i]!;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    const chance = ((state & 0xffff) - (state >>> 16)) / 0x10000; // triangular, -1 to 1
    const changed = here + sharpness * (here - (left + right + above + below) / 4) + noise * chance;
    pixels[i] = Math.min(255, Math.max(0, changed));
  }
}

/** A drawing as an image that the library takes. */
export const toImage = ({ pixels }: Pick<Drawing, 'pixels'>, size: number): RgbImage => ({
  ...{ width: size, height: size },
  data: new Uint8Array(Uint8ClampedArray.from(pixels).buffer), // rounds
});

export const VIDEO_FRAMES = 6;
const TRAVEL = 0.23; // of the image's side, from the first frame to the last

/** Where the middle of the object is in frame `n`, of the image's side. */
export const placeAt = (look: Look, direction: string, n: number): number =>
  look.x + (n / (VIDEO_FRAMES - 1) - 0.5) * TRAVEL * (direction === 'right' ? 1 : -1);

/** Six frames in which the object moves. */
export function drawVideo(
  scene: Scene,
  look: Look,
  direction: 'left' | 'right',
  size: number,
  random: Random,
): Drawing[] {
  return Array.from({ length: VIDEO_FRAMES }, (_, n) =>
    drawScene(scene, { ...look, x: placeAt(look, direction, n) }, size, random),
  );
}
