// softmax(q · kT / sqrt(K) + mask) · v for one row of the batch and one head at a time, over the columns of an image and those of
// a text without joining them in memory.

import { beat, commit, worksApart } from './helper';
import { fma, keepLanes, storeLanes } from './math';
import { param, paramFloat, paramInt } from './memory-map';
import { F32, packPanels, packRows, packTiles, TILE_ROWS } from './pack';
import { multiply } from './multiply';
import { exponentials, scale } from './rows';

/** Rows of q that share one block of scores: a multiple of both tile heights in use, small enough for the second-level cache. */
const QUERY_BLOCK: i32 = 30;

/** Below this many rows of q the keys are read as they lie; above, packing them pays. */
const DIRECT_ROWS: i32 = 8;

/** Columns filled up to whole panels. */
@inline function whole(columns: i32): i32 {
  return (columns + 7) & ~7;
}

/** Bytes of scratch that one thread needs, which may be more than there can be; asked by JavaScript. */
export function attentionScratch(rows: i32, width: i32, textColumns: i32, imageColumns: i32): f64 {
  const columns = <f64>whole(textColumns) + <f64>whole(imageColumns), wide = <f64>whole(width), own = <f64>rows * <f64>width;
  if (rows < DIRECT_ROWS) return (columns + 2 * wide + own) * 4 + 64;
  const panels = columns * wide * 2;
  return (panels + <f64>QUERY_BLOCK * (2 * columns + wide + 24) + 768 * 8 + own) * 4 + 64;
}

/**
 * Job: parameters q, key, value, imageKey, imageValue, mask (or 0), out, R, H, T, S, K, N, I, bytes between the masks of two rows
 * (0: one for all), scratch, bytes of scratch per thread, 1 / sqrt(K). A chunk is one row and head; the rows of an image follow
 * each other for one head, so that they find its keys in the cache.
 */
export function attentionJob(chunk: i32, thread: i32): void {
  const R = paramInt(7), H = paramInt(8), T = paramInt(9), N = paramInt(12);
  const perImage = R / N;
  const image = chunk / (H * perImage), head = chunk / perImage % H;
  const row = image * perImage + chunk % perImage;
  const own = param(15) + <usize>thread * param(16), scratch = (own + (<usize>(T * paramInt(11)) << 2) + 15) & ~15;
  // Where this thread computes the rows: in the result, or in a block of its own.
  const apart = worksApart(), step = <usize>paramInt(11) << 2, stride = apart ? step : <usize>H * step;
  const result = param(6) + (<usize>row * <usize>T * <usize>H + <usize>head) * step, out = apart ? own : result;
  if (T < DIRECT_ROWS) direct(row, head, image, scratch, out, stride);
  else blocked(row, head, image, scratch, out, stride);
  if (!apart || !commit()) return;
  for (let t = 0; t < T; t++) memory.copy(result + <usize>t * <usize>H * step, own + <usize>t * step, step);
}

/** Where the [columns, K] part of a [*, H, columns, K] tensor begins. */
@inline function part(base: usize, row: i32, head: i32, columns: i32): usize {
  return base + (<usize>(row * paramInt(8) + head) * <usize>columns * <usize>paramInt(11) << 2);
}

@inline function addMask(scores: usize, row: i32, t: i32): void {
  if (!param(5)) return;
  const S = paramInt(10);
  const mask = param(5) + <usize>row * param(14) + (<usize>t * <usize>S << 2);
  for (let j: usize = 0; j < <usize>S << 2; j += 4) store<f32>(scores + j, load<f32>(scores + j) + load<f32>(mask + j));
}

/** out[K] = x[K] * factor, exactly K numbers. */
function scaleInto(x: usize, out: usize, K: i32, factor: f32): void {
  const f = f32x4.splat(factor), end = out + (<usize>(K & ~3) << 2);
  for (; out < end; x += 16, out += 16) v128.store(out, f32x4.mul(f, v128.load(x)));
  if (K & 3) storeLanes(out, f32x4.mul(f, v128.load(x)), K & 3);
}

// ---- few rows: dot products

