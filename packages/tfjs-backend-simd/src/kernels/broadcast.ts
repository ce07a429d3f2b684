import { stridesOf } from './table.js';

/** Rows of `n` elements in which each side runs on (step 1) or stands still (step 0); strides and offsets in elements. */
export interface Plan {
  readonly n: number;
  readonly rows: number;
  readonly aStep: number;
  readonly bStep: number;
  readonly aRow: number;
  readonly bRow: number;
  /** Where each outer index begins, for a and for b; the result lies behind each other. */
  readonly starts: readonly (readonly [number, number])[];
}

/** Strides of an operand along the result's dimensions: 0 where it is repeated. */
function broadcastStrides(shape: readonly number[], rank: number): number[] {
  const strides = stridesOf(shape).map((stride, d) => (shape[d] === 1 ? 0 : stride));
  return [...new Array<number>(rank - shape.length).fill(0), ...strides];
}

/** How two shapes run together: dimensions that do so alike are joined, the last two become rows. */
export function planBroadcast(aShape: readonly number[], bShape: readonly number[], shape: readonly number[]): Plan {
  const [aStrides, bStrides] = [broadcastStrides(aShape, shape.length), broadcastStrides(bShape, shape.length)];
  const dims: { size: number; a: number; b: number }[] = [];
  shape.forEach((size, d) => {
    if (size === 1) return;
    const [a, b] = [aStrides[d]!, bStrides[d]!];
    const outer = dims.at(-1);
    if (outer !== undefined && outer.a === a * size && outer.b === b * size) {
      dims[dims.length - 1] = { size: outer.size * size, a, b };
    } else dims.push({ size, a, b });
  });
  const inner = dims.pop() ?? { size: 1, a: 1, b: 1 };
  const row = dims.pop() ?? { size: 1, a: 0, b: 0 };
  let starts: [number, number][] = [[0, 0]];
  for (const { size, a, b } of dims) {
    starts = starts.flatMap(([x, y]) =>
      Array.from({ length: size }, (_, i): [number, number] => [x + i * a, y + i * b]),
    );
  }
  return { n: inner.size, rows: row.size, aStep: inner.a, bStep: inner.b, aRow: row.a, bRow: row.b, starts };
}
