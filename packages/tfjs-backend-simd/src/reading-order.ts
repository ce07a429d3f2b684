import type { WeightFormat } from './tensor-memory.js';

/** Panels of weights that a product of few rows reads side by side: one after the other is what some processors foresee, four what others need. */
export type PanelsAtOnce = 1 | 4;

/** Products that are timed with each: those of two steps of a decoder. */
const SAMPLES = 37;
/** Fewer bytes of weights are over before a clock has seen them. */
const LEAST_BYTES = 2 ** 18;

/**
 * In which order one kind of product reads its weights: in turns until each has been timed often enough, then always the faster one. Sums do not
 * depend on it, only time does.
 */
export class ReadingOrder {
  private readonly times: Readonly<Record<PanelsAtOnce, number[]>> = { 1: [], 4: [] };
  private chosen: PanelsAtOnce | undefined;
  private turn: PanelsAtOnce = 4;

  /** What the next product takes. */
  get panels(): PanelsAtOnce {
    return this.chosen ?? this.turn;
  }

  get decided(): boolean {
    return this.chosen !== undefined;
  }

  /** Reports what it took, in milliseconds a byte. */
  took(time: number): void {
    if (this.chosen !== undefined) return;
    this.times[this.turn].push(time);
    this.turn = this.turn === 4 ? 1 : 4;
    if (this.times[1].length === SAMPLES && this.times[4].length === SAMPLES) this.use(this.faster());
  }

  /** Ends the trial. */
  use(panels: PanelsAtOnce): void {
    this.chosen = panels;
  }

  private faster(): PanelsAtOnce {
    const middle = (times: number[]) => times.sort((a, b) => a - b)[SAMPLES >> 1]!;
    return middle(this.times[1]) < middle(this.times[4]) ? 1 : 4;
  }
}

/** One for the single rows of each format, and one for several: of the process, as the machine is. */
const orders = new Map<string, ReadingOrder>();

export function orderOf(format: WeightFormat, rows: number): ReadingOrder {
  const kind = `${format} ${rows > 1}`;
  const known = orders.get(kind);
  if (known !== undefined) return known;
  const made = new ReadingOrder();
  orders.set(kind, made);
  return made;
}

/** How the next product of `rows` rows and so many bytes of weights reads them, and whom to tell what it took. */
export function readingOrder(format: WeightFormat, rows: number, bytes: number) {
  const order = orderOf(format, rows);
  const timed = !order.decided && bytes >= LEAST_BYTES;
  return { panels: order.panels, took: (time: number) => (timed ? order.took(time / bytes) : undefined) };
}