/** scores[columns] = q · keys, four keys at a time; q is scaled and filled up with zeros to a multiple of 4. */
function dots(q: usize, keys: usize, columns: i32, K: i32, scores: usize): void {
  const step = <usize>K << 2, inner = <usize>(K & ~3) << 2, tail = K & 3;
  for (let j = 0; j < columns; j += 4, keys += 4 * step, scores += 16) {
    const left = columns - j;
    const k1 = left > 1 ? keys + step : keys, k2 = left > 2 ? keys + 2 * step : keys, k3 = left > 3 ? keys + 3 * step : keys;
    let a = f32x4.splat(0), b = a, c = a, d = a;
    for (let i: usize = 0; i < inner; i += 16) {
      const x = v128.load(q + i);
      a = fma(x, v128.load(keys + i), a);
      b = fma(x, v128.load(k1 + i), b);
      c = fma(x, v128.load(k2 + i), c);
      d = fma(x, v128.load(k3 + i), d);
    }
    if (tail) {
      const x = v128.load(q + inner);
      a = fma(x, keepLanes(v128.load(keys + inner), tail), a);
      b = fma(x, keepLanes(v128.load(k1 + inner), tail), b);
      c = fma(x, keepLanes(v128.load(k2 + inner), tail), c);
      d = fma(x, keepLanes(v128.load(k3 + inner), tail), d);
    }
    const ab = f32x4.add(v128.shuffle<f32>(a, b, 0, 4, 1, 5), v128.shuffle<f32>(a, b, 2, 6, 3, 7));
    const cd = f32x4.add(v128.shuffle<f32>(c, d, 0, 4, 1, 5), v128.shuffle<f32>(c, d, 2, 6, 3, 7));
    const sums = f32x4.add(v128.shuffle<f32>(ab, cd, 0, 1, 4, 5), v128.shuffle<f32>(ab, cd, 2, 3, 6, 7));
    if (left >= 4) v128.store(scores, sums);
    else storeLanes(scores, sums, left);
  }
}

/** out[K] (filled up to 4) += weights[columns] · values[columns, K], sixteen columns of K at a time. */
function weighted(weights: usize, values: usize, columns: i32, K: i32, out: usize): void {
  const step = <usize>K << 2, bytes = <usize>((K + 3) & ~3) << 2, end = weights + (<usize>columns << 2);
  let i: usize = 0;
  for (; i + 64 <= bytes; i += 64) {
    let a = v128.load(out + i), b = v128.load(out + i, 16), c = v128.load(out + i, 32), d = v128.load(out + i, 48);
    for (let w = weights, v = values + i; w < end; w += 4, v += step) {
      const x = v128.load_splat<f32>(w);
      a = fma(x, v128.load(v), a);
      b = fma(x, v128.load(v, 16), b);
      c = fma(x, v128.load(v, 32), c);
      d = fma(x, v128.load(v, 48), d);
    }
    v128.store(out + i, a);
    v128.store(out + i, b, 16);
    v128.store(out + i, c, 32);
    v128.store(out + i, d, 48);
  }
  for (; i < bytes; i += 16) {
    let a = v128.load(out + i);
    for (let w = weights, v = values + i; w < end; w += 4, v += step) a = fma(v128.load_splat<f32>(w), v128.load(v), a);
    v128.store(out + i, a);
  }
}

/** Rows of out [T, K], `stride` bytes apart. */
function direct(row: i32, head: i32, image: i32, scratch: usize, out: usize, stride: usize): void {
  const T = paramInt(9), S = paramInt(10), K = paramInt(11), I = paramInt(13), columns = I + S;
  const wide = <usize>whole(K) << 2;
  const query = scratch, sums = query + wide, scores = sums + wide;
  for (let t = 0; t < T; t++) {
    memory.fill(query, 0, 2 * wide);
    scaleInto(part(param(0), row, head, T) + (<usize>t * <usize>K << 2), query, K, paramFloat(17));
    if (I) dots(query, part(param(3), image, head, I), I, K, scores);
    const text = scores + (<usize>I << 2);
    if (S) {
      dots(query, part(param(1), row, head, S), S, K, text);
      addMask(text, row, t);
    }
    const total = exponentials(scores, columns, (columns + 3) & ~3);
    if (I) weighted(scores, part(param(4), image, head, I), I, K, sums);
    if (S) weighted(text, part(param(2), row, head, S), S, K, sums);
    scaleInto(sums, out + <usize>t * stride, K, 1 / total);
  }
}

