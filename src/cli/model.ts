import type { ModelFiles } from '../checkpoint/byte-source.js';
import { HubError, Image2TextError } from '../errors.js';
import { isOffline } from '../hub/environment.js';
import type { Image2Text, ImageWarning, NodeBackend, VisualInput, WeightFormat } from '../node.js';
import type { InitialWeightsOptions } from '../training/index.js';
import type { Context } from './context.js';
import { EXIT, isUsage } from './context.js';
import { checkStrategy, DEFAULT_MODEL, type GivenOptions, type ImageFlags, imageOptionsOf } from './options.js';
import { showLoading, startProgress } from './terminal.js';

/** Options that say where a checkpoint comes from and where it is kept. */
export interface HubFlags {
  readonly revision?: string;
  readonly cacheDir?: string;
}

/** Options that choose and place the model, and say how it reads images. */
export interface ModelFlags extends HubFlags, ImageFlags {
  readonly model?: string;
  readonly backend: NodeBackend;
  readonly weights: WeightFormat;
  readonly tokenMerging?: number;
  readonly adapter?: string;
  /** Random numbers in place of the model's weights. */
  readonly fromScratch?: InitialScheme;
  readonly seed?: number;
  readonly quiet?: boolean;
}
type InitialScheme = NonNullable<InitialWeightsOptions['scheme']>;

/** Fewer images are read in less time than a thread takes to start. */
const MANY = 8;

/**
 * Starts the backend, loads the model, and frees it when `body` has ended. `generation`: options of generation that `body` uses, if any, so
 * that one that the model's own strategy does not take is refused before the weights are read. `images`: how many images it works through;
 * many are read ahead, by threads.
 */
export async function withModel<T>(
  flags: ModelFlags,
  context: Context,
  generation: GivenOptions,
  body: (model: Image2Text) => Promise<T>,
  images = 1,
): Promise<T> {
  const { signal, status } = context;
  const { weights, tokenMerging } = flags;
  const options = { weights, tokenMerging, ...imageOptionsOf(flags) };
  const { openGenerationConfig } = await import('../image2text/load.js');
  const onWarning = ({ file, warning }: ImageWarning) => context.stderr(`image2text: warning: ${file}: ${warning}`);
  const onProgress = showLoading(status, { quiet: flags.quiet, name: flags.model ?? DEFAULT_MODEL });
  const load = async (): Promise<Image2Text> => {
    const files = await initialized(await openModelFiles(flags, context), flags);
    if (generation.strategy === undefined) {
      checkStrategy(generation, (await openGenerationConfig(files))?.strategy ?? 'original');
    }
    return context.loadModel(files, { ...options, signal, onProgress, onWarning, prepareImage: threads?.prepareImage });
  };
  const threads = images >= MANY ? (await import('./image-threads.js')).startImageThreads() : undefined;
  const model = await load().finally(() => status.clear());
  if (flags.adapter !== undefined) {
    try {
      await applyAdapter(model, flags.adapter);
    } catch (error) {
      model.dispose();
      throw error;
    }
  }
  if (model.warnings.length > 0) context.stderr(`image2text: warning: ${model.warnings.join('; ')}`);
  try {
    return await body(model);
  } finally {
    model.dispose();
    await threads?.end();
  }
}

/** The model's files, with weights of random numbers where they are asked for. */
async function initialized(files: ModelFiles, { fromScratch, seed }: ModelFlags): Promise<ModelFiles> {
  if (fromScratch === undefined) return files;
  const { withInitialWeights } = await import('../training/index.js');
  return withInitialWeights(files, { scheme: fromScratch, seed });
}

async function applyAdapter(model: Image2Text, folder: string): Promise<void> {
  const { fromDirectory } = await import('../node.js');
  const { disposeAdapter, loadAdapter } = await import('../training/index.js');
  const adapter = await loadAdapter(await fromDirectory(folder), model);
  try {
    model.useAdapter(adapter);
  } finally {
    disposeAdapter(adapter); // merged into weights of its own
  }
}

/** Starts a backend, without its banners; resolves to its name. */
export async function useBackend(name: NodeBackend): Promise<string> {
  const { quietTensorflow, startBackend } = await import('../node.js');
  quietTensorflow();
  return startBackend(name);
}

/** Starts the backend that the flags name; then the files of their model, downloaded where they have to be and the weights fit in the backend. */
export async function openModelFiles(flags: ModelFlags, context: Context): Promise<ModelFiles> {
  const { openModel } = await import('../node.js');
  const { prepareBackend } = await import('../image2text/load.js');
  const { signal, status } = context;
  const { weights } = flags;
  await useBackend(flags.backend);
  await prepareBackend({ weights }); // before a download of hundreds of megabytes
  const name = flags.model ?? DEFAULT_MODEL;
  if (flags.quiet !== true) await announceDownload(name, flags, context);
  const onProgress = showLoading(status, { quiet: flags.quiet, name });
  return openModel(name, { ...hubOptions(flags), signal, onProgress, weights })
    .catch((error: unknown) => {
      throw withAdvice(error, flags);
    })
    .finally(() => status.clear());
}

