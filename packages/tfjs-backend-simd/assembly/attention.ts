// softmax(q · kT / sqrt(K) + mask) · v for one row of the batch and one head at a time, over the columns of an image and those of
// a text without joining them in memory.
//
// Few rows of q read keys and values where they are, many pack them first. Both compute the same bits, and columns that the mask hides
// change none, wherever they are:
//   a score   four sums, each over every fourth k in order, added as (0 + 2) + (1 + 3)
//   the sum of the exponentials   exact (rows.ts)
//   a result   over the image's columns in blocks of COLUMN_BLOCK, each summed in order from zero and added; then the text's in order

import { AttentionParam } from './abi';
import { fma, keepLanes, storeLanes } from './math';
import { addTile, ZEROS } from './multiply';
import { packPanels, packRows, packTiles, TILE_ROWS } from './pack';
import { exponentials, scale } from './rows';
import { heartbeat, keepsResults, param, paramFloat, paramInt, publish } from './thread';
import { tileF32 } from './tiles';

/** Rows of q that share one block of scores: a multiple of both tile heights in use, small enough for the second-level cache. */
const QUERY_BLOCK: i32 = 30;

/** Below this many rows of q the keys are read where they are; above, packing them pays. */
const DIRECT_ROWS: i32 = 8;

/** Columns of the image that are summed from zero before they are added to the sums of those before: a short sum is more exact. */
const COLUMN_BLOCK: i32 = 256;

/** Room for the sums of one tile. */
const TILE_BYTES: usize = 192;

/** Columns filled up to whole panels. */
@inline function whole(columns: i32): i32 {
  return (columns + 7) & ~7;
}

/** Columns filled up to whole vectors. */
@inline function fours(columns: i32): i32 {
  return (columns + 3) & ~3;
}

/** Bytes of scratch that one thread needs, which may be more than there can be; asked by JavaScript. */
export function attentionScratch(rows: i32, width: i32, textColumns: i32, imageColumns: i32): f64 {
  const columns = <f64>whole(textColumns) + <f64>whole(imageColumns), wide = <f64>whole(width), own = <f64>rows * <f64>width;
  if (rows < DIRECT_ROWS) return (columns + 3 * wide + own) * 4 + 64;
  const panels = columns * wide * 2;
  return (panels + <f64>QUERY_BLOCK * (2 * columns + wide + 1) + own) * 4 + 8 * <f64>TILE_BYTES;
}

/** Job with `AttentionParam`. The rows of an image follow each other for one head, so that they find its keys in the cache. */
export function attentionJob(chunk: i32, thread: i32): void {
  const heads = paramInt(AttentionParam.heads), tokens = paramInt(AttentionParam.tokens), width = paramInt(AttentionParam.width);
  const perImage = paramInt(AttentionParam.rows) / paramInt(AttentionParam.images);
  const image = chunk / (heads * perImage), head = chunk / perImage % heads;
  const row = image * perImage + chunk % perImage;
  const block = param(AttentionParam.scratch) + <usize>thread * param(AttentionParam.threadBytes);
  const scratch = (block + (<usize>(tokens * width) << 2) + 15) & ~15;
  // Where this thread computes the rows: in the result, or in a block of its own.
  const own = keepsResults(), step = <usize>width << 2, stride = own ? step : <usize>heads * step;
  const result = param(AttentionParam.out) + (<usize>row * <usize>tokens * <usize>heads + <usize>head) * step, out = own ? block : result;
  if (tokens < DIRECT_ROWS) direct(row, head, image, scratch, out, stride);
  else blocked(row, head, image, scratch, out, stride);
  if (!own || !publish()) return;
  for (let t = 0; t < tokens; t++) memory.copy(result + <usize>t * <usize>heads * step, block + <usize>t * step, step);
}

/** Where the [columns, K] part of a [*, H, columns, K] tensor begins. */
@inline function part(base: usize, row: i32, head: i32, columns: i32): usize {
  const index = <usize>(row * paramInt(AttentionParam.heads) + head) * <usize>columns;
  return base + (index * <usize>paramInt(AttentionParam.width) << 2);
}

