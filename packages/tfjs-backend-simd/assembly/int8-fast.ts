// Products against int8-fast weights: signed bytes, a scale a column, against rows rounded to 7 bits, a scale a row and block of k. A block's
// numbers go from its smallest to its largest, from 0 to 127; what stands for 0 among them is added afterwards, times the sum of the weights. So no
// sum of four products leaves 16 bits, and the relaxed instruction, which machines are free to compute differently where its second operand has its
// top bit set, is exact on all of them.

import { Dots, FAST_K_BLOCK, LinearParam, RoundBytesParam } from './abi';
import { ROUNDER, SMALLEST } from './int8';
import { biasOf, copyColumns, panelAt, panelsApart, panelsFrom, touch } from './multiply';
import { fastPanel, foursOf, packRows } from './pack';
import { heartbeat, param, paramInt } from './thread';
import { dotWhole, productsPairs, streamFast, tileFast } from './tiles';

/** Steps from the smallest to the largest number of a block: rounding at both ends makes 127 of them at most. */
const STEPS: f32 = 126;

/** 1.5 * 2^23, see int8.ts. */
const ROUNDERS: usize = memory.data<u32>([0x4b400000, 0x4b400000, 0x4b400000, 0x4b400000], 16);

// ---- rows

/** The smallest and the largest of 0 and n numbers, NaN aside: `pmin` and `pmax` are one instruction where `min` and `max` are six. */
function rangeOf(x: usize, n: i32, smallest: usize, largest: usize): void {
  let least = f32x4.splat(0), most = least, least1 = least, most1 = least, least2 = least, most2 = least, least3 = least, most3 = least, i = 0;
  for (; i + 16 <= n; i += 16, x += 64) {
    const a = v128.load(x), b = v128.load(x, 16), c = v128.load(x, 32), d = v128.load(x, 48);
    least = f32x4.pmin(least, a); most = f32x4.pmax(most, a);
    least1 = f32x4.pmin(least1, b); most1 = f32x4.pmax(most1, b);
    least2 = f32x4.pmin(least2, c); most2 = f32x4.pmax(most2, c);
    least3 = f32x4.pmin(least3, d); most3 = f32x4.pmax(most3, d);
  }
  least = f32x4.pmin(f32x4.pmin(least, least1), f32x4.pmin(least2, least3));
  most = f32x4.pmax(f32x4.pmax(most, most1), f32x4.pmax(most2, most3));
  for (; i < n; i++, x += 4) {
    const value = v128.load_splat<f32>(x);
    least = f32x4.pmin(least, value);
    most = f32x4.pmax(most, value);
  }
  least = f32x4.min(least, v128.shuffle<f32>(least, least, 2, 3, 0, 1));
  most = f32x4.max(most, v128.shuffle<f32>(most, most, 2, 3, 0, 1));
  store<f32>(smallest, min(f32x4.extract_lane(least, 0), f32x4.extract_lane(least, 1)));
  store<f32>(largest, max(f32x4.extract_lane(most, 0), f32x4.extract_lane(most, 1)));
}

/** Four numbers in whole steps above `origin`, which is ROUNDER at the block's smallest. */
@inline function stepsOf(x: v128, factors: v128, rounder: v128, origin: v128): v128 {
  return i32x4.sub(f32x4.add(f32x4.mul(x, factors), rounder), origin);
}

