// The jobs of the linear layers: packing the rows, and the product with bias and activation.

import { Format, LinearParam, PackTilesParam, STREAM_ROWS } from './abi';
import { map } from './elementwise';
import { multiplyInt8 } from './int8';
import { multiplyFast } from './int8-fast';
import { multiply, streamRow } from './multiply';
import { packTiles, packTilesTransposed } from './pack';
import { keepsResults, param, paramInt, publish } from './thread';

/** Job with `PackTilesParam`. */
export function packTilesJob(chunk: i32): void {
  const from = chunk * paramInt(PackTilesParam.chunkRows), to = min(from + paramInt(PackTilesParam.chunkRows), paramInt(PackTilesParam.rows));
  if (paramInt(PackTilesParam.transposed)) packTilesTransposed(param(PackTilesParam.a), param(PackTilesParam.aStride), param(PackTilesParam.tiles), from, to, paramInt(PackTilesParam.k), paramInt(PackTilesParam.tileRows));
  else packTiles(param(PackTilesParam.a), param(PackTilesParam.aStride), param(PackTilesParam.tiles), from, to, paramInt(PackTilesParam.k), paramInt(PackTilesParam.tileRows));
}

/** Job with `LinearParam`. */
export function linearJob(chunk: i32, thread: i32): void {
  const m = paramInt(LinearParam.rows), k = paramInt(LinearParam.k), w = param(LinearParam.weights), format = paramInt(LinearParam.format), n = paramInt(LinearParam.columns), ldc = param(LinearParam.cStride), bias = param(LinearParam.bias);
  const perChunk = paramInt(LinearParam.chunkPanels), block = chunk / paramInt(LinearParam.blockChunks);
  const row0 = block * paramInt(LinearParam.blockRows), rows = min(paramInt(LinearParam.blockRows), m - row0);
  const p0 = (chunk % paramInt(LinearParam.blockChunks)) * perChunk, p1 = min(p0 + perChunk, (n + 7) >> 3);
  const spare = param(LinearParam.scratch) + <usize>thread * param(LinearParam.threadBytes), few = m <= STREAM_ROWS;
  // Where this thread computes: in the result, or in a block of its own at the end of its scratch; there with many rows, since those of a wide
  // result are whole pages apart, and push each other out of the cache.
  const result = param(LinearParam.c) + <usize>row0 * ldc, own = !few || keepsResults(), step = own ? <usize>perChunk << 5 : ldc;
  const c = own ? spare + param(LinearParam.threadBytes) - <usize>paramInt(LinearParam.blockRows) * step - (<usize>p0 << 5) : result;
  const tiles = param(LinearParam.tiles) + (<usize>row0 * <usize>k << 2);
  if (format == Format.int8) multiplyInt8(row0, rows, few, p0, p1, c, step, spare);
  else if (format == Format.int8Fast) multiplyFast(row0, rows, few, p0, p1, c, step, spare);
  else if (m > 1 || paramInt(LinearParam.panelsAtOnce) == 1) multiply(tiles, rows, paramInt(LinearParam.tileRows), k, w, format, few, n, p0, p1, c, step, bias, spare);
  else streamRow(tiles, k, w, format, n, p0, p1, c, bias, spare);
  activate(paramInt(LinearParam.activation), c, step, rows, p0, p1, n);
  if (own && publish()) copyPanels(c, step, result, ldc, rows, p0, p1, n);
}

/** Panels p0 to p1 from a thread's own block into the result. */
function copyPanels(c: usize, step: usize, result: usize, ldc: usize, rows: i32, p0: i32, p1: i32, n: i32): void {
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
