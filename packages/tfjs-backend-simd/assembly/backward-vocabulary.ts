// The two ends of a language model: the loss of rows of logits with its slopes, and the slopes of an embedding table.

import { CrossEntropyParam, EmbeddingGradientParam } from './abi';
import { storeLanes } from './math';
import { exponentialsOf, largestOf, sumRow } from './rows';
import { param, paramFloat, paramInt } from './thread';

/**
 * Job with `CrossEntropyParam`. A chunk is a row: its loss, the sum of q * (log q - log p) over all words with q = `onLabel` on the label and
 * `elsewhere` on the others, and the slopes of the logits, (p - q) * factor.
 */
export function crossEntropyJob(chunk: i32): void {
  const n = paramInt(CrossEntropyParam.columns), offset = <usize>chunk * <usize>n << 2;
  const x = param(CrossEntropyParam.x) + offset, y = param(CrossEntropyParam.y) + offset;
  const label = <usize>load<i32>(param(CrossEntropyParam.labels) + (<usize>chunk << 2)) << 2;
  const onLabel = paramFloat(CrossEntropyParam.onLabel), elsewhere = paramFloat(CrossEntropyParam.elsewhere), factor = paramFloat(CrossEntropyParam.factor);
  const most = largestOf(x, n), ofLabel = <f64>load<f32>(x + label) - <f64>most;
  // Before y, which may be x.
  const all = elsewhere > 0 ? sumRow(x, n) - <f64>most * <f64>n : 0;
  const share = exponentialsOf(x, y, n, most), normalizer = -Math.log(<f64>share);
  const cross = <f64>(onLabel - elsewhere) * (ofLabel - normalizer) + <f64>elsewhere * (all - <f64>n * normalizer);
  store<f32>(param(CrossEntropyParam.losses) + (<usize>chunk << 2), <f32>((<f64>paramFloat(CrossEntropyParam.entropy) - cross) * <f64>factor));
  const p = load<f32>(y + label) * share, shares = f32x4.splat(share), others = f32x4.splat(elsewhere), factors = f32x4.splat(factor);
  for (let i = 0, at = y; i < n; i += 4, at += 16) {
    const v = f32x4.mul(f32x4.sub(f32x4.mul(v128.load(at), shares), others), factors);
    if (n - i >= 4) v128.store(at, v);
    else storeLanes(at, v, n - i);
  }
  store<f32>(y + label, (p - onLabel) * factor);
}

/** Job with `EmbeddingGradientParam`: sum + each row of dy, in order, at the row of its id. A chunk is some rows of the table. */
export function embeddingGradientJob(chunk: i32): void {
  const perChunk = paramInt(EmbeddingGradientParam.chunkRows), from = chunk * perChunk, to = min(from + perChunk, paramInt(EmbeddingGradientParam.rows));
  const bytes = <usize>paramInt(EmbeddingGradientParam.columns) << 2, sum = param(EmbeddingGradientParam.sum);
  const y = param(EmbeddingGradientParam.y), ids = param(EmbeddingGradientParam.ids), padding = paramInt(EmbeddingGradientParam.padding);
  const start = y + <usize>from * bytes, size = <usize>(to - from) * bytes;
  if (sum) memory.copy(start, sum + <usize>from * bytes, size);
  else memory.fill(start, 0, size);
  for (let i = 0, n = paramInt(EmbeddingGradientParam.count); i < n; i++) {
    const id = load<i32>(ids + (<usize>i << 2));
    if (id < from || id >= to || id == padding) continue;
    const row = y + <usize>id * bytes, dy = param(EmbeddingGradientParam.dy) + <usize>i * bytes;
    let j: usize = 0;
    for (; j + 16 <= bytes; j += 16) v128.store(row + j, f32x4.add(v128.load(row + j), v128.load(dy + j)));
    for (; j < bytes; j += 4) store<f32>(row + j, load<f32>(row + j) + load<f32>(dy + j));
  }
}
