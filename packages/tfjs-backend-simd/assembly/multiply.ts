// The matrix product of float32 rows, packed in tiles, and weights in panels of any format but int8.

import { beat } from './helper';
import { BF16, F32, widenPanel16 } from './pack';
import { biasOf, copyColumns, touch, ZEROS } from './target';
import { tileBf16, tileF16, tileF32 } from './tiles';

/** Steps of k that are summed in registers before they are added to C: panel and tile stay in the first-level cache. */
const K_BLOCK: i32 = 256;

/** One tile against a panel in its format, see tiles.mjs. */
@inline export function tile(
  format: i32, rows: i32, a: usize, b: usize, c: usize, ldc: usize, k: i32, base: usize, step: usize,
): void {
  if (format == F32) tileF32(rows, a, b, c, ldc, k, base, step);
  else if (format == BF16) tileBf16(rows, a, b, c, ldc, k, base, step);
  else tileF16(rows, a, b, c, ldc, k, base, step);
}

/** A tile's sum over one block of k, before it is added to C. */
@inline function addTile(sums: usize, c: usize, ldc: usize, rows: i32): void {
  for (let i = 0; i < rows; i++, sums += 32, c += ldc) {
    v128.store(c, f32x4.add(v128.load(c), v128.load(sums)));
    v128.store(c, f32x4.add(v128.load(c, 16), v128.load(sums, 16)), 16);
  }
}

/**
 * C[m, 8] (+)= tiles · one panel (rows k0 to k0 + kb of both). Blocks of k are summed from zero and then added: the error of a
 * sum grows with its length, so short ones keep it small. `sums` has room for one tile.
 */
function multiplyPanel(
  format: i32, tiles: usize, m: i32, height: i32, k: i32, k0: i32, kb: i32, b: usize, c: usize, ldc: usize, bias: usize,
  sums: usize,
): void {
  for (let i = 0; i < m; i += height, c += ldc * height) {
    const rows = min(height, m - i), a = tiles + (<usize>(i * k + k0 * rows) << 2);
    if (k0 == 0) tile(format, rows, a, b, c, ldc, kb, bias, 0);
    else {
      tile(format, rows, a, b, sums, 32, kb, ZEROS, 0);
      addTile(sums, c, ldc, rows);
    }
  }
}

/** Panel p and the block of k from k0 on; parameters as `multiply`. */
function multiplyBlock(
  tiles: usize, m: i32, height: i32, k: i32, w: usize, format: i32, few: bool, n: i32, p: i32, k0: i32, c: usize, ldc: usize,
  bias: usize, spare: usize,
): void {
  const kb = min(K_BLOCK, k - k0), columns = min(8, n - (p << 3)), wide = spare + (<usize>m << 5), sums = wide + K_BLOCK * 32;
  const step: usize = format == F32 ? 32 : 16, panel = w + <usize>(p * k + k0) * step;
  const at = c + (<usize>p << 5), bp = biasOf(bias, p), widening = format != F32 && !few;
  if (widening) widenPanel16(format, panel, wide, kb);
  const b = widening ? wide : panel, kind = widening ? F32 : format;
  if (columns == 8) return multiplyPanel(kind, tiles, m, height, k, k0, kb, b, at, ldc, bp, sums);
  multiplyPanel(kind, tiles, m, height, k, k0, kb, b, spare, 32, bp, sums);
  if (k0 + kb == k) copyColumns(spare, at, ldc, m, columns);
}

/** Panels p to p1, at most four of them, and the block of k from k0 on; parameters as `multiply`. */
@inline function multiplyFour(
  tiles: usize, m: i32, height: i32, k: i32, w: usize, format: i32, few: bool, n: i32, p: i32, p1: i32, k0: i32, c: usize,
  ldc: usize, bias: usize, spare: usize,
): void {
  beat();
  const step: usize = format == F32 ? 32 : 16, panel = <usize>k * step, count = min(4, p1 - p);
  touch(w + <usize>p * panel + <usize>k0 * step, panel, count, <usize>min(K_BLOCK, k - k0) * step, spare + (<usize>m << 5));
  for (let i = 0; i < count; i++) multiplyBlock(tiles, m, height, k, w, format, few, n, p + i, k0, c, ldc, bias, spare);
}

/**
 * C[m, n] = A · B + bias for panels p0 to p1, float32 A in tiles of `height` rows. `spare` holds m * 32 bytes for a last panel
 * that C has no room for, K_BLOCK * 32 for a widened panel, and a tile of sums. `few` rows read each panel from front to back, as
 * it comes from memory, and decode it in registers (f16 then needs rows raised by its factor); many take all panels for one block
 * of k, so that this block of A stays in the cache, and widen the panels first.
 */
export function multiply(
  tiles: usize, m: i32, height: i32, k: i32, w: usize, format: i32, few: bool, n: i32, p0: i32, p1: i32, c: usize, ldc: usize,
  bias: usize, spare: usize,
): void {
  if (few) {
    for (let p = p0; p < p1; p += 4) {
      for (let k0 = 0; k0 < k; k0 += K_BLOCK) multiplyFour(tiles, m, height, k, w, format, few, n, p, p1, k0, c, ldc, bias, spare);
    }
  } else {
    for (let k0 = 0; k0 < k; k0 += K_BLOCK) {
      for (let p = p0; p < p1; p += 4) multiplyFour(tiles, m, height, k, w, format, few, n, p, p1, k0, c, ldc, bias, spare);
    }
  }
}
