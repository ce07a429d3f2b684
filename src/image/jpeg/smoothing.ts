import { type Component, type Frame, ZIGZAG } from './markers.js';

/** Coefficients that are estimated: the first nine after DC, in zigzag order. */
const ESTIMATED = 9;

/**
 * Weights of the 25 DC values around a block (5 by 5, row by row) for each estimated coefficient and for DC itself, as
 * libjpeg-turbo has them: `wide` where no AC coefficient is known at all, `narrow` else.
 */
const WIDE: readonly (readonly number[])[] = [
  [-2, -6, -8, -6, -2, -6, 6, 42, 6, -6, -8, 42, 152, 42, -8, -6, 6, 42, 6, -6, -2, -6, -8, -6, -2],
  [-1, -1, 0, 1, 1, -3, 13, 0, -13, 3, -3, 38, 0, -38, 3, -3, 13, 0, -13, 3, -1, -1, 0, 1, 1],
  [-1, -3, -3, -3, -1, -1, 13, 38, 13, -1, 0, 0, 0, 0, 0, 1, -13, -38, -13, 1, 1, 3, 3, 3, 1],
  [0, 0, 1, 0, 0, 0, 2, 7, 2, 0, 0, -5, -14, -5, 0, 0, 2, 7, 2, 0, 0, 0, 1, 0, 0],
  [-1, 0, 0, 0, 1, 0, 9, 0, -9, 0, 0, 0, 0, 0, 0, 0, -9, 0, 9, 0, 1, 0, 0, 0, -1],
  [0, 0, 0, 0, 0, 0, 2, -5, 2, 0, 1, 7, -14, 7, 1, 0, 2, -5, 2, 0, 0, 0, 0, 0, 0],
  [0, 0, 0, 0, 0, 0, 1, 0, -1, 0, 0, 2, 0, -2, 0, 0, 1, 0, -1, 0, 0, 0, 0, 0, 0],
  [0, 0, 0, 0, 0, 0, 1, -3, 1, 0, 0, 0, 0, 0, 0, 0, -1, 3, -1, 0, 0, 0, 0, 0, 0],
  [0, 0, 0, 0, 0, 0, 1, 0, -1, 0, 0, -3, 0, 3, 0, 0, 1, 0, -1, 0, 0, 0, 0, 0, 0],
  [0, 0, 0, 0, 0, 0, 1, 2, 1, 0, 0, 0, 0, 0, 0, 0, -1, -2, -1, 0, 0, 0, 0, 0, 0],
];
const NARROW: readonly (readonly number[])[] = [
  [],
  [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -7, 50, 0, -50, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
  [0, 0, -7, 0, 0, 0, 0, 50, 0, 0, 0, 0, 0, 0, 0, 0, 0, -50, 0, 0, 0, 0, 7, 0, 0],
  [0, 0, -1, 0, 0, 0, 0, 13, 0, 0, 0, 0, -24, 0, 0, 0, 0, 13, 0, 0, 0, 0, -1, 0, 0],
  [0, -1, 0, 1, 0, -1, 10, 0, -10, 1, 0, 0, 0, 0, 0, 1, -10, 0, 10, -1, 0, 1, 0, -1, 0],
  [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 13, -24, 13, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
];

/** Whether libjpeg smooths: every component's DC is known and has quantizers, and some early coefficient is not known exactly. */
export function needsSmoothing({ process, components }: Frame): boolean {
  if (process !== 'progressive') return false;
  const zigzag = [...ZIGZAG.subarray(0, ESTIMATED + 1)];
  if (!components.every(({ quant, known }) => quant && known[0]! >= 0 && zigzag.every((at) => quant[at] !== 0)))
    return false;
  return components.some(({ known }) => known.subarray(1, ESTIMATED + 1).some((low) => low !== 0));
}

/** Gives a copy of block (row, column) of a component with its unknown coefficients estimated. */
export type Smoother = (row: number, column: number) => Int16Array;

/**
 * The block smoothing of libjpeg-turbo for progressive images without their finest scans: coefficients that are still zero are
 * estimated from the DC values around.
 * @param lastGood the last row of MCUs whose data of the last scan were whole: below it counts what was known before that scan.
 */
export function smoother(component: Component, frame: Frame, scans: number, lastGood: number): Smoother {
  const { coefficients, stride, blocksWide, blocksHigh, v, quant } = component;
  const lastMcuRow = frame.mcusHigh - 1;
  const out = new Int16Array(64);
  const around = new Int32Array(25);
  const rows = new Int32Array(5);
  const before = scans > 1 ? component.knownBefore : new Int8Array(64).fill(-1);
  return (row, column) => {
    const mcuRow = Math.floor(row / v);
    const known = mcuRow > lastGood ? before : component.known;
    // libjpeg counts block rows by how many this row of MCUs has, which is fewer in the last one
    const blockRows = mcuRow < lastMcuRow ? v : blocksHigh % v || v;
    const index = mcuRow * blockRows + (row - mcuRow * v);
    const count = blockRows * frame.mcusHigh;
    rows[2] = row;
    rows[1] = index > 0 ? row - 1 : row;
    rows[0] = index > 1 ? row - 2 : rows[1]!;
    rows[3] = index < count - 1 ? row + 1 : row;
    rows[4] = index < count - 2 ? row + 2 : rows[3]!;
    for (let y = 0, i = 0; y < 5; y++) {
      const start = rows[y]! * stride;
      for (let x = -2; x <= 2; x++) {
        const at = start + Math.max(0, Math.min(blocksWide - 1, column + x));
        around[i++] = coefficients[at * 64]!;
      }
    }
    const from = (row * stride + column) * 64;
    out.set(coefficients.subarray(from, from + 64));
    const wide = known.subarray(1, ESTIMATED + 1).every((low) => low === -1);
    const weights = wide ? WIDE : NARROW;
    for (let k = 1; k < weights.length; k++) {
      const place = ZIGZAG[k]!;
      if (known[k] !== 0 && out[place] === 0)
        out[place] = estimate(weights[k]!, around, quant![0]!, quant![place]!, known[k]!);
    }
    if (wide) out[0] = estimate(weights[0]!, around, quant![0]!, quant![0]!, 0);
    return out;
  };
}

function estimate(weights: readonly number[], around: Int32Array, dcQuant: number, quant: number, low: number): number {
  let sum = 0;
  for (let i = 0; i < 25; i++) sum += weights[i]! * around[i]!;
  const product = dcQuant * sum;
  const magnitude = Math.floor((quant * 128 + Math.abs(product)) / (quant * 256));
  const bounded = low > 0 && magnitude >= 1 << low ? (1 << low) - 1 : magnitude;
  return product >= 0 ? bounded : -bounded;
}
