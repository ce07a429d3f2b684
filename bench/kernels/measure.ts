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

/** Runs `body` for about `seconds`, at least 7 times, after a warm-up. `threads` are expected to be busy all the time. */
export function measure(body: () => void, { seconds = 0.6, threads = 1 } = {}): Timing {
  for (let i = 0; i < 3; i++) body();
  const [all, quiet]: [number[], number[]] = [[], []];
  const end = performance.now() + seconds * 1000;
  while (all.length < 7 || performance.now() < end) {
    const cpu = process.cpuUsage();
    const start = performance.now();
    body();
    const took = performance.now() - start;
    const { user, system } = process.cpuUsage(cpu);
    all.push(took);
    if ((user + system) / 1000 >= took * threads * QUIET) quiet.push(took);
  }
  const kept = quiet.length >= 3 ? quiet : [...all];
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
