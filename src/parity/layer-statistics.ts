import { z } from 'zod/mini';
import type { HostTensor } from './compare.js';
import { compareNumbers, largestError } from './compare.js';
import type { ParityRow } from './parity-row.js';
import { failed } from './parity-row.js';

const statistics = z.object({
  mean: z.number(),
  std: z.number(),
  l2: z.number(),
  min: z.number(),
  max: z.number(),
  first8: z.array(z.number()),
  last8: z.array(z.number()),
});
type Statistics = z.infer<typeof statistics>;

/** What a case says of a stage that is too large to be stored. */
export const layerFacts = z.object({
  shape: z.array(z.int()),
  f32: statistics,
  f64: statistics,
  suggested_atol: z.number(),
});
export type LayerFacts = z.infer<typeof layerFacts>;

/**
 * Compares a stage with what is known of it: its first and last values, extremes, mean, standard deviation and root mean square. If
 * no element is off by more than the tolerance, none of these is, so one tolerance judges them all; errors on both sides are over
 * these few numbers, not over the whole stage.
 */
export function compareLayer(caseName: string, layer: string, ours: HostTensor, facts: LayerFacts): ParityRow {
  if (ours.shape.join() !== facts.shape.join()) {
    return failed(caseName, layer, `ours has shape [${ours.shape}], the reference [${facts.shape}]`);
  }
  const size = ours.values.length;
  const [truth, reference, found] = [facts.f64, facts.f32, statisticsOf(ours.values)].map((s) => numbersOf(s, size));
  const host = (values: readonly number[]): HostTensor => ({ shape: [values.length], values });
  return compareNumbers(caseName, layer, host(found!), {
    expected: host(truth!),
    referenceError: largestError(reference!, truth!).error,
    isTruth: true,
    tolerance: facts.suggested_atol,
  });
}

const numbersOf = ({ first8, last8, min, max, mean, std, l2 }: Statistics, size: number): number[] => [
  ...first8,
  ...last8,
  min,
  max,
  mean,
  std,
  l2 / Math.sqrt(size),
];

function statisticsOf(values: ArrayLike<number>): Statistics {
  const size = values.length;
  let [sum, squares, min, max] = [0, 0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let i = 0; i < size; i++) {
    const x = values[i]!;
    sum += x;
    squares += x * x;
    if (x < min) min = x;
    if (x > max) max = x;
  }
  const mean = sum / size;
  let spread = 0;
  for (let i = 0; i < size; i++) spread += (values[i]! - mean) ** 2;
  const at = (from: number) => Array.from({ length: Math.min(8, size) }, (_, i) => values[from + i]!);
  const l2 = Math.sqrt(squares);
  return { mean, std: Math.sqrt(spread / size), l2, min, max, first8: at(0), last8: at(Math.max(0, size - 8)) };
}
