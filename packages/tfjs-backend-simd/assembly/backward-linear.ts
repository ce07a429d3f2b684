// The backward pass of a linear layer y = x · W + b. Weights and their gradients are panels of 8 columns (pack.ts).
//
// The gradient of W is a sum over rows, cut into blocks that the caller gives: each block is summed in order from zero and then added to the
// sum of those before. So samples that are learnt together or one after the other give the same bits, if no block has rows of two of them.

import { BiasGradientParam, Format, InputGradientParam, K_BLOCK, PackPanelsParam, WeightGradientParam } from './abi';
import { storeLanes } from './math';
import { addTile, tile, touch, ZEROS } from './multiply';
import { elementOf, packPanels, packRows, widenPanel16 } from './pack';
import { heartbeat, keepsResults, param, paramInt, publish } from './thread';

/** Rows of dy that are multiplied with one panel after the other. */
const CACHED_ROWS: i32 = 204;

/** Job with `PackPanelsParam`. */
export function packPanelsJob(chunk: i32): void {
  const rows = paramInt(PackPanelsParam.rows), perChunk = paramInt(PackPanelsParam.chunkRows), from = chunk * perChunk;
  const b = param(PackPanelsParam.b) + <usize>from * param(PackPanelsParam.bStride), d = param(PackPanelsParam.panels) + (<usize>from << 5);
  packPanels(b, param(PackPanelsParam.bStride), d, min(perChunk, rows - from), paramInt(PackPanelsParam.columns), rows);
}

/** c[rows, 8] = base + sums; one row of zeros is the base of all where there is none. */
@inline function addBase(base: usize, step: usize, sums: usize, c: usize, rows: i32): void {
  for (let i = 0; i < rows; i++, sums += 32, c += 32, base += step) {
    v128.store(c, f32x4.add(v128.load(base), v128.load(sums)));
    v128.store(c, f32x4.add(v128.load(base, 16), v128.load(sums, 16)), 16);
  }
}

/** Job with `WeightGradientParam`: dW = sum + transpose(x) · dy. A chunk is some rows of dW and some of its panels. */
export function weightGradientJob(chunk: i32, thread: i32): void {
  const inputs = paramInt(WeightGradientParam.inputs), rows = paramInt(WeightGradientParam.rows), height = paramInt(WeightGradientParam.tileRows);
  const perBlock = paramInt(WeightGradientParam.blockRows), perChunk = paramInt(WeightGradientParam.chunkPanels), blockChunks = paramInt(WeightGradientParam.blockChunks);
  const i0 = chunk / blockChunks * perBlock, m = min(perBlock, inputs - i0);
  const p0 = chunk % blockChunks * perChunk, p1 = min(p0 + perChunk, (paramInt(WeightGradientParam.outputs) + 7) >> 3);
  const sums = param(WeightGradientParam.scratch) + <usize>thread * param(WeightGradientParam.threadBytes), own = keepsResults();
  const result = param(WeightGradientParam.c) + (<usize>(p0 * inputs + i0) << 5), panel = <usize>inputs << 5;
  const c = own ? sums + 256 : result, step = own ? <usize>m << 5 : panel;
  const before = param(WeightGradientParam.sum), ends = param(WeightGradientParam.blockEnds), blocks = paramInt(WeightGradientParam.blocks);
  const tiles = param(WeightGradientParam.tiles) + (<usize>i0 * <usize>rows << 2);
  for (let block = 0, k0 = 0; block < blocks; block++) {
    const kb = load<i32>(ends + (<usize>block << 2)) - k0;
    for (let p = p0; p < p1; p++) {
      if (!(p - p0 & 3)) heartbeat();
      const b = param(WeightGradientParam.panels) + (<usize>p * <usize>rows + <usize>k0 << 5);
      const base = before ? before + (<usize>p * <usize>inputs + <usize>i0 << 5) : ZEROS;
      const at = c + <usize>(p - p0) * step;
      for (let i = 0; i < m; i += height) {
        const count = min(height, m - i), a = tiles + (<usize>i * <usize>rows + <usize>k0 * <usize>count << 2), place = at + (<usize>i << 5);
        tile(Format.f32, count, a, b, sums, 32, kb, ZEROS, 0);
        if (block) addTile(sums, place, 32, count);
        else if (before) addBase(base + (<usize>i << 5), 32, sums, place, count);
        else addBase(ZEROS, 0, sums, place, count);
      }
    }
    k0 += kb;
  }
  if (!own || !publish()) return;
  for (let p = p0; p < p1; p++) memory.copy(result + <usize>(p - p0) * panel, c + <usize>(p - p0) * step, <usize>m << 5);
}

