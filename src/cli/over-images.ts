import type { ImageInput } from '../node.js';
import type { Context } from './context.js';
import type { Input } from './inputs.js';
import type { Progress } from './progress.js';
import { startProgress } from './progress.js';
import { EXIT, isUsage } from './report.js';

/** What to do with many images. */
export interface Job<I extends Input, R> {
  /** How many at once; default 1. */
  readonly batch?: number;
  readonly quiet?: boolean | undefined;
  /** Works on images that were read, and gives a result for each. */
  work(images: readonly ImageInput[], inputs: readonly I[]): Promise<readonly R[]>;
  /** Writes a result where it belongs; if that fails, all ends. */
  deliver(input: I, result: R): Promise<void>;
}

type Outcome<I, R> = { readonly input: I } & ({ readonly result: R } | { readonly error: unknown });

/**
 * Works through images in order, with a bar. One that fails is reported and the others are done; resolves to how many failed.
 *
 * @throws what ends all: a wrong option, Ctrl-C, a reader that has gone, a full disk.
 */
export async function overImages<I extends Input, R>(
  inputs: readonly I[],
  job: Job<I, R>,
  context: Context,
): Promise<number> {
  const { batch = 1, quiet } = job;
  const progress = await startProgress(inputs.length, context, { quiet });
  let failed = 0;
  try {
    for (let n = 0; n < inputs.length; n += batch) {
      for (const outcome of await attempt(inputs.slice(n, n + batch), job, context.signal)) {
        failed += await settle(outcome, job, context, progress);
      }
    }
  } finally {
    progress.stop();
  }
  return failed;
}

/** Results of several images at once; where one of them fails, each alone. */
async function attempt<I extends Input, R>(
  inputs: readonly I[],
  job: Job<I, R>,
  signal: AbortSignal,
): Promise<Outcome<I, R>[]> {
  signal.throwIfAborted();
  try {
    const images: ImageInput[] = [];
    for (const input of inputs) images.push(await input.read());
    const results = await job.work(images, inputs);
    return inputs.map((input, n) => ({ input, result: results[n]! }));
  } catch (error) {
    signal.throwIfAborted();
    if (isUsage(error)) throw error;
    if (inputs.length === 1) return [{ input: inputs[0]!, error }];
    const outcomes: Outcome<I, R>[] = [];
    for (const input of inputs) outcomes.push(...(await attempt([input], job, signal)));
    return outcomes;
  }
}

/** Delivers or reports; 1 for a failure. */
async function settle<I extends Input, R>(
  outcome: Outcome<I, R>,
  job: Job<I, R>,
  context: Context,
  progress: Progress,
): Promise<number> {
  if ('error' in outcome) progress.aside(() => context.report(outcome.error));
  else await progress.aside(() => job.deliver(outcome.input, outcome.result));
  progress.advance();
  return 'error' in outcome ? 1 : 0;
}

/** The exit code of a run in which so many failed. */
export const exitCode = (failed: number): number => (failed === 0 ? EXIT.done : EXIT.failed);
