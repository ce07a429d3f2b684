import { type Component, type Frame, ZIGZAG } from './markers.js';

/**
 * The inverse cosine transform of libjpeg's default ("islow"): the algorithm of Loeffler, Ligtenberg and Moschytz (1989) in integers,
 * columns then rows, factors of 13 bits, 2 extra bits kept between the passes. All its roundings are here, so results are equal bit for bit.
 */

/** Factors times 2^13: sums and differences of cosines, named by their value. */
const F0_298 = 2446;
const F0_390 = 3196;
const F0_541 = 4433;
const F0_765 = 6270;
const F0_899 = 7373;
const F1_175 = 9633;
const F1_501 = 12299;
const F1_847 = 15137;
const F1_961 = 16069;
const F2_053 = 16819;
const F2_562 = 20995;
const F3_072 = 25172;

const COLUMN_SHIFT = 13 - 2;
const ROW_SHIFT = 13 + 2 + 3;
const COLUMN_ROUND = 1 << (COLUMN_SHIFT - 1);
/** Rounding, and the level shift of 128 that turns samples into 0..255. */
const ROW_ROUND = (1 << (ROW_SHIFT - 1)) + (128 << ROW_SHIFT);

/**
 * Eight outputs of one pass: in `x` at `at`, every `step`; written to `out` in the same places, rounded by `round` and shifted.
 */
function transform(x: Int32Array, out: Int32Array, at: number, step: number, round: number, shift: number): void {
  const c1 = x[at + step]!;
  const c2 = x[at + 2 * step]!;
  const c3 = x[at + 3 * step]!;
  const c5 = x[at + 5 * step]!;
  const c6 = x[at + 6 * step]!;
  const c7 = x[at + 7 * step]!;
  const even = Math.imul(c2 + c6, F0_541);
  const half2 = even - Math.imul(c6, F1_847);
  const half3 = even + Math.imul(c2, F0_765);
  const sum = ((x[at]! + x[at + 4 * step]!) << 13) + round;
  const difference = ((x[at]! - x[at + 4 * step]!) << 13) + round;
  const odd = Math.imul(c7 + c3 + c5 + c1, F1_175);
  const z1 = -Math.imul(c7 + c1, F0_899);
  const z2 = -Math.imul(c5 + c3, F2_562);
  const z3 = odd - Math.imul(c7 + c3, F1_961);
  const z4 = odd - Math.imul(c5 + c1, F0_390);
  const o0 = Math.imul(c7, F0_298) + z1 + z3;
  const o1 = Math.imul(c5, F2_053) + z2 + z4;
  const o2 = Math.imul(c3, F3_072) + z2 + z3;
  const o3 = Math.imul(c1, F1_501) + z1 + z4;
  out[at] = (sum + half3 + o3) >> shift;
  out[at + 7 * step] = (sum + half3 - o3) >> shift;
  out[at + step] = (difference + half2 + o2) >> shift;
  out[at + 6 * step] = (difference + half2 - o2) >> shift;
  out[at + 2 * step] = (difference - half2 + o1) >> shift;
  out[at + 5 * step] = (difference - half2 - o1) >> shift;
  out[at + 3 * step] = (sum - half3 + o0) >> shift;
  out[at + 4 * step] = (sum - half3 - o0) >> shift;
}

const clamp = (value: number): number => (value < 0 ? 0 : Math.min(value, 255));

/** One block: dequantized coefficients (natural order, destroyed) to 8 by 8 samples in `plane` at `at`, lines `stride` apart. */
function inverse(block: Int32Array, plane: Uint8Array, at: number, stride: number): void {
  for (let c = 0; c < 8; c++) {
    const ac =
      block[c + 8]! |
      block[c + 16]! |
      block[c + 24]! |
      block[c + 32]! |
      block[c + 40]! |
      block[c + 48]! |
      block[c + 56]!;
    if (ac !== 0) transform(block, block, c, 8, COLUMN_ROUND, COLUMN_SHIFT);
    else {
      const dc = block[c]! << 2;
      for (let i = c; i < 64; i += 8) block[i] = dc;
    }
  }
  for (let r = 0, to = at; r < 64; r += 8, to += stride) {
    transform(block, block, r, 1, ROW_ROUND, ROW_SHIFT);
    for (let i = 0; i < 8; i++) plane[to + i] = clamp(block[r + i]!);
  }
}

/** The same for a block whose only coefficient is the first. */
function inverseFlat(dc: number, plane: Uint8Array, at: number, stride: number): void {
  const value = clamp(((dc + 4) >> 3) + 128);
  for (let r = 0, to = at; r < 8; r++, to += stride) plane.fill(value, to, to + 8);
}

/**
 * Sum of the magnitudes of a column's dequantized coefficients up to which no sum of SIMD code leaves 16 bits: the first pass gives
 * at most 4 * 1.3871 times as much, and the second adds two of its results. Hardly any column of undamaged data has more.
 */
