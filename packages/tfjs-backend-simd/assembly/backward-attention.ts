// The backward pass of attention for one row of the batch and one head at a time. Queries are taken in blocks, whose weights are computed
// again, so that weights of all queries are never in memory together. What a block adds to the slopes of keys and values is summed from zero
// and then added to that of the blocks before, in order.

import { AttentionGradientParam, K_BLOCK } from './abi';
import { addTile, ZEROS } from './multiply';
import { packPanels, packPanelsTransposed, packTiles, packTilesTransposed, TILE_ROWS } from './pack';
import { exponentials, scale } from './rows';
import { heartbeat, param, paramFloat, paramInt, publish } from './thread';
import { tileF32 } from './tiles';

/** Queries of one block: a multiple of both tile heights. */
const QUERY_BLOCK: i32 = 60;

/** Room for the sums of one tile. */
const TILE_BYTES: usize = 192;

/** Filled up to whole panels. */
@inline function whole(n: i32): i32 {
  return (n + 7) & ~7;
}

/** Bytes of scratch that one thread needs, which may be more than there can be; asked by JavaScript. */
export function attentionGradientScratch(tokens: i32, columns: i32, width: i32): f64 {
  const wide = <f64>whole(width), all = <f64>whole(columns), block = <f64>QUERY_BLOCK;
  const keys = 2 * all * <f64>width + 3 * <f64>columns * wide, blocks = block * (2 * all + 2 * wide) + block * max(all, wide);
  return (keys + blocks + <f64>tokens * wide) * 4 + <f64>TILE_BYTES;
}

/** C [m, 8 * panels] = or += tiles · panels, in blocks of k (as multiply.ts). */
function product(tiles: usize, m: i32, k: i32, b: usize, panels: i32, c: usize, ldc: usize, more: bool, sums: usize): void {
  for (let k0 = 0; k0 < k; k0 += K_BLOCK) {
    const kb = min(K_BLOCK, k - k0);
    for (let p = 0; p < panels; p++) {
      const panel = b + (<usize>(p * k + k0) << 5);
      for (let i = 0; i < m; i += TILE_ROWS) {
        const rows = min(TILE_ROWS, m - i), a = tiles + (<usize>(i * k + k0 * rows) << 2), at = c + <usize>i * ldc + (<usize>p << 5);
        if (k0 || more) {
          tileF32(rows, a, panel, sums, 32, kb, ZEROS, 0);
          addTile(sums, at, ldc, rows);
        } else tileF32(rows, a, panel, at, ldc, kb, ZEROS, 0);
      }
    }
  }
}

/** A row of slopes by weights into slopes by scores: weight * (slope - the sum of weight * slope), all `n` a multiple of 4. */
@inline function scoreSlopes(weights: usize, slopes: usize, n: i32): void {
  let s = f64x2.splat(0), t = s;
  const bytes = <usize>n << 2;
  for (let j: usize = 0; j < bytes; j += 16) {
    const v = f32x4.mul(v128.load(weights + j), v128.load(slopes + j));
    s = f64x2.add(s, f64x2.promote_low_f32x4(v));
    t = f64x2.add(t, f64x2.promote_low_f32x4(v128.shuffle<i32>(v, v, 2, 3, 2, 3)));
  }
  s = f64x2.add(s, t);
  const total = f32x4.splat(<f32>(f64x2.extract_lane(s, 0) + f64x2.extract_lane(s, 1)));
  for (let j: usize = 0; j < bytes; j += 16) {
    v128.store(slopes + j, f32x4.mul(v128.load(weights + j), f32x4.sub(v128.load(slopes + j), total)));
  }
}

/** Weights [rows, all] of queries t0 and on, from their scores. */
@inline function weigh(weights: usize, row: i32, t0: i32, rows: i32, columns: i32, all: i32): void {
  const mask = param(AttentionGradientParam.mask), step = <usize>all << 2, bytes = <usize>columns << 2;
  for (let i = 0; i < rows; i++) {
    const at = weights + <usize>i * step;
    if (mask) {
      const own = mask + <usize>row * param(AttentionGradientParam.maskStride) + <usize>(t0 + i) * bytes;
      for (let j: usize = 0; j < bytes; j += 4) store<f32>(at + j, load<f32>(at + j) + load<f32>(own + j));
    }
    for (let j = columns; j < all; j++) store<f32>(at + (<usize>j << 2), -Infinity);
    scale(at, all, exponentials(at, all, all));
  }
}

