// The jobs of the linear layers: packing the rows, and the product with bias and activation.

import { map } from './elementwise';
import { commit, worksApart } from './helper';
import { multiplyInt8 } from './int8';
import { param, paramInt } from './memory-map';
import { multiply } from './multiply';
import { INT8, packTiles, packTilesTransposed } from './pack';
import { streamRow } from './stream';

/** Up to this many rows the weights are read once and decoded in registers; above, they are widened first. */
const STREAM_ROWS: i32 = 8;

/** Job: parameters a, lda, target, m, k, transposed, rows in a chunk, and in a tile. Packs A into tiles. */
export function packTilesJob(chunk: i32): void {
  const from = chunk * paramInt(6), to = min(from + paramInt(6), paramInt(3));
  if (paramInt(5)) packTilesTransposed(param(0), param(1), param(2), from, to, paramInt(4), paramInt(7));
  else packTiles(param(0), param(1), param(2), from, to, paramInt(4), paramInt(7));
}

/**
 * Job: parameters tiles, m, k, weights, format, scales, n, c, ldc, bias (or 0), activation (-1 or a number of `map`), scratch,
 * bytes of scratch per thread, panels in a chunk, rows in a block (whole tiles), chunks in a block, scales of the rows (for int8,
 * whose tiles come from `roundTilesJob`), rows in a tile.
 */
export function linearJob(chunk: i32, thread: i32): void {
  const m = paramInt(1), k = paramInt(2), w = param(3), format = paramInt(4), n = paramInt(6), ldc = param(8), bias = param(9);
  const perChunk = paramInt(13), block = chunk / paramInt(15);
  const row0 = block * paramInt(14), rows = min(paramInt(14), m - row0);
  const p0 = (chunk % paramInt(15)) * perChunk, p1 = min(p0 + perChunk, (n + 7) >> 3);
  const spare = param(11) + <usize>thread * param(12), few = m <= STREAM_ROWS;
  // Where this thread computes: in the result, or in a block of its own at the end of its scratch.
  const result = param(7) + <usize>row0 * ldc, apart = worksApart(), step = apart ? <usize>perChunk << 5 : ldc;
  const c = apart ? spare + param(12) - <usize>paramInt(14) * step - (<usize>p0 << 5) : result;
  const tiles = param(0) + (<usize>row0 * <usize>k << 2);
  if (format == INT8) multiplyInt8(row0, rows, few, p0, p1, c, step, spare);
  else if (m > 1) multiply(tiles, rows, paramInt(17), k, w, format, few, n, p0, p1, c, step, bias, spare);
  else streamRow(tiles, k, w, format, n, p0, p1, c, bias, spare);
  activate(paramInt(10), c, step, rows, p0, p1, n);
  if (apart && commit()) putInPlace(c, step, result, ldc, rows, p0, p1, n);
}

/** Panels p0 to p1 from a thread's own block into the result. */
function putInPlace(c: usize, step: usize, result: usize, ldc: usize, rows: i32, p0: i32, p1: i32, n: i32): void {
  const offset = <usize>p0 << 5, bytes = (<usize>min(p1 << 3, n) << 2) - offset;
  for (let i = 0; i < rows; i++, c += step, result += ldc) memory.copy(result + offset, c + offset, bytes);
}

/** The activation on the columns of panels p0 to p1, while they are in the cache. */
@inline function activate(activation: i32, c: usize, ldc: usize, rows: i32, p0: i32, p1: i32, n: i32): void {
  if (activation < 0) return;
  const width = min(p1 << 3, n) - (p0 << 3);
  let at = c + (<usize>p0 << 5);
  for (let i = 0; i < rows; i++, at += ldc) map(activation, at, at, width);
}