@inline function addMask(scores: usize, row: i32, t: i32): void {
  if (!param(AttentionParam.mask)) return;
  const S = paramInt(AttentionParam.textColumns);
  const mask = param(AttentionParam.mask) + <usize>row * param(AttentionParam.maskStride) + (<usize>t * <usize>S << 2);
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
  const step = <usize>K << 2, bytes = <usize>fours(K) << 2, end = weights + (<usize>columns << 2);
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

/** The image's columns, in blocks; `sum` has room for those of one block. */
function weightedImage(weights: usize, values: usize, columns: i32, K: i32, out: usize, sum: usize): void {
  const bytes = <usize>fours(K) << 2;
  weighted(weights, values, min(columns, COLUMN_BLOCK), K, out);
  for (let j = COLUMN_BLOCK; j < columns; j += COLUMN_BLOCK) {
    memory.fill(sum, 0, bytes);
    weighted(weights + (<usize>j << 2), values + (<usize>j * <usize>K << 2), min(columns - j, COLUMN_BLOCK), K, sum);
    for (let i: usize = 0; i < bytes; i += 16) v128.store(out + i, f32x4.add(v128.load(out + i), v128.load(sum + i)));
  }
}

/** Rows of out [T, K], `stride` bytes apart. */
function direct(row: i32, head: i32, image: i32, scratch: usize, out: usize, stride: usize): void {
  const T = paramInt(AttentionParam.tokens), S = paramInt(AttentionParam.textColumns), I = paramInt(AttentionParam.imageColumns);
  const K = paramInt(AttentionParam.width), columns = I + S, wide = <usize>whole(K) << 2;
  const query = scratch, sums = query + wide, block = sums + wide, scores = block + wide, text = scores + (<usize>I << 2);
  for (let t = 0; t < T; t++) {
    memory.fill(query, 0, 2 * wide);
    scaleInto(part(param(AttentionParam.q), row, head, T) + (<usize>t * <usize>K << 2), query, K, paramFloat(AttentionParam.scale));
    if (I) dots(query, part(param(AttentionParam.imageKey), image, head, I), I, K, scores);
    if (S) {
      dots(query, part(param(AttentionParam.key), row, head, S), S, K, text);
      addMask(text, row, t);
    }
    const factor = exponentials(scores, columns, fours(columns));
    if (I) weightedImage(scores, part(param(AttentionParam.imageValue), image, head, I), I, K, sums, block);
    if (S) weighted(text, part(param(AttentionParam.value), row, head, S), S, K, sums);
    scaleInto(sums, out + <usize>t * stride, K, factor);
  }
}

// ---- many rows: products of packed blocks

/** Keys as panels of 8 columns, every fourth k together, and values as panels of 8 of K; the image's columns, then the text's. */
function packKeysAndValues(row: i32, head: i32, image: i32, keys: usize, values: usize): void {
  const S = paramInt(AttentionParam.textColumns), K = paramInt(AttentionParam.width), I = paramInt(AttentionParam.imageColumns);
  const step = <usize>K << 2, panel = <usize>fours(K) << 5, height = whole(I) + whole(S);
  memory.fill(values, 0, <usize>height * <usize>whole(K) << 2); // filled-up columns weigh nothing, but must not be NaN
  if (K & 3) memory.fill(keys, 0, <usize>(height >> 3) * panel);
  for (let textPart = 0; textPart < 2; textPart++) {
    const columns = textPart ? S : I, first = textPart ? whole(I) : 0;
    if (!columns) continue;
    const k = textPart ? part(param(AttentionParam.key), row, head, S) : part(param(AttentionParam.imageKey), image, head, I);
    const v = textPart ? part(param(AttentionParam.value), row, head, S) : part(param(AttentionParam.imageValue), image, head, I);
    const panels = keys + <usize>(first >> 3) * panel;
    for (let j = 0; j < columns; j += 8) {
      packRows(k + <usize>j * step, step, panels + <usize>(j >> 3) * panel, min(8, columns - j), 8, K, true);
    }
    packPanels(v, step, values + (<usize>first << 5), columns, K, height);
  }
}

/** `rows` rows of q, scaled, as tiles for `scoreTiles`. */
function packQueries(q: usize, rows: i32, K: i32, tiles: usize): void {
  const step = <usize>K << 2, wide = fours(K);
  if (K & 3) memory.fill(tiles, 0, <usize>(rows * wide) << 2);
  for (let i = 0; i < rows; i += TILE_ROWS) {
    const height = min(TILE_ROWS, rows - i);
    packRows(q + <usize>i * step, step, tiles + (<usize>(i * wide) << 2), height, height, K, true);
  }
  scale(tiles, rows * wide, paramFloat(AttentionParam.scale));
}

/** scores [rows, 8 * panels], `stride` bytes from row to row. */
function scoreTiles(tiles: usize, rows: i32, K: i32, keys: usize, panels: i32, scores: usize, stride: usize, spare: usize): void {
  const quarter = (K + 3) >> 2, wide = <usize>quarter << 4;
  for (let p = 0; p < panels; p++, keys += wide << 3, scores += 32) {
    for (let i = 0; i < rows; i += TILE_ROWS) {
      const height = min(TILE_ROWS, rows - i);
      let a = tiles + <usize>i * wide, b = keys, sums = spare;
      for (let lane = 0; lane < 4; lane++, a += <usize>(quarter * height) << 2, b += <usize>quarter << 5, sums += TILE_BYTES) {
        tileF32(height, a, b, sums, 32, quarter, ZEROS, 0);
      }
      addLanes(spare, height, scores + <usize>i * stride, stride);
    }
  }
}

/** The four sums of each score as the dot products of few rows add them. */
@inline function addLanes(sums: usize, rows: i32, scores: usize, stride: usize): void {
  for (let r = 0; r < rows; r++, sums += 32, scores += stride) {
    for (let half: usize = 0; half < 32; half += 16) {
      const at = sums + half;
      const even = f32x4.add(v128.load(at), v128.load(at + 2 * TILE_BYTES));
      v128.store(scores + half, f32x4.add(even, f32x4.add(v128.load(at + TILE_BYTES), v128.load(at + 3 * TILE_BYTES))));
    }
  }
}

/** The columns that fill up the last panels of the image and of the text get no weight. */
@inline function hidePadding(scores: usize, I: i32, S: i32): void {
  for (let j = I; j < whole(I); j++) store<f32>(scores + (<usize>j << 2), -Infinity);
  for (let j = whole(I) + S; j < whole(I) + whole(S); j++) store<f32>(scores + (<usize>j << 2), -Infinity);
}

/** One tile of weights against one panel of values, [rows, 8] at `total`; the second tile of `total` is room for a block of columns. */
function weightedTile(a: usize, b: usize, rows: i32, image: i32, text: i32, total: usize): void {
  const block = total + TILE_BYTES;
  for (let j = 0; j < image; j += COLUMN_BLOCK) {
    const columns = min(COLUMN_BLOCK, image - j);
    tileF32(rows, a, b, j ? block : total, 32, columns, ZEROS, 0);
    if (j) addTile(block, total, 32, rows);
    a += <usize>(columns * rows) << 2;
    b += <usize>columns << 5;
  }
  if (text) tileF32(rows, a, b, total, 32, text, image ? total : ZEROS, image ? 32 : 0);
}

/** out [rows, K] = the weights · the values, each row times its factor. */
function weightedTiles(
  tiles: usize, rows: i32, K: i32, image: i32, text: i32, values: usize, factors: usize, out: usize, stride: usize, spare: usize,
): void {
  const columns = image + text;
  for (let k = 0; k < K; k += 8, values += <usize>columns << 5, out += 32) {
    for (let i = 0; i < rows; i += TILE_ROWS) {
      const height = min(TILE_ROWS, rows - i);
      weightedTile(tiles + (<usize>(i * columns) << 2), values, height, image, text, spare);
      for (let r = 0; r < height; r++) {
        scaleInto(spare + (<usize>r << 5), out + <usize>(i + r) * stride, min(8, K - k), load<f32>(factors + (<usize>(i + r) << 2)));
      }
    }
  }
}

function blocked(row: i32, head: i32, image: i32, scratch: usize, out: usize, stride: usize): void {
  const T = paramInt(AttentionParam.tokens), S = paramInt(AttentionParam.textColumns), I = paramInt(AttentionParam.imageColumns);
  const K = paramInt(AttentionParam.width), columns = whole(I) + whole(S), wide = whole(K), scoreStep = <usize>columns << 2;
  const keys = scratch, values = keys + (<usize>columns * <usize>wide << 2), scores = values + (<usize>columns * <usize>wide << 2);
  const tiles = scores + <usize>QUERY_BLOCK * scoreStep, factors = tiles + <usize>QUERY_BLOCK * max(scoreStep, <usize>wide << 2);
  const spare = factors + (<usize>QUERY_BLOCK << 2) + 8;
  packKeysAndValues(row, head, image, keys, values);
  heartbeat();
  const q = part(param(AttentionParam.q), row, head, T);
  for (let t0 = 0; t0 < T; t0 += QUERY_BLOCK) {
    const rows = min(QUERY_BLOCK, T - t0);
    packQueries(q + (<usize>t0 * <usize>K << 2), rows, K, tiles);
    scoreTiles(tiles, rows, K, keys, columns >> 3, scores, scoreStep, spare);
    heartbeat();
    for (let i = 0; i < rows; i++) {
      const at = scores + <usize>i * scoreStep;
      hidePadding(at, I, S);
      if (S) addMask(at + (<usize>whole(I) << 2), row, t0 + i);
      store<f32>(factors + (<usize>i << 2), exponentials(at, columns, columns));
    }
    packTiles(scores, scoreStep, tiles, 0, rows, columns, TILE_ROWS);
    heartbeat();
    weightedTiles(tiles, rows, K, whole(I), whole(S), values, factors, out + <usize>t0 * stride, stride, spare);
    heartbeat();
  }
}
