import { util } from '@tensorflow/tfjs-core';
import { Job, LogSumParam, TopTokensParam } from '../abi.js';
import { parametersOf } from '../thread-pool.js';
import { fault, input, type Kernel, type KernelTable, requireFloats, sizeOf } from './kernel.js';

const NAME = 'GitTopTokens';

/** A float64 as three float32 whose sum it is, exactly. */
function parts(value: number): [number, number, number] {
  const high = Math.fround(value);
  const middle = Math.fround(value - high);
  return [high, middle, value - high - middle];
}

/**
 * logits float32 [..., V] -> of each of the R rows the `count` best words, int32 [R, count], best first, of equals the lower one; their logits and then
 * those of the words `asked`, float32 [R, count + asked]; and log(sum(exp(logits))) in float64, as three float32 that add up to it, [R, 3]. A word is
 * ranked by its logit, or, with `by: 'logProb'`, by the log-probability rounded to float32. `count` is at most V. Of a row that has a number which is
 * not finite, the first of them is the best word, and the normalizer is NaN.
 * @throws BackendError (`unsupported-dtype`, `index-out-of-range`).
 */
const topTokens: Kernel = (backend, inputs, attributes) => {
  const logits = input(inputs, 'logits');
  const { count, asked, by } = attributes as { count: number; asked: readonly number[]; by: 'logit' | 'logProb' };
  requireFloats(NAME, logits);
  const columns = logits.shape.at(-1) ?? 0;
  const rows = sizeOf(logits.shape) / Math.max(columns, 1);
  util.assert(
    Number.isInteger(count) && count >= 1 && count <= columns && (by === 'logit' || by === 'logProb'),
    () => `${NAME}: ${count} of [${logits.shape}] by ${by}`,
  );
  const odd = asked.find((id) => !(Number.isInteger(id) && id >= 0 && id < columns));
  if (odd !== undefined) throw fault(NAME, 'index-out-of-range', `${odd} is no word of ${columns}`);
  const width = count + asked.length;
  const ids = backend.output([rows, count], 'int32');
  const best = backend.output([rows, width], 'float32');
  const normalizers = backend.output([rows, 3], 'float32');
  const [x, sums, logs] = [backend.addressOf(logits), backend.scratch(rows * 16), backend.scratch(rows * 8)];
  backend.pool.run(Job.logSum, rows, parametersOf(LogSumParam, { x, y: sums, columns }));
  const { buffer } = backend.heap.f32;
  const rowSums = new Float64Array(buffer, sums, 2 * rows);
  const ofRow = new Float64Array(buffer, logs, rows).map((_, r) => rowSums[2 * r]! + Math.log(rowSums[2 * r + 1]!));
  new Float64Array(buffer, logs, rows).set(ofRow);
  const parameters = parametersOf(TopTokensParam, {
    ...{ x, columns, count, ids: ids.address, logits: best.address, logitStride: width * 4 },
    normalizers: by === 'logProb' ? logs : 0,
  });
  backend.pool.run(Job.topTokens, rows, parameters);
  const [words, found, all, values] = backend.viewsOf(ids, best, normalizers, logits);
  for (let r = 0; r < rows; r++) {
    for (const [i, id] of asked.entries()) found[r * width + count + i] = values[r * columns + id]!;
    all.set(parts(ofRow[r]!), 3 * r);
    if (!Number.isNaN(ofRow[r])) continue;
    const row = values.subarray(r * columns, (r + 1) * columns);
    words[r * count] = row.findIndex((logit) => !Number.isFinite(logit));
    found[r * width] = row[words[r * count]!]!;
  }
  return [ids, best, normalizers];
};

export const topTokensKernels: KernelTable = { [NAME]: topTokens };
