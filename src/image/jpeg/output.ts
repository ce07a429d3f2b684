import type { Component, Frame } from './markers.js';

export type Colors = 'gray' | 'rgb' | 'ycc' | 'cmyk' | 'ycck';

/** Which colors the components are: libjpeg's rules, markers first, then component ids. */
export function colorsOf(frame: Frame, jfif: boolean, adobe: number | undefined): Colors {
  const ids = frame.components.map((component) => component.id);
  if (ids.length === 1) return 'gray';
  if (ids.length === 4) return adobe === undefined || adobe === 0 ? 'cmyk' : 'ycck';
  if (jfif) return 'ycc';
  if (adobe !== undefined) return adobe === 0 ? 'rgb' : 'ycc';
  if (frame.process === 'lossless' && ids.every((id, i) => id === i + 1)) return 'rgb';
  return String.fromCharCode(...ids) === 'RGB' ? 'rgb' : 'ycc';
}

/** Contributions of Cb and Cr (ITU-R BT.601), 16-bit fixed point; the rounding constants are libjpeg's. */
const centered = (factor: number, round: number) =>
  Int32Array.from({ length: 256 }, (_, i) => factor * (i - 128) + round);
const RED_OF_CR = /* @__PURE__ */ centered(91881, 32768).map((v) => v >> 16);
const BLUE_OF_CB = /* @__PURE__ */ centered(116130, 32768).map((v) => v >> 16);
const GREEN_OF_CR = /* @__PURE__ */ centered(-46802, 0);
const GREEN_OF_CB = /* @__PURE__ */ centered(-22554, 32768);

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

/** Gives line y of a component at the image's full width. The array is valid until the next call. */
export type LineSource = (y: number) => Uint8Array;

/**
 * How a component's samples become full-size lines: libjpeg-turbo's "fancy" upsampling (a triangle filter, 3/4 of the nearer sample
 * and 1/4 of the farther one, with its alternating rounding) for ratios 2:1, 1:2 and 2:2, repetition otherwise.
 */
export function lineSource(component: Component, frame: Frame): LineSource {
  const x = frame.maxH / component.h;
  const y = frame.maxV / component.v;
  const unit = frame.process === 'lossless' ? 1 : 8;
  const lines = planeLines(component, unit);
  if (x === 1 && y === 1) return lines;
  // two columns are too few for the filter's ends: the library repeats them, and so must we
  const smooth = component.width > 2 && unit > 1;
  const out = new Uint8Array(component.width * x);
  if (x === 2 && y === 1 && smooth) return (line) => doubleWidth(lines(line), out);
  if (x === 2 && y === 2 && smooth) return (line) => doubleBoth(...nearAndFar(line), out);
  if (x === 1 && y === 2 && unit > 1) return (line) => doubleHeight(...nearAndFar(line), (line & 1) + 1, out);
  return (line) => repeat(lines(Math.floor(line / y)), x, out);

  function nearAndFar(line: number): [near: Uint8Array, far: Uint8Array] {
    const near = line >> 1;
    const far = Math.min(Math.max(near + (line & 1 ? 1 : -1), 0), component.height - 1);
    return [lines(near), lines(far)];
  }
}

function planeLines({ plane, stride, width }: Component, unit: number): LineSource {
  return (y) => plane.subarray(y * stride * unit, y * stride * unit + width);
}

function repeat(line: Uint8Array, times: number, out: Uint8Array): Uint8Array {
  for (let i = 0, to = 0; i < line.length; i++) for (let t = 0; t < times; t++) out[to++] = line[i]!;
  return out;
}

function doubleWidth(line: Uint8Array, out: Uint8Array): Uint8Array {
  const last = line.length - 1;
  out[0] = line[0]!;
  for (let i = 0, to = 1; i < last; i++, to += 2) {
    out[to] = (3 * line[i]! + line[i + 1]! + 2) >> 2;
    out[to + 1] = (line[i]! + 3 * line[i + 1]! + 1) >> 2;
  }
  out[2 * last + 1] = line[last]!;
  return out;
}

function doubleHeight(near: Uint8Array, far: Uint8Array, round: number, out: Uint8Array): Uint8Array {
  for (let i = 0; i < near.length; i++) out[i] = (3 * near[i]! + far[i]! + round) >> 2;
  return out;
}

function doubleBoth(near: Uint8Array, far: Uint8Array, out: Uint8Array): Uint8Array {
  const last = near.length - 1;
  let here = 3 * near[0]! + far[0]!; // a column's sum, 4 times a sample
  out[0] = (4 * here + 8) >> 4;
  for (let i = 0, to = 1; i < last; i++, to += 2) {
    const next = 3 * near[i + 1]! + far[i + 1]!;
    out[to] = (3 * here + next + 7) >> 4;
    out[to + 1] = (here + 3 * next + 8) >> 4;
    here = next;
  }
  out[2 * last + 1] = (4 * here + 7) >> 4;
  return out;
}