/** The 8 x 8 numbers of panel `source` in rows i to i + 7, as float32 rows of 8 at d. */
function widenBlock(format: i32, w: usize, scales: usize, inputs: i32, source: i32, i: i32, rows: i32, d: usize): void {
  if (format == Format.int8Fast) {
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < 8; c++, d += 4) store<f32>(d, elementOf(format, w, scales, i + r, source << 3 | c, inputs));
    }
    return;
  }
  if (format != Format.int8) return widenPanel16(format, w + (<usize>source * <usize>inputs + <usize>i << 4), d, rows);
  const pairs = w + (<usize>source * <usize>((inputs + 1) >> 1) + <usize>(i >> 1) << 4);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < 8; c++, d += 4) {
      const word = <f32>load<i8>(pairs + (<usize>(r >> 1) << 4) + <usize>((c << 1) | (r & 1)));
      store<f32>(d, word * load<f32>(scales + (<usize>(source << 3 | c) << 2)));
    }
  }
}

/** Four rows of 8 at s as columns 0 to 3 of 8 rows at d. */
@inline function transposeHalf(s: usize, d: usize): void {
  for (let i = 0; i < 2; i++, s += 16, d += 128) {
    const a = v128.load(s), b = v128.load(s, 32), c = v128.load(s, 64), e = v128.load(s, 96);
    const p = v128.shuffle<f32>(a, b, 0, 4, 1, 5), q = v128.shuffle<f32>(c, e, 0, 4, 1, 5);
    const r = v128.shuffle<f32>(a, b, 2, 6, 3, 7), t = v128.shuffle<f32>(c, e, 2, 6, 3, 7);
    v128.store(d, v128.shuffle<f32>(p, q, 0, 1, 4, 5));
    v128.store(d, v128.shuffle<f32>(p, q, 2, 3, 6, 7), 32);
    v128.store(d, v128.shuffle<f32>(r, t, 0, 1, 4, 5), 64);
    v128.store(d, v128.shuffle<f32>(r, t, 2, 3, 6, 7), 96);
  }
}

/**
 * Outputs k0 to k0 + kb of W's transpose, as its panels p0 to p1 at d, each of K_BLOCK rows: what of W is together in memory is read
 * together. `spare` has room for 64 numbers.
 */
function transposePanels(format: i32, w: usize, scales: usize, inputs: i32, p0: i32, p1: i32, k0: i32, kb: i32, d: usize, spare: usize): void {
  const bits = format == Format.f32 ? 5 : 4, panel = <usize>inputs << bits, few = format == Format.int8 || format == Format.int8Fast;
  for (let k = few ? k0 + kb : k0; k < k0 + kb; k += 32) {
    const count = min(4, (k0 + kb - k + 7) >> 3);
    touch(w + <usize>(k >> 3) * panel + (<usize>p0 << bits + 3), panel, count, <usize>(min(p1 << 3, inputs) - (p0 << 3)) << bits, spare);
  }
  for (let k = k0; k < k0 + kb; k += 8, d += 256) {
    for (let p = p0, to = d; p < p1; p++, to += K_BLOCK << 5) {
      const i = p << 3, rows = min(8, inputs - i);
      const wide = format == Format.f32 ? w + (<usize>(k >> 3) * <usize>inputs + <usize>i << 5) : spare;
      if (format != Format.f32) widenBlock(format, w, scales, inputs, k >> 3, i, rows, spare);
      if (rows < 8) packRows(wide, 32, to, rows, 8, 8);
      else {
        transposeHalf(wide, to);
        transposeHalf(wide + 128, to + 16);
      }
    }
  }
}

