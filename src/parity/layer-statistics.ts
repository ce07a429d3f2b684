import { z } from 'zod/mini';
import type { HostTensor } from './compare.js';
import { compareNumbers } from './compare.js';
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
  f64: statistics,
  /** Largest over the whole stage. */
  f32_vs_f64_max_abs: z.number(),
  suggested_atol: z.number(),
});
export type LayerFacts = z.infer<typeof layerFacts>;

/**
 * Compares a stage with what is known of it: its first and last values, extremes, mean, standard deviation and root mean square. If
 * no element is off by more than the tolerance, none of these is, so one tolerance judges them all. The error is over these few
 * numbers, the reference's own over the whole stage, so the ratio is less than that of whole stages would be.
 */
export function compareLayer(caseName: string, layer: string, ours: HostTensor, facts: LayerFacts): ParityRow {
  if (ours.shape.join() !== facts.shape.join()) {
    return failed(caseName, layer, `ours has shape [${ours.shape}], the reference [${facts.shape}]`);
  }
  const size = ours.values.length;
  const [truth, found] = [facts.f64, statisticsOf(ours.values)].map((s) => numbersOf(s, size));
  const host = (values: readonly number[]): HostTensor => ({ shape: [values.length], values });
  return compareNumbers(caseName, layer, host(found!), {
    expected: host(truth!),
    referenceError: facts.f32_vs_f64_max_abs,
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
