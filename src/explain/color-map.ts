/**
 * A colour map made from its description: in OKLab (Björn Ottosson's perceptual colour space, 2020) the lightness rises evenly from a deep
 * violet over red and orange to a pale yellow, while hue and chroma turn with it. Equal steps of a value are equal steps of
 * lightness, so that the map reads the same in gray and for colour-blind eyes.
 */

/** Stops at even distances: OKLab chroma and hue in degrees; lightness goes evenly from `DARKEST` to `LIGHTEST`. */
const CHROMA = [0.06, 0.125, 0.16, 0.175, 0.175, 0.165, 0.15, 0.13, 0.075];
const HUE = [290, 302, 325, 358, 25, 48, 68, 88, 102];
const DARKEST = 0.17;
const LIGHTEST = 0.965;

/** The map as 256 colours, sRGB bytes [256 * 3]. */
export const COLORS: Uint8Array = colorTable();

function colorTable(): Uint8Array {
  const table = new Uint8Array(256 * 3);
  for (let step = 0; step < 256; step++) {
    const value = step / 255;
    const lightness = DARKEST + (LIGHTEST - DARKEST) * value;
    const hue = (between(HUE, value) * Math.PI) / 180;
    const chroma = between(CHROMA, value);
    table.set(toSrgb(lightness, chroma * Math.cos(hue), chroma * Math.sin(hue)), step * 3);
  }
  return table;
}

/** Piecewise linear through stops at even distances; hues go on past 360 where that is the shorter way. */
function between(stops: readonly number[], value: number): number {
  const place = value * (stops.length - 1);
  const left = Math.min(Math.floor(place), stops.length - 2);
  const from = stops[left]!;
  let to = stops[left + 1]!;
  if (to < from - 180) to += 360;
  return from + (to - from) * (place - left);
}

/** OKLab to sRGB bytes, clipped to the gamut. */
function toSrgb(lightness: number, a: number, b: number): [number, number, number] {
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    byte(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
    byte(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
    byte(-0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s),
  ];
}

function byte(linear: number): number {
  const curved = linear <= 0.0031308 ? 12.92 * linear : 1.055 * linear ** (1 / 2.4) - 0.055;
  return Math.round(255 * Math.min(1, Math.max(0, curved)));
}
