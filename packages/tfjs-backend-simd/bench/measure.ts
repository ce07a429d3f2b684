/** Timing on a machine that others use too. */

/** What one measured function took, in milliseconds. */
export interface Timing {
  /** Median of the samples that nobody disturbed; of all, where there are fewer than three of them. */
  readonly median: number;
  readonly best: number;
  /** Undisturbed samples, of all. */
  readonly quiet: number;
  readonly samples: number;
}

const middle = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1]!;

/** A sample is quiet if the process got the processor for as long as the clock ran, on all the threads that it uses. */
const QUIET = 0.96;

/** A sample is at least so long: the clock of the processor time is coarse. */
const SAMPLE = 2;

/**
 * Runs `body` for about `seconds`, at least 7 samples, after a warm-up. A sample is the processor time that it took, which waiting
 * for others does not lengthen; or the time by the clock, to compare numbers of threads.
 */
export function measure(body: () => void, { seconds = 0.6, threads = 1, clock: byClock = false } = {}): Timing {
  for (let i = 0; i < 3; i++) body();
  const first = performance.now();
  body();
  const turns = Math.max(1, Math.ceil(SAMPLE / (performance.now() - first)));
  const [all, quiet]: [number[], number[]] = [[], []];
  const end = performance.now() + seconds * 1000;
  while (all.length < 7 || performance.now() < end) {
    const cpu = process.cpuUsage();
    const start = performance.now();
    for (let i = 0; i < turns; i++) body();
    const clock = performance.now() - start;
    const { user, system } = process.cpuUsage(cpu);
    const busy = (user + system) / 1000;
    const took = (byClock ? clock : Math.min(clock, busy)) / turns;
    all.push(took);
    if (busy >= clock * threads * QUIET) quiet.push(took);
  }
  const kept = quiet.length >= 3 ? quiet : all;
  return { median: middle([...kept]), best: Math.min(...all), quiet: quiet.length, samples: all.length };
}

/** Measures several functions in turns, so that a change of the machine's mood meets all of them alike. */
export function measureTogether(bodies: readonly (() => void)[], seconds = 0.6): Timing[] {
  const rounds = bodies.map(() => [] as Timing[]);
  for (let round = 0; round < 3; round++) {
    bodies.forEach((body, i) => {
      rounds[i]!.push(measure(body, { seconds: seconds / 3 }));
    });
  }
  return rounds.map((timings) => ({
    median: middle(timings.map(({ median }) => median)),
    best: Math.min(...timings.map(({ best }) => best)),
    quiet: timings.reduce((sum, { quiet }) => sum + quiet, 0),
    samples: timings.reduce((sum, { samples }) => sum + samples, 0),
  }));
}
