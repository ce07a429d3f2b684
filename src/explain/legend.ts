import type { RawImage } from '../image/raw-image.js';
import { COLORS } from './color-map.js';

/** Digits of 3 by 5 dots, a row a digit of base 8. */
const DOTS: Readonly<Record<string, string>> = {
  ...{ '0': '75557', '1': '26227', '2': '71747', '3': '71717', '4': '55711' },
  ...{ '5': '74717', '6': '74757', '7': '71222', '8': '75757', '9': '75717' },
  ...{ '.': '00002', '%': '51245', ' ': '00000' },
};
const DOT = 2; // pixels
const GAP = 8;
const STRIP = 26;
const INK = [225, 225, 230] as const;
const PAPER = [20, 19, 24] as const;

/** A share as people read it: `12.3 %`. */
export const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

/** The image with a strip below it: the colours from 0 to `top`, with the numbers where there is room for them. */
export function withLegend(image: RawImage, top: number): RawImage {
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
    const color = Math.round((255 * (x - left)) / Math.max(1, right - left - 1)) * 3;
    for (let y = GAP; y < STRIP - GAP; y++) dot(x, y, COLORS.subarray(color, color + 3));
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