// ---- many rows: products of packed blocks

/** Keys as panels of 8 columns and values as panels of 8 of K, both over the image's columns, then the text's. */
function packKeysAndValues(row: i32, head: i32, image: i32, keys: usize, values: usize): void {
  const S = paramInt(10), K = paramInt(11), I = paramInt(13), step = <usize>K << 2;
  const height = whole(I) + whole(S), bytes = <usize>height * <usize>whole(K) << 2;
  memory.fill(values, 0, bytes); // filled-up columns weigh nothing, but must not be NaN
  for (let textPart = 0; textPart < 2; textPart++) {
    const columns = textPart ? S : I, first = textPart ? whole(I) : 0;
    if (!columns) continue;
    const k = textPart ? part(param(1), row, head, S) : part(param(3), image, head, I);
    const v = textPart ? part(param(2), row, head, S) : part(param(4), image, head, I);
    const panels = keys + (<usize>first * <usize>K << 2);
    for (let j = 0; j < columns; j += 8) {
      packRows(k + <usize>j * step, step, panels + (<usize>j * <usize>K << 2), min(8, columns - j), 8, K);
    }
    packPanels(v, step, values + (<usize>first << 5), columns, K, height);
  }
}

/** The columns that fill up the last panels of the image and of the text get no weight. */
@inline function hidePadding(scores: usize, I: i32, S: i32): void {
  for (let j = I; j < whole(I); j++) store<f32>(scores + (<usize>j << 2), -Infinity);
  for (let j = whole(I) + S; j < whole(I) + whole(S); j++) store<f32>(scores + (<usize>j << 2), -Infinity);
}

function blocked(row: i32, head: i32, image: i32, scratch: usize, out: usize, stride: usize): void {
  const T = paramInt(9), S = paramInt(10), K = paramInt(11), I = paramInt(13);
  const columns = whole(I) + whole(S), wide = whole(K), scoreStep = <usize>columns << 2;
  const keys = scratch, values = keys + (<usize>columns * <usize>wide << 2), scores = values + (<usize>columns * <usize>wide << 2);
  const tiles = scores + <usize>QUERY_BLOCK * scoreStep, factors = tiles + <usize>QUERY_BLOCK * max(scoreStep, <usize>wide << 2);
  const spare = factors + (<usize>QUERY_BLOCK << 2) + 8;
  packKeysAndValues(row, head, image, keys, values);
  beat();
  const q = part(param(0), row, head, T);
  for (let t0 = 0; t0 < T; t0 += QUERY_BLOCK) {
    const rows = min(QUERY_BLOCK, T - t0);
    packTiles(q + (<usize>t0 * <usize>K << 2), <usize>K << 2, tiles, 0, rows, K, TILE_ROWS);
    scale(tiles, (rows * K + 3) & ~3, paramFloat(17));
    multiply(tiles, rows, TILE_ROWS, K, keys, F32, false, columns, 0, columns >> 3, scores, scoreStep, 0, spare);
    for (let i = 0; i < rows; i++) {
      const at = scores + <usize>i * scoreStep;
      hidePadding(at, I, S);
      if (S) addMask(at + (<usize>whole(I) << 2), row, t0 + i);
      store<f32>(factors + (<usize>i << 2), 1 / exponentials(at, columns, columns));
    }
    packTiles(scores, scoreStep, tiles, 0, rows, columns, TILE_ROWS);
    const first = out + <usize>t0 * stride;
    multiply(tiles, rows, TILE_ROWS, columns, values, F32, false, K, 0, wide >> 3, first, stride, 0, spare);
    beat();
    for (let i = 0; i < rows; i++) {
      const at = first + <usize>i * stride;
      scaleInto(at, at, K, load<f32>(factors + (<usize>i << 2)));
    }
  }
}