/** Options of the Hub, without those that were not given. */
export const hubOptions = ({ revision, cacheDir }: HubFlags): { revision?: string; cacheDir?: string } => ({
  ...(revision === undefined ? {} : { revision }),
  ...(cacheDir === undefined ? {} : { cacheDir }),
});

/** `owner/name`, as the Hub names repositories. */
const REPOSITORY = /^[\w][\w.-]*\/[\w][\w.-]*$/;

/** A download of hundreds of megabytes is said before it begins. */
async function announceDownload(
  name: string,
  flags: HubFlags & Pick<ModelFlags, 'model'>,
  context: Context,
): Promise<void> {
  if (isOffline(process.env) || !REPOSITORY.test(name) || (await isFolder(name))) return;
  const { downloadSnapshot, hubCache } = await import('../node.js');
  const local = { ...hubOptions(flags), localFilesOnly: true, signal: context.signal };
  const cached = await downloadSnapshot(name, local).then(
    () => true,
    () => false,
  );
  context.signal.throwIfAborted();
  if (cached) return;
  const size = await publishedSize(name);
  const reason = flags.model === undefined ? ' (no --model was given; --model demo needs no download)' : '';
  const to = flags.cacheDir ?? hubCache(process.env);
  context.stderr(`image2text: fetching ${name}${size === undefined ? '' : `, ${size},`} into ${to}${reason}`);
}

async function isFolder(path: string): Promise<boolean> {
  const { stat } = await import('node:fs/promises');
  return (await stat(path).catch(() => undefined))?.isDirectory() === true;
}

/** Size of the weights of a checkpoint that Microsoft published: its files have four bytes a parameter. */
async function publishedSize(name: string): Promise<string | undefined> {
  const { listModels } = await import('../tools/index.js');
  const found = listModels().find(({ id }) => id === name);
  return found && `${Math.round((found.parameters * 4) / 1e6)} MB`;
}

/** The failure to fetch the default model, with what needs no download. */
function withAdvice(error: unknown, flags: Pick<ModelFlags, 'model'>): unknown {
  if (!(error instanceof HubError) || flags.model !== undefined) return error;
  const { file, path, code, detail } = error;
  const advice = '--model demo needs no download, and --model takes a folder with the files of a checkpoint';
  return new HubError({ file, path, code, detail: `${detail}; ${advice}`, cause: error });
}

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
  /** Whether `work` on the next ones may begin before these have their results, for a model that reads ahead. */
  readonly isAhead?: boolean;
  /** What the things are called; default `images`. */
  readonly what?: string;
  /** How the user goes on with a run that was interrupted. */
  readonly resume?: string | undefined;
  /** Works on images that were read, and gives a result for each, or the error of one that fails; what it throws is an error of all. */
  work(images: readonly Read<I>[], inputs: readonly I[]): Promise<readonly (R | Error)[]>;
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
  const { batch = 1, quiet, what = 'images', isAhead = false } = job;
  const progress = startProgress(inputs.length, context, { what, quiet });
  let [done, failed] = [0, 0];
  try {
    const begin = (n: number) => attempt(inputs.slice(n, n + batch), job, context.signal);
    let next: Promise<Outcome<I, R>[]> | undefined;
    for (let n = 0; n < inputs.length; n += batch) {
      const current = next ?? begin(n);
      next = isAhead && n + batch < inputs.length ? begin(n + batch) : undefined;
      next?.catch(() => {}); // told in its turn
      for (const outcome of await current) {
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

/** Results of several images at once; one that fails is no concern of the others. */
async function attempt<I extends NamedInput, R>(
  inputs: readonly I[],
  job: Job<I, R>,
  signal: AbortSignal,
): Promise<Outcome<I, R>[]> {
  const failure = (error: unknown): Error => {
    signal.throwIfAborted();
    if (isUsage(error)) throw error;
    return error as Error;
  };
  signal.throwIfAborted();
  const read: (Read<I> | Error)[] = [];
  for (const input of inputs) read.push(await (input.read() as Promise<Read<I>>).catch(failure));
  const isRead = (n: number): boolean => !(read[n] instanceof Error);
  const images = read.filter((_, n) => isRead(n)) as Read<I>[];
  const readable = inputs.filter((_, n) => isRead(n));
  const results: readonly (R | Error)[] =
    images.length === 0
      ? []
      : await job.work(images, readable).catch((error: unknown) => images.map(() => failure(error)));
  let next = 0;
  return inputs.map((input, n) => {
    const result = isRead(n) ? results[next++]! : (read[n] as Error);
    if (!(result instanceof Error)) return { input, result };
    return { input, error: failure(result) };
  });
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