/** `k` numbers of one block as bytes, whole sixteens of them; leaves what 1 stands for, NaN where the block is not finite, and what 0 stands for, in such steps. */
function roundBlock(x: usize, bytes: usize, k: i32, scale: usize, zero: usize): void {
  rangeOf(x, k, zero, scale);
  const least = load<f32>(zero), step = load<f32>(scale) / STEPS - least / STEPS;
  const flat = step < SMALLEST, factor: f32 = flat ? 0 : 1 / step, factors = f32x4.splat(factor), rounder = v128.load(ROUNDERS);
  const from = reinterpret<i32>(least * factor + ROUNDER), origin = i32x4.splat(from);
  // Whatever has a bit above the seventh comes from a number that is not finite.
  let bits = i32x4.splat(0), i = 0;
  for (; i + 16 <= k; i += 16, x += 64, bytes += 16) {
    const a = stepsOf(v128.load(x), factors, rounder, origin), b = stepsOf(v128.load(x, 16), factors, rounder, origin);
    const c = stepsOf(v128.load(x, 32), factors, rounder, origin), d = stepsOf(v128.load(x, 48), factors, rounder, origin);
    bits = v128.or(bits, v128.or(v128.or(a, b), v128.or(c, d)));
    v128.store(bytes, i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d)));
  }
  for (; i < k; i++, x += 4, bytes++) {
    const steps = reinterpret<i32>(load<f32>(x) * factor + ROUNDER) - from;
    bits = v128.or(bits, i32x4.splat(steps));
    store<i8>(bytes, <i8>steps);
  }
  for (; i & 15; i++, bytes++) store<i8>(bytes, 0);
  const finite = step < Infinity && !v128.any_true(v128.andnot(bits, i32x4.splat(127)));
  store<f32>(scale, !finite ? NaN : flat ? 0 : step);
  store<i32>(zero, from - reinterpret<i32>(ROUNDER) & 0xffff);
}

/** Job with `RoundBytesParam`; `chunkRows` is a multiple of `tileRows`. Rounds the rows of A [m, k] and packs them: tiles of [fours of k][rows][4] bytes. */
export function roundBytesJob(chunk: i32, thread: i32): void {
  const m = paramInt(RoundBytesParam.rows), k = paramInt(RoundBytesParam.k), height = paramInt(RoundBytesParam.tileRows), fours = foursOf(k), step = <usize>fours << 2;
  const bytes = param(RoundBytesParam.scratch) + <usize>thread * param(RoundBytesParam.threadBytes);
  const to = min((chunk + 1) * paramInt(RoundBytesParam.chunkRows), m);
  for (let i = chunk * paramInt(RoundBytesParam.chunkRows); i < to; i += height) {
    const rows = min(height, to - i);
    for (let r = 0; r < rows; r++) {
      const x = param(RoundBytesParam.a) + (<usize>(i + r) * <usize>k << 2);
      let at = <usize>(i + r) << 2;
      for (let k0 = 0; k0 < k; k0 += FAST_K_BLOCK, at += <usize>m << 2) {
        const row = bytes + <usize>r * step + <usize>k0;
        roundBlock(x + (<usize>k0 << 2), row, min(FAST_K_BLOCK, k - k0), param(RoundBytesParam.rowScales) + at, param(RoundBytesParam.rowZeros) + at);
      }
    }
    // Four bytes move like one float32.
    packRows(bytes, step, param(RoundBytesParam.tiles) + <usize>i * step, rows, rows, fours);
  }
}

// ---- the product

/** Where C begins, or would begin if there were all of it, and from row to row. */
let target: usize = 0, targetStep: usize = 0;

/** What stands at `before`, and four sums times the scales of their row and columns; both factors of what a zero adds fit 16 bits. */
@inline function scaled(before: usize, sums: usize, zero: v128, weights: v128, scale: v128, scales: v128): v128 {
  const whole = i32x4.add(v128.load(sums), i32x4.dot_i16x8_s(zero, weights));
  return f32x4.add(v128.load(before), f32x4.mul(f32x4.convert_i32x4_s(whole), f32x4.mul(scale, scales)));
}

