import type { Component, Frame } from './types.js';

/** Gives line y of a component at the image's full width. The array is valid until the next call. */
export type LineSource = (y: number) => Uint8Array;

/**
 * How a component's samples become full-size lines: libjpeg-turbo's "fancy" upsampling (a triangle filter, 3/4 of the nearer sample
 * and 1/4 of the farther one, with its alternating rounding) for ratios 2:1, 1:2 and 2:2, repetition otherwise.
 */
export function lineSource(component: Component, frame: Frame): LineSource {
  const x = frame.maxH / component.h;
  const y = frame.maxV / component.v;
  const lines = planeLines(component);
  if (x === 1 && y === 1) return lines;
  // two columns are too few for the filter's ends: the library repeats them, and so must we
  const smooth = component.width > 2;
  const out = new Uint8Array(component.width * x);
  if (x === 2 && y === 1 && smooth) return (line) => doubleWidth(lines(line), out);
  if (x === 2 && y === 2 && smooth) return (line) => doubleBoth(...nearAndFar(line), out);
  if (x === 1 && y === 2) return (line) => doubleHeight(...nearAndFar(line), (line & 1) + 1, out);
  return (line) => repeat(lines(Math.floor(line / y)), x, out);

  function nearAndFar(line: number): [near: Uint8Array, far: Uint8Array] {
    const near = line >> 1;
    const far = Math.min(Math.max(near + (line & 1 ? 1 : -1), 0), component.height - 1);
    return [lines(near), lines(far)];
  }
}

function planeLines({ plane, stride, width }: Component): LineSource {
  return (y) => plane.subarray(y * stride * 8, y * stride * 8 + width);
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
