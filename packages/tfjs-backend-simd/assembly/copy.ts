// One kernel moves data for transpose, slice, strided slice, pad, tile, reverse, concat, pack and their like.

import { CopyParam } from './abi';
import { param, paramInt } from './thread';

@inline function copyRun<T>(source: usize, target: usize, n: i32, sourceStep: usize, targetStep: usize): void {
  for (let i = 0; i < n; i++, source += sourceStep, target += targetStep) store<T>(target, load<T>(source));
}

/** 4-byte elements whose source runs down a column: four columns at a time, transposed in registers. */
@inline function transposeTile(s: usize, sRow: usize, t: usize, tRow: usize): void {
  const a = v128.load(s), b = v128.load(s + sRow), c = v128.load(s + 2 * sRow), d = v128.load(s + 3 * sRow);
  const ab = v128.shuffle<f32>(a, b, 0, 4, 1, 5), cd = v128.shuffle<f32>(c, d, 0, 4, 1, 5);
  const ef = v128.shuffle<f32>(a, b, 2, 6, 3, 7), gh = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
  v128.store(t, v128.shuffle<f32>(ab, cd, 0, 1, 4, 5));
  v128.store(t + tRow, v128.shuffle<f32>(ab, cd, 2, 3, 6, 7));
  v128.store(t + 2 * tRow, v128.shuffle<f32>(ef, gh, 0, 1, 4, 5));
  v128.store(t + 3 * tRow, v128.shuffle<f32>(ef, gh, 2, 3, 6, 7));
}

/** [rows, columns] 4-byte elements; the source is contiguous down a target row's neighbors (a 2-D transposition). */
function transposePlane(s: usize, t: usize, rows: i32, columns: i32, sColumn: usize, tRow: usize): void {
  let i = 0;
  for (; i + 4 <= rows; i += 4) {
    const si = s + (<usize>i << 2), ti = t + <usize>i * tRow;
    let j = 0;
    for (; j + 4 <= columns; j += 4) transposeTile(si + <usize>j * sColumn, sColumn, ti + (<usize>j << 2), tRow);
    for (; j < columns; j++) {
      for (let r = 0; r < 4; r++) {
        store<f32>(ti + <usize>r * tRow + (<usize>j << 2), load<f32>(si + <usize>j * sColumn + (<usize>r << 2)));
      }
    }
  }
  for (; i < rows; i++) copyRun<f32>(s + (<usize>i << 2), t + <usize>i * tRow, columns, sColumn, 4);
}

/** The last two dimensions; `d` is the last one. */
function copyPlane(s: usize, t: usize, d: i32, size: i32): void {
  const n = paramInt(CopyParam.dims + d), sStep = param(CopyParam.sourceStrides + d), tStep = param(CopyParam.targetStrides + d);
  const rows = d > 0 ? paramInt(CopyParam.dims + d - 1) : 1;
  const sRow = d > 0 ? param(CopyParam.sourceStrides + d - 1) : 0, tRow = d > 0 ? param(CopyParam.targetStrides + d - 1) : 0;
  if (size == 4 && sRow == 4 && tStep == 4 && sStep != 4) return transposePlane(s, t, rows, n, sStep, tRow);
  for (let i = 0; i < rows; i++, s += sRow, t += tRow) {
    if (sStep == <usize>size && tStep == <usize>size) memory.copy(t, s, <usize>(n * size));
    else if (size == 4) copyRun<u32>(s, t, n, sStep, tStep);
    else copyRun<u8>(s, t, n, sStep, tStep);
  }
}

/** Job with `CopyParam`; strides may be negative or zero. */
export function copyJob(chunk: i32): void {
  const rank = paramInt(CopyParam.rank), size = paramInt(CopyParam.elementBytes), last = rank - 1;
  let s = param(CopyParam.source), t = param(CopyParam.target);
  if (rank <= 2) return copyPlane(s, t, last, size);
  s += <usize>chunk * param(CopyParam.sourceStrides);
  t += <usize>chunk * param(CopyParam.targetStrides);
  copyInner(s, t, 1, last, size);
}

function copyInner(s: usize, t: usize, d: i32, last: i32, size: i32): void {
  if (d + 1 == last) return copyPlane(s, t, last, size);
  const n = paramInt(CopyParam.dims + d), sStep = param(CopyParam.sourceStrides + d), tStep = param(CopyParam.targetStrides + d);
  for (let i = 0; i < n; i++, s += sStep, t += tStep) copyInner(s, t, d + 1, last, size);
}

/** `rows` times: `pastBytes` of the past, then `freshBytes` of what is fresh, to the target. */
export function appendColumns(past: usize, fresh: usize, target: usize, rows: i32, pastBytes: usize, freshBytes: usize): void {
  for (let r = 0; r < rows; r++, past += pastBytes, fresh += freshBytes, target += pastBytes + freshBytes) {
    memory.copy(target, past, pastBytes);
    memory.copy(target + pastBytes, fresh, freshBytes);
  }
}
