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
 * Bits that the magnitude of a dequantised coefficient can have: 8-bit samples give at most 1024, quantising at most doubles it, and
 * one bit is to spare. Beyond, data are damaged, and decoders that compute in 16 bits no longer agree.
 */
export const COEFFICIENT_BITS = 12;

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

/** One block: dequantised coefficients (natural order, destroyed) to 8 by 8 samples in `plane` at `at`, lines `stride` apart. */
export function inverseTransform(block: Int32Array, plane: Uint8Array, at: number, stride: number): void {
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
export function inverseTransformFlat(dc: number, plane: Uint8Array, at: number, stride: number): void {
  const value = clamp(((dc + 4) >> 3) + 128);
  for (let r = 0, to = at; r < 8; r++, to += stride) plane.fill(value, to, to + 8);
}
