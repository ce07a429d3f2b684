import { fault } from '../raw-image.js';
import type { EntropyData } from './huffman.js';
import { losslessHuffman } from './huffman.js';
import type { Component, Frame, JpegState, Scan } from './markers.js';

type Predictor = (left: number, above: number, corner: number) => number;

/** T.81, table H.1. */
const PREDICTORS: readonly Predictor[] = [
  () => 0,
  (left) => left,
  (_left, above) => above,
  (_left, _above, corner) => corner,
  (left, above, corner) => left + above - corner,
  (left, above, corner) => left + ((above - corner) >> 1),
  (left, above, corner) => above + ((left - corner) >> 1),
  (left, above) => (left + above) >> 1,
];

/** The rows of one component that a row of MCUs has: differences as read, and the samples that predict the next. */
interface Rows {
  readonly component: Component;
  readonly differences: Int32Array[];
  readonly samples: Int32Array[];
  /** Whether the next row has no row above that counts: the first of a scan or of a restart interval. */
  first: boolean;
}

/**
 * Decodes a lossless scan (T.81, annex H, Huffman coding, 8 bits) into the planes of its components, a row of MCUs at a time, as
 * libjpeg-turbo: past the end of the data the samples are the middle value.
 * @throws ImageError where the restart interval does not end with a row.
 */
export function* decodeLosslessScan(
  entropy: EntropyData,
  frame: Frame,
  scan: Scan,
  state: JpegState,
): Generator<number> {
  const reader = losslessHuffman(entropy, scan, state);
  const single = scan.parts.length === 1;
  const wide = single ? scan.parts[0]!.component.blocksWide : frame.mcusWide;
  const interval = state.restartInterval;
  if (interval % wide !== 0) {
    throw fault('jpeg-restart', `restart intervals of ${interval} MCUs; a row has ${wide}`, scan.offset);
  }
  const parts: Rows[] = scan.parts.map(({ component }) => {
    const rows = () => Array.from({ length: component.v }, () => new Int32Array(component.stride));
    return { component, differences: rows(), samples: rows(), first: true };
  });
  const predict = PREDICTORS[scan.start]!;
  const middle = 1 << (7 - scan.low);
  let left = interval / wide;
  const readRow = (y: number) => {
    if (entropy.exhausted) {
      for (const part of parts) for (const row of single ? [part.differences[y]!] : part.differences) row.fill(0);
      for (const part of parts) part.first = true;
      return;
    }
    for (let column = 0; column < wide; column++) {
      for (const [p, { component, differences }] of parts.entries()) {
        if (single) differences[y]![column] = reader.difference(p);
        else {
          const { h, v } = component;
          for (let r = 0; r < v; r++)
            for (let x = 0; x < h; x++) differences[r]![column * h + x] = reader.difference(p);
        }
      }
      if (reader.overran()) entropy.exhaust();
    }
  };
  for (let row = 0; row < frame.mcusHigh; row++) {
    const rowsOf = ({ v, blocksHigh }: Component) => (row < frame.mcusHigh - 1 ? v : blocksHigh % v || v);
    const lines = single ? rowsOf(parts[0]!.component) : 1;
    for (let y = 0; y < lines; y++) {
      if (interval > 0 && left === 0) {
        entropy.restart();
        reader.restart();
        for (const part of parts) part.first = true;
        left = interval / wide;
      }
      readRow(y);
      left--;
    }
    for (const part of parts) {
      const { component, differences, samples } = part;
      const count = rowsOf(component);
      for (let y = 0; y < count; y++) {
        const above = samples[y === 0 ? component.v - 1 : y - 1]!;
        undo(differences[y]!, above, samples[y]!, component.blocksWide, part.first ? undefined : predict, middle);
        part.first = false;
        const at = (row * component.v + y) * component.stride;
        for (let x = 0; x < component.blocksWide; x++) component.plane[at + x] = samples[y]![x]! << scan.low;
      }
    }
    yield wide * lines;
  }
}

/** Differences to samples, modulo 2^16; without a predictor from the middle value on, each by the one before. */
function undo(
  differences: Int32Array,
  above: Int32Array,
  out: Int32Array,
  width: number,
  predict: Predictor | undefined,
  middle: number,
): void {
  let corner = above[0]!;
  let left = ((predict ? corner : middle) + differences[0]!) & 0xffff;
  out[0] = left;
  for (let x = 1; x < width; x++) {
    const up = above[x]!;
    left = ((predict ? predict(left, up, corner) : left) + differences[x]!) & 0xffff;
    out[x] = left;
    corner = up;
  }
}
