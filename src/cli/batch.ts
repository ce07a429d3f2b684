import { Image2TextError } from '../errors.js';
import type { VisualInput } from '../node.js';
import type { Context } from './context.js';
import { EXIT, isUsage } from './context.js';
import { startProgress } from './terminal.js';

/** An image or video that the command line names. */
export interface NamedInput {
  readonly name: string;
  read(): Promise<VisualInput>;
}

/** What to do with many images. */
export interface Job<I extends NamedInput, R> {
  /** How many at once; default 1. */
  readonly batch?: number;
  readonly quiet?: boolean | undefined;
  /** What the things are called; default `images`. */
  readonly what?: string;
  /** How the user goes on with a run that was interrupted. */
  readonly resume?: string | undefined;
  /** Works on images that were read, and gives a result for each. */
  work(images: readonly Read<I>[], inputs: readonly I[]): Promise<readonly R[]>;
  /** Writes a result where it belongs. An Image2TextError is that image's failure; anything else ends the run. */
  deliver(input: I, result: R): Promise<void>;
}

type Read<I extends NamedInput> = Awaited<ReturnType<I['read']>>;

type Outcome<I, R> = { readonly input: I } & ({ readonly result: R } | { readonly error: unknown });

/**
 * Works through images in order, with a bar. One that fails is reported and the others are done; resolves to how many failed.
 *
 * @throws what ends the run: a wrong option, Ctrl-C, a reader that has gone, a full disk.
 */
export async function overImages<I extends NamedInput, R>(
  inputs: readonly I[],
  job: Job<I, R>,
  context: Context,
): Promise<number> {
  const { batch = 1, quiet, what = 'images' } = job;
  const progress = startProgress(inputs.length, context, { what, quiet });
  let [done, failed] = [0, 0];
  try {
    for (let n = 0; n < inputs.length; n += batch) {
      for (const outcome of await attempt(inputs.slice(n, n + batch), job, context.signal)) {
        if (await settle(outcome, job, context)) done++;
        else failed++;
        progress.advance();
      }
    }
  } finally {
    progress.stop();
    if (context.signal.aborted && quiet !== true && inputs.length > 1) {
      const rest = job.resume === undefined ? '' : `; ${job.resume}`;
      context.stderr(`image2text: stopped: ${done} of ${inputs.length} ${what} are done${rest}`);
    }
  }
  return failed;
}

/** Results of several images at once; where one of them fails, each alone. */
async function attempt<I extends NamedInput, R>(
  inputs: readonly I[],
  job: Job<I, R>,
  signal: AbortSignal,
): Promise<Outcome<I, R>[]> {
  signal.throwIfAborted();
  try {
    const images: Read<I>[] = [];
    for (const input of inputs) images.push((await input.read()) as Read<I>);
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

/** Delivers or reports; true where the image is done. */
async function settle<I extends NamedInput, R>(
  outcome: Outcome<I, R>,
  job: Job<I, R>,
  context: Context,
): Promise<boolean> {
  try {
    if ('error' in outcome) throw outcome.error;
    await job.deliver(outcome.input, outcome.result);
    return true;
  } catch (error) {
    if (!('error' in outcome) && !(error instanceof Image2TextError)) throw error;
    context.report(error);
    return false;
  }
}

/** The exit code of a run in which so many failed. */
export const exitCode = (failed: number): number => (failed === 0 ? EXIT.done : EXIT.failed);
