import type { Frame } from './types.js';
import type { LineSource } from './upsample.js';

export type Colors = 'gray' | 'rgb' | 'ycc' | 'cmyk' | 'ycck';

/** Which colours the components are: libjpeg's rules, markers first, then component ids. */
export function colorsOf(frame: Frame, jfif: boolean, adobe: number | undefined): Colors {
  const ids = frame.components.map((component) => component.id);
  if (ids.length === 1) return 'gray';
  if (ids.length === 4) return adobe === undefined || adobe === 0 ? 'cmyk' : 'ycck';
  if (jfif) return 'ycc';
  if (adobe !== undefined) return adobe === 0 ? 'rgb' : 'ycc';
  return String.fromCharCode(...ids) === 'RGB' ? 'rgb' : 'ycc';
}

/** Contributions of Cb and Cr (ITU-R BT.601), 16-bit fixed point; the rounding constants are libjpeg's. */
const centred = (factor: number, round: number) =>
  Int32Array.from({ length: 256 }, (_, i) => factor * (i - 128) + round);
const RED_OF_CR = /* @__PURE__ */ centred(91881, 32768).map((v) => v >> 16);
const BLUE_OF_CB = /* @__PURE__ */ centred(116130, 32768).map((v) => v >> 16);
const GREEN_OF_CR = /* @__PURE__ */ centred(-46802, 0);
const GREEN_OF_CB = /* @__PURE__ */ centred(-22554, 32768);

const clamp = (value: number): number => (value < 0 ? 0 : Math.min(value, 255));

/** Writes line y of the image as RGB. */
export function writeLine(
  colors: Colors,
  sources: readonly LineSource[],
  y: number,
  rgb: Uint8Array,
  width: number,
): void {
  const lines = sources.map((source) => source(y));
  const at = y * width * 3;
  const [a, b = a!, c = a!, k] = lines;
  if (colors === 'ycc' || colors === 'ycck') fromYcc(a!, b, c, rgb, at, width);
  else interleave(a!, b, c, rgb, at, width);
  if (k) applyBlack(k, rgb, at, width, colors === 'ycck');
}

function interleave(a: Uint8Array, b: Uint8Array, c: Uint8Array, rgb: Uint8Array, at: number, width: number): void {
  for (let x = 0, to = at; x < width; x++, to += 3) {
    rgb[to] = a[x]!;
    rgb[to + 1] = b[x]!;
    rgb[to + 2] = c[x]!;
  }
}

function fromYcc(ys: Uint8Array, cbs: Uint8Array, crs: Uint8Array, rgb: Uint8Array, at: number, width: number): void {
  for (let x = 0, to = at; x < width; x++, to += 3) {
    const y = ys[x]!;
    const cb = cbs[x]!;
    const cr = crs[x]!;
    rgb[to] = clamp(y + RED_OF_CR[cr]!);
    rgb[to + 1] = clamp(y + ((GREEN_OF_CR[cr]! + GREEN_OF_CB[cb]!) >> 16));
    rgb[to + 2] = clamp(y + BLUE_OF_CB[cb]!);
  }
}

/**
 * Cyan, magenta, yellow (in `rgb`) and black to RGB, as Pillow: values are taken as Adobe stores them, inverted, so that ink C is
 * 255 - c; then R = K' - C * K' / 255 with K' = 255 - K, rounded. YCCK's transform gives the inverse of the stored inks.
 */
function applyBlack(black: Uint8Array, rgb: Uint8Array, at: number, width: number, inverted: boolean): void {
  for (let x = 0, i = at; x < width; x++) {
    const light = black[x]!;
    for (const stop = i + 3; i < stop; i++) {
      const ink = inverted ? rgb[i]! : 255 - rgb[i]!;
      const product = ink * light + 128;
      rgb[i] = clamp(light - ((product + (product >> 8)) >> 8));
    }
  }
}