/** A block's sums of `rows` rows from `row` on and panel p into C, as `scaleTile` of int8.ts does it; at `weights` stand the sums of the panel's. */
function scaleTile(sums: usize, weights: usize, row: i32, rows: i32, p: i32, k0: i32, spare: usize): void {
  const columns = paramInt(LinearParam.columns) - (p << 3), ldc = targetStep, at = target + <usize>row * ldc + (<usize>p << 5);
  const step = columns < 8 ? 32 : ldc, scales = param(LinearParam.columnScales) + (<usize>p << 5), base = k0 ? 0 : biasOf(param(LinearParam.bias), p);
  const place = <usize>(k0 / FAST_K_BLOCK * paramInt(LinearParam.rows) + row) << 2;
  let rowScales = param(LinearParam.rowScales) + place, rowZeros = param(LinearParam.rowZeros) + place, c = columns < 8 ? spare : at;
  const scales0 = v128.load(scales), scales1 = v128.load(scales, 16), weights0 = v128.load(weights), weights1 = v128.load(weights, 16);
  for (let i = 0; i < rows; i++, c += step, sums += 32, rowScales += 4, rowZeros += 4) {
    const scale = v128.load_splat<f32>(rowScales), zero = v128.load_splat<i32>(rowZeros), before = base ? base : c;
    v128.store(c, scaled(before, sums, zero, weights0, scale, scales0));
    v128.store(c, scaled(before + 16, sums + 16, zero, weights1, scale, scales1), 16);
  }
  if (columns < 8 && k0 + FAST_K_BLOCK >= paramInt(LinearParam.k)) copyColumns(spare, at, ldc, rows, columns);
}

/** Where the block from k0 on stands in a panel. */
@inline function blockAt(k0: i32): usize {
  return <usize>((k0 >> 2) + k0 / FAST_K_BLOCK) << 5;
}

/** Panels p, p + apart, ... before p1, at most four of them, and the block of k from k0 on; parameters as `multiplyFast`. */
@inline function multiplyFour(row0: i32, m: i32, p: i32, p1: i32, apart: i32, k0: i32, spare: usize): void {
  heartbeat();
  const all = foursOf(paramInt(LinearParam.k)), panel = fastPanel(paramInt(LinearParam.k)), count = panelsFrom(p, p1, apart), j0 = k0 >> 2, fours = min(FAST_K_BLOCK >> 2, all - j0);
  const height = paramInt(LinearParam.tileRows), dots = paramInt(LinearParam.dots), sums = spare + (<usize>m << 5);
  const first = param(LinearParam.weights) + <usize>p * panel + blockAt(k0);
  const step = <usize>apart * panel;
  if (count > 1) touch(first, step, count, <usize>fours << 5, sums);
  for (let q = 0; q < count; q++) {
    for (let i = 0; i < m; i += height) {
      const rows = min(height, m - i), a = param(LinearParam.tiles) + (<usize>((row0 + i) * all + j0 * rows) << 2);
      tileFast(dots, rows, a, first + <usize>q * step, sums, fours);
      scaleTile(sums, first + <usize>q * step + (<usize>fours << 5), row0 + i, rows, p + q * apart, k0, spare + (<usize>i << 5));
    }
  }
}

/** A single row against panels p0 to p1, four at a time as `streamRow` of multiply.ts does. */
function streamRow(p0: i32, p1: i32, spare: usize): void {
  const all = foursOf(paramInt(LinearParam.k)), panel = fastPanel(paramInt(LinearParam.k)), sums = spare + 32, dots = paramInt(LinearParam.dots);
  const apart = panelsApart(p0, p1), step = <usize>apart * panel;
  for (let p = p0; p < p0 + apart; p++) {
    const count = panelsFrom(p, p1, apart), first = param(LinearParam.weights) + <usize>p * panel;
    const second = panelAt(1, count) * step, third = panelAt(2, count) * step, fourth = panelAt(3, count) * step;
    for (let j = 0; j < all; j += FAST_K_BLOCK >> 2) {
      const b = first + blockAt(j << 2), fours = min(FAST_K_BLOCK >> 2, all - j);
      streamFast(dots, param(LinearParam.tiles) + (<usize>j << 2), b, b + second, b + third, b + fourth, sums, fours);
      for (let i = 0; i < count; i++) scaleTile(sums + (<usize>i << 5), b + <usize>i * step + (<usize>fours << 5), 0, 1, p + i * apart, j << 2, spare);
    }
  }
}