/** Job with `InputGradientParam`: dx = dy · transpose(W). A chunk is some rows of dx and some panels of its columns. */
export function inputGradientJob(chunk: i32, thread: i32): void {
  const inputs = paramInt(InputGradientParam.inputs), outputs = paramInt(InputGradientParam.outputs), height = paramInt(InputGradientParam.tileRows), format = paramInt(InputGradientParam.format);
  const perBlock = paramInt(InputGradientParam.blockRows), perChunk = paramInt(InputGradientParam.chunkPanels), blockChunks = paramInt(InputGradientParam.blockChunks);
  const row0 = chunk / blockChunks * perBlock, m = min(perBlock, paramInt(InputGradientParam.rows) - row0);
  const p0 = chunk % blockChunks * perChunk, p1 = min(p0 + perChunk, (inputs + 7) >> 3);
  const sums = param(InputGradientParam.scratch) + <usize>thread * param(InputGradientParam.threadBytes), spare = sums + 192;
  const wide = spare + 256, c = wide + <usize>perChunk * (K_BLOCK << 5), step = <usize>perChunk << 5;
  const tiles = param(InputGradientParam.tiles) + (<usize>row0 * <usize>outputs << 2), cached = CACHED_ROWS / height * height;
  for (let k0 = 0; k0 < outputs; k0 += K_BLOCK) {
    const kb = min(K_BLOCK, outputs - k0);
    heartbeat();
    transposePanels(format, param(InputGradientParam.weights), param(InputGradientParam.columnScales), inputs, p0, p1, k0, kb, wide, spare);
    // Some rows at a time: they stay in the second-level cache for all panels, and each panel in the first-level cache for all of them.
    for (let first = 0; first < m; first += cached) {
      const end = min(first + cached, m);
      for (let p = p0; p < p1; p++) {
        const b = wide + <usize>(p - p0) * (K_BLOCK << 5);
        heartbeat();
        for (let i = first; i < end; i += height) {
          const count = min(height, end - i), a = tiles + (<usize>i * <usize>outputs + <usize>k0 * <usize>count << 2);
          const at = c + <usize>i * step + (<usize>(p - p0) << 5);
          if (!k0) tile(Format.f32, count, a, b, at, step, kb, ZEROS, 0);
          else {
            tile(Format.f32, count, a, b, sums, 32, kb, ZEROS, 0);
            addTile(sums, at, step, count);
          }
        }
      }
    }
  }
  if (!publish()) return;
  const stride = param(InputGradientParam.cStride), result = param(InputGradientParam.c) + <usize>row0 * stride;
  const whole = min(p1 << 3, inputs) - (p0 << 3), bytes = <usize>whole << 2;
  for (let i = 0; i < m; i++) memory.copy(result + <usize>i * stride + (<usize>p0 << 5), c + <usize>i * step, bytes);
}

/** Job with `BiasGradientParam`: db = sum + the sum of dy's rows, block by block. A chunk is some columns. */
export function biasGradientJob(chunk: i32): void {
  const columns = paramInt(BiasGradientParam.columns), stride = <usize>columns << 2, perChunk = paramInt(BiasGradientParam.chunkColumns);
  const ends = param(BiasGradientParam.blockEnds), blocks = paramInt(BiasGradientParam.blocks), before = param(BiasGradientParam.sum);
  for (let j = chunk * perChunk, end = min(j + perChunk, columns); j < end; j += 4) {
    const offset = <usize>j << 2;
    let total = before ? v128.load(before + offset) : f32x4.splat(0);
    let dy = param(BiasGradientParam.dy) + offset;
    for (let block = 0, row = 0; block < blocks; block++) {
      let low = f64x2.splat(0), high = low;
      for (const last = load<i32>(ends + (<usize>block << 2)); row < last; row++, dy += stride) {
        const v = v128.load(dy);
        low = f64x2.add(low, f64x2.promote_low_f32x4(v));
        high = f64x2.add(high, f64x2.promote_low_f32x4(v128.shuffle<i32>(v, v, 2, 3, 2, 3)));
      }
      const sum = v128.shuffle<i32>(f32x4.demote_f64x2_zero(low), f32x4.demote_f64x2_zero(high), 0, 1, 4, 5);
      total = f32x4.add(total, sum);
    }
    const y = param(BiasGradientParam.y) + offset;
    if (end - j >= 4) v128.store(y, total);
    else storeLanes(y, total, end - j);
  }
}