const COLUMN_SUM = 2950;

/** The largest sum of magnitudes in a column, [8, 8]. */
function largestColumn(values: Int32Array): number {
  let largest = 0;
  for (let c = 0; c < 8; c++) {
    let sum = 0;
    for (let i = c; i < 64; i += 8) sum += Math.abs(values[i]!);
    largest = Math.max(largest, sum);
  }
  return largest;
}

const int16 = (value: number): number => (value << 16) >> 16;
const saturate16 = (value: number): number => Math.max(-32768, Math.min(32767, value));

/**
 * Eight outputs of one pass as libjpeg-turbo's SIMD code has them for coefficients of any size: four sums wrap at 16 bits, results
 * saturate at 16 bits, everything else wraps at 32.
 */
function transformWide(x: Int32Array, at: number, step: number, round: number, shift: number): void {
  const [c0, c1, c2, c3] = [x[at]!, x[at + step]!, x[at + 2 * step]!, x[at + 3 * step]!];
  const [c4, c5, c6, c7] = [x[at + 4 * step]!, x[at + 5 * step]!, x[at + 6 * step]!, x[at + 7 * step]!];
  const half2 = (Math.imul(c2, F0_541) + Math.imul(c6, F0_541 - F1_847)) | 0;
  const half3 = (Math.imul(c2, F0_541 + F0_765) + Math.imul(c6, F0_541)) | 0;
  const sum = int16(c0 + c4) << 13;
  const difference = int16(c0 - c4) << 13;
  const z3 = int16(c7 + c3);
  const z4 = int16(c5 + c1);
  const w3 = (Math.imul(z3, F1_175 - F1_961) + Math.imul(z4, F1_175)) | 0;
  const w4 = (Math.imul(z3, F1_175) + Math.imul(z4, F1_175 - F0_390)) | 0;
  const o0 = (Math.imul(c7, F0_298 - F0_899) + Math.imul(c1, -F0_899) + w3) | 0;
  const o1 = (Math.imul(c5, F2_053 - F2_562) + Math.imul(c3, -F2_562) + w4) | 0;
  const o2 = (Math.imul(c3, F3_072 - F2_562) + Math.imul(c5, -F2_562) + w3) | 0;
  const o3 = (Math.imul(c1, F1_501 - F0_899) + Math.imul(c7, -F0_899) + w4) | 0;
  const evens = [sum + half3, difference + half2, difference - half2, sum - half3];
  for (const [i, odd] of [o3, o2, o1, o0].entries()) {
    const even = evens[i]! | 0;
    x[at + i * step] = saturate16(((even + odd + round) | 0) >> shift);
    x[at + (7 - i) * step] = saturate16(((even - odd + round) | 0) >> shift);
  }
}

function inverseWide(block: Int32Array, onlyDc: boolean, plane: Uint8Array, at: number, stride: number): void {
  if (onlyDc) for (let i = 63; i >= 0; i--) block[i] = int16(block[i & 7]! << 2);
  else for (let c = 0; c < 8; c++) transformWide(block, c, 8, COLUMN_ROUND, COLUMN_SHIFT);
  for (let r = 0, to = at; r < 64; r += 8, to += stride) {
    transformWide(block, r, 1, 1 << (ROW_SHIFT - 1), ROW_SHIFT);
    for (let i = 0; i < 8; i++) plane[to + i] = clamp(block[r + i]! + 128);
  }
}

const block = /* @__PURE__ */ new Int32Array(64);

/** Dequantizes a block of coefficients (natural order, at `from`) and transforms it to 8 by 8 samples in `plane` at `to`. */
export function transformBlock(
  coefficients: Int16Array,
  from: number,
  quant: Int32Array,
  plane: Uint8Array,
  to: number,
  stride: number,
): void {
  let ac = 0;
  let magnitudes = 0;
  for (let i = 0; i < 64; i++) {
    const coefficient = coefficients[from + i]!;
    const value = Math.imul(coefficient, quant[i]!);
    if (i > 0) ac |= coefficient;
    magnitudes += value < 0 ? -value : value;
    block[i] = value;
  }
  if (magnitudes > COLUMN_SUM && largestColumn(block) > COLUMN_SUM) {
    let rows = 0;
    for (let i = 8; i < 64; i++) rows |= coefficients[from + i]!;
    for (let i = 0; i < 64; i++) block[i] = int16(block[i]!);
    inverseWide(block, rows === 0, plane, to, stride);
  } else if (ac === 0) inverseFlat(block[0]!, plane, to, stride);
  else inverse(block, plane, to, stride);
}

/** The same for a block whose only coefficient is the first. */
export function transformFlat(
  coefficient: number,
  quant: number,
  plane: Uint8Array,
  to: number,
  stride: number,
): boolean {
  const value = Math.imul(coefficient, quant);
  if (Math.abs(value) > COLUMN_SUM) return false;
  inverseFlat(value, plane, to, stride);
  return true;
}

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