/** As `multiplyInt8` of int8.ts; `spare` holds m * 32 bytes for a last panel that C has no room for, and a tile of sums. */
export function multiplyFast(row0: i32, m: i32, few: bool, p0: i32, p1: i32, c: usize, ldc: usize, spare: usize): void {
  const k = paramInt(LinearParam.k);
  target = c - <usize>row0 * ldc;
  targetStep = ldc;
  if (few && m == 1 && paramInt(LinearParam.panelsAtOnce) == 4) return streamRow(p0, p1, spare);
  if (few) {
    const apart = panelsApart(p0, p1);
    for (let p = p0; p < p0 + apart; p++) {
      for (let k0 = 0; k0 < k; k0 += FAST_K_BLOCK) multiplyFour(row0, m, p, p1, apart, k0, spare);
    }
  } else {
    for (let k0 = 0; k0 < k; k0 += FAST_K_BLOCK) {
      for (let p = p0; p < p1; p += 4) multiplyFour(row0, m, p, p1, 1, k0, spare);
    }
  }
}

// ---- which instruction

/** Bytes to try the instructions with: a row's, and weights'; at the end a row's with their top bit set, which none has. */
const TRIAL: usize = memory.data(192, 16);

/**
 * Which `Dots` this machine computes fastest among those that it computes as they must be. How it adds four products where a row's byte has its
 * top bit set, which none has, tells how it does it: a sum of two products that stops at 32767 means two instructions with sums of 16 bits between
 * them, for which `pairs` needs fewer. One that gives anything else where the numbers are small enough is not used at all: the first
 * compiler of V8 11.3, which is Node 20's, gives twice the sum of four, where its operands are in certain registers.
 */
export function bestDots(): i32 {
  if (!ASC_FEATURE_RELAXED_SIMD) return Dots.plain;
  for (let i: usize = 0; i < 64; i++) {
    // The ends of the ranges, in every combination, and numbers between them.
    store<i8>(TRIAL + i, i & 4 ? 127 : i & 8 ? 0 : <i8>(i * 29 % 128));
    store<i8>(TRIAL + 64 + i, i & 16 ? -127 : i & 32 ? 127 : <i8>(<i32>(i * 37 % 255) - 127));
  }
  const ones = i16x8.splat(1);
  let pairs = true, whole = true;
  for (let i: usize = 0; i < 64; i += 16) {
    for (let j: usize = 0; j < 64; j += 16) {
      // A quarter of the weights leaves room for the sum of four in 16 bits, as panels do.
      const x = v128.load(TRIAL + i), w = v128.load(TRIAL + 64 + j), quarter = productsPairs(x, i8x16.shr_s(w, 2)), half = i16x8.add(quarter, quarter);
      v128.store(TRIAL + 128, i32x4.add(i32x4.dot_i16x8_s(productsPairs(x, w), ones), i32x4.dot_i16x8_s(i16x8.add(half, half), ones)));
      v128.store(TRIAL + 144, dotWhole(x, w, i32x4.splat(5)));
      for (let lane: usize = 0; lane < 16; lane += 4) {
        let sum = 0, quarters = 0;
        for (let n = lane; n < lane + 4; n++) {
          const x = <i32>load<i8>(TRIAL + i + n), w = <i32>load<i8>(TRIAL + 64 + j + n);
          sum += x * w;
          quarters += x * (w >> 2);
        }
        pairs = pairs && load<i32>(TRIAL + 128 + lane) == sum + 4 * quarters;
        whole = whole && load<i32>(TRIAL + 144 + lane) == 5 + sum;
      }
    }
  }
  memory.fill(TRIAL, 255, 16);
  memory.fill(TRIAL + 64, 127, 16);
  const sum = i32x4.extract_lane(dotWhole(v128.load(TRIAL), v128.load(TRIAL + 64), i32x4.splat(0)), 0);
  whole = whole && sum != 4 * 32767;
  if (pairs && (sum == 2 * 32767 || !whole)) return Dots.pairs;
  return whole ? Dots.whole : Dots.plain;
}