/** [rows, width] at `from`, `stride` bytes apart, as rows without gaps. */
@inline function copyRows(from: usize, stride: usize, to: usize, rows: i32, bytes: usize): void {
  for (let i = 0; i < rows; i++) memory.copy(to + <usize>i * bytes, from + <usize>i * stride, bytes);
}

/** Job with `AttentionGradientParam`. A chunk is a row and a head. */
export function attentionGradientJob(chunk: i32, thread: i32): void {
  const T = paramInt(AttentionGradientParam.tokens), S = paramInt(AttentionGradientParam.columns), K = paramInt(AttentionGradientParam.width);
  const row = chunk / paramInt(AttentionGradientParam.heads), step = <usize>K << 2, factor = paramFloat(AttentionGradientParam.scale);
  const ofQueries = <usize>chunk * <usize>T * step, ofKeys = <usize>chunk * <usize>S * step;
  const q = param(AttentionGradientParam.q) + ofQueries, dy = param(AttentionGradientParam.dy) + ofQueries;
  const key = param(AttentionGradientParam.key) + ofKeys, value = param(AttentionGradientParam.value) + ofKeys;
  const wide = whole(K), all = whole(S), wideStep = <usize>wide << 2, allStep = <usize>all << 2, panels = wide >> 3;
  const sums = param(AttentionGradientParam.scratch) + <usize>thread * param(AttentionGradientParam.threadBytes);
  const transposedKeys = sums + TILE_BYTES, transposedValues = transposedKeys + <usize>all * step, keys = transposedValues + <usize>all * step;
  const dKey = keys + <usize>S * wideStep, dValue = dKey + <usize>S * wideStep, dQuery = dValue + <usize>S * wideStep;
  const weights = dQuery + <usize>T * wideStep, slopes = weights + <usize>QUERY_BLOCK * allStep, queryPanels = slopes + <usize>QUERY_BLOCK * allStep;
  const dyPanels = queryPanels + <usize>QUERY_BLOCK * wideStep, tiles = dyPanels + <usize>QUERY_BLOCK * wideStep;
  packPanelsTransposed(key, step, transposedKeys, K, S);
  packPanelsTransposed(value, step, transposedValues, K, S);
  packPanels(key, step, keys, S, K, S);
  for (let t0 = 0; t0 < T; t0 += QUERY_BLOCK) {
    const rows = min(QUERY_BLOCK, T - t0), at = <usize>t0 * step, later = t0 > 0;
    packTiles(q + at, step, tiles, 0, rows, K, TILE_ROWS);
    scale(tiles, rows * K, factor);
    product(tiles, rows, K, transposedKeys, all >> 3, weights, allStep, false, sums);
    weigh(weights, row, t0, rows, S, all);
    heartbeat();
    packTiles(dy + at, step, tiles, 0, rows, K, TILE_ROWS);
    product(tiles, rows, K, transposedValues, all >> 3, slopes, allStep, false, sums);
    for (let i = 0; i < rows; i++) scoreSlopes(weights + <usize>i * allStep, slopes + <usize>i * allStep, all);
    heartbeat();
    packTiles(slopes, allStep, tiles, 0, rows, S, TILE_ROWS);
    product(tiles, rows, S, keys, panels, dQuery + <usize>t0 * wideStep, wideStep, false, sums);
    scale(dQuery + <usize>t0 * wideStep, rows * wide, factor);
    heartbeat();
    packTilesTransposed(slopes, allStep, tiles, 0, S, rows, TILE_ROWS);
    packPanels(q + at, step, queryPanels, rows, K, rows);
    scale(queryPanels, rows * wide, factor);
    product(tiles, S, rows, queryPanels, panels, dKey, wideStep, later, sums);
    heartbeat();
    packTilesTransposed(weights, allStep, tiles, 0, S, rows, TILE_ROWS);
    packPanels(dy + at, step, dyPanels, rows, K, rows);
    product(tiles, S, rows, dyPanels, panels, dValue, wideStep, later, sums);
    heartbeat();
  }
  if (!publish()) return;
  copyRows(dQuery, wideStep, param(AttentionGradientParam.dQuery) + ofQueries, T, step);
  copyRows(dKey, wideStep, param(AttentionGradientParam.dKey) + ofKeys, S, step);
  copyRows(dValue, wideStep, param(AttentionGradientParam.dValue) + ofKeys, S, step);
}
