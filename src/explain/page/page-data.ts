import { COLORS } from '../color-map.js';
import { lookOf } from '../looks.js';
import { largest } from '../overlay.js';
import { PAINT } from '../paint.js';
import type { Explanation, View } from '../types.js';

/** One word's looks: bytes of all views behind each other, each view [frames, rows, columns] in 255ths of its largest patch. */
export interface PageWord {
  readonly patches: string;
  /** For each view: its largest patch, the class token's share, the text's. */
  readonly shares: readonly (readonly [number, number, number])[];
}

/** All that the page's script needs. */
export interface PageData {
  readonly grid: readonly [frames: number, rows: number, columns: number];
  /** How many frames stand side by side in a small drawing. */
  readonly across: number;
  readonly colors: string;
  readonly paint: typeof PAINT;
  readonly words: readonly PageWord[];
  /** The word that is shown first. */
  readonly start: number;
  /** Which words count for the shared scale. */
  readonly scaled: readonly number[];
}

/** Every view in the order of the page: mean, rollout, the layers, the heads of each layer. */
export function allViews({ layers, heads }: Pick<Explanation, 'layers' | 'heads'>): View[] {
  const each = <T>(count: number, of: (n: number) => T): T[] => Array.from({ length: count }, (_, n) => of(n));
  return [
    'mean',
    'rollout',
    ...each(layers, (layer) => ({ layer })),
    ...each(layers * heads, (n) => ({ layer: Math.floor(n / heads), head: n % heads })),
  ];
}

export function pageData(explanation: Explanation): PageData {
  const { grid, words } = explanation;
  const views = allViews(explanation);
  const places = words.map((_, place) => place);
  return {
    grid: [grid.frames, grid.rows, grid.columns],
    ...{ across: framesAcross(grid.frames), paint: PAINT, colors: toBase64(COLORS) },
    words: words.map((word) => {
      const looks = views.map((view) => lookOf(word, view, explanation));
      return {
        patches: toBase64(quantised(looks.map(({ patches }) => patches))),
        shares: looks.map(({ patches, classToken, text }) => [round(largest(patches)), round(classToken), round(text)]),
      };
    }),
    start: mostFocused(explanation),
    scaled: places.filter((place) => !words[place]!.special),
  };
}

/** Frames of a small drawing as near to a square as can be. */
export const framesAcross = (frames: number): number => Math.ceil(Math.sqrt(frames));

/** Each list in 255ths of its own largest value: never more than 0.2 % of it away. */
function quantised(lists: readonly Float32Array[]): Uint8Array {
  const bytes = new Uint8Array(lists.reduce((sum, list) => sum + list.length, 0));
  let at = 0;
  for (const list of lists) {
    const most = largest(list);
    for (const share of list) bytes[at++] = most > 0 ? Math.round((share / most) * 255) : 0;
  }
  return bytes;
}

/** The word that looked at one place of the image most: a page should open with something to see. */
function mostFocused({ words }: Explanation): number {
  let [best, most] = [0, -1];
  for (const [place, { special, mean }] of words.entries()) {
    const peak = special ? -1 : largest(mean.patches);
    if (peak > most) [best, most] = [place, peak];
  }
  return best;
}

const round = (value: number): number => Number(value.toFixed(5));

export function toBase64(bytes: Uint8Array): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}
