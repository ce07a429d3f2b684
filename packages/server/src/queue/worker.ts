import type { Job, Worker } from 'bullmq';
import { BackendError, type Caption, type CaptionOptions, Image2TextError, OptionError } from 'generative-image2text';
import { type HostOptions, loadHost, type ModelHost } from '../host.js';
import type { Bull } from './connection.js';
import { checkJob, type ResultLine, type ShardDone, type ShardJob, shardName } from './run.js';
import { type Item, readItems } from './sources.js';
import { openStore } from './store.js';

export interface WorkOptions {
  readonly queue: string;
  /** Seconds without a sign of life after which a shard goes to another worker. */
  readonly lock: number;
  readonly maxBatch: number;
  readonly fetch: string;
  /** Where the checkpoint is on this machine; default: where the job says. */
  readonly model?: string | undefined;
  readonly backend?: HostOptions['backend'];
  readonly cacheDir?: string | undefined;
  /** End when no shard is left. */
  readonly once: boolean;
  readonly signal: AbortSignal;
  readonly log: (line: string) => void;
  /** Tests read images their own way. */
  readonly readItem?: (item: Item, signal: AbortSignal) => Promise<Uint8Array>;
  readonly openStore?: typeof openStore;
}

/** Times that a worker died over one image before the image is given up. */
const DEATHS = 3;
/** Times that a shard went back to the queue because its worker was gone, before its images are done one at a time. */
const STALLS_BEFORE_CARE = 2;
/** A shard whose worker dies is taken up again, however often: what kills workers is found out image by image. */
const MOST_STALLS = 1_000_000;

/** What a careful worker notes before each image, so that the next one knows over which it died. */
interface Care {
  /** The line that is being done; 0: none. */
  readonly current: number;
  /** How often a worker died over each line. */
  readonly deaths: Readonly<Record<number, number>>;
}

/** A machine whose files are not those of the run must not take its shards. */
class WrongMachine extends Error {}

/**
 * Takes shards until it is stopped. Resolves to the number of shards done.
 *
 * @throws WrongMachine where this machine cannot do what the jobs ask for.
 */
export async function work({ sdk, connection }: Bull, options: WorkOptions): Promise<number> {
  const models = keepModel(options);
  let done = 0;
  let fatal: unknown;
  const stop = new AbortController();
  const signal = AbortSignal.any([options.signal, stop.signal]);
  const process = async (job: Job<ShardJob>, token?: string): Promise<ShardDone> => {
    try {
      const result = await doShard(job, models, options, signal);
      done++;
      return result;
    } catch (error) {
      if (error instanceof WrongMachine) {
        fatal = error;
        stop.abort();
      }
      if (signal.aborted) {
        await job.moveToWait(token); // whoever is free takes it at once
        throw new sdk.WaitingError();
      }
      if (error instanceof OptionError) throw new sdk.UnrecoverableError(error.message); // no machine would do better
      options.log(`${job.id}: ${(error as Error).message}; it is tried again later`);
      throw error;
    }
  };
  const worker = new sdk.Worker<ShardJob, ShardDone>(options.queue, process, {
    connection,
    concurrency: 1,
    lockDuration: options.lock * 1000,
    stalledInterval: options.lock * 1000,
    maxStalledCount: MOST_STALLS,
    drainDelay: 1,
    settings: { backoffStrategy: (tries: number) => Math.min(MOST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** (tries - 1)) },
  });
  worker.on('error', onceEach(options.log)); // Redis is away: it comes back, and what was published is published
  try {
    await ended(worker, options, sdk, connection, signal);
  } finally {
    await Promise.race([worker.close(), new Promise((resolve) => setTimeout(resolve, CLOSE_MS).unref())]);
    models.dispose();
  }
  if (fatal !== undefined) throw fatal;
  return done;
}

const FIRST_BACKOFF_MS = 1000;
const MOST_BACKOFF_MS = 60_000;
/** How long the last messages to Redis may take. */
const CLOSE_MS = 10_000;
const LOOK_MS = 500;

async function ended(
  _worker: Worker,
  { once, queue }: WorkOptions,
  sdk: Bull['sdk'],
  connection: Bull['connection'],
  signal: AbortSignal,
): Promise<void> {
  const aborted = new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
  if (!once) return aborted;
  const jobs = new sdk.Queue(queue, { connection });
  jobs.on('error', () => {});
  try {
    while (!signal.aborted) {
      const counts = await jobs.getJobCounts('waiting', 'active', 'delayed', 'prioritized');
      if (Object.values(counts).every((count) => count === 0)) return;
      await Promise.race([aborted, new Promise((resolve) => setTimeout(resolve, LOOK_MS))]);
    }
  } finally {
    await jobs.close();
  }
}

/** Says the same failure once until another comes. */
function onceEach(log: (line: string) => void): (error: Error) => void {
  let last = '';
  return ({ message }) => {
    if (message !== last) log(`redis: ${message}`);
    last = message;
  };
}

interface Models {
  for(job: ShardJob): Promise<ModelHost>;
  dispose(): void;
}

/** The model of the last job; another is loaded when a job of another run comes. */
function keepModel({ model, backend, cacheDir, log }: WorkOptions): Models {
  let kept: { readonly key: string; readonly host: ModelHost } | undefined;
  return {
    async for({ run, spec }) {
      const key = JSON.stringify([spec.modelDigest, spec.weights, spec.maxMegapixels, spec.images]);
      if (kept?.key === key) return kept.host;
      kept?.host.model.dispose();
      kept = undefined;
      const { weights, maxMegapixels, images, revision } = spec;
      const given = { model: model ?? spec.model, backend, cacheDir, weights, maxMegapixels, revision, ...images };
      const host = await loadHost(given as HostOptions, () => {}).catch((error: Error) => {
        throw new WrongMachine(`the model of ${run} cannot be loaded here: ${error.message}`);
      });
      if (host.identity.digest !== spec.modelDigest) {
        host.model.dispose();
        throw new WrongMachine(
          `the model of ${run} is ${spec.modelDigest.slice(0, 12)}, the one here is ${host.identity.digest.slice(0, 12)}`,
        );
      }
      log(`${run}: ${host.name}, ${spec.weights}`);
      kept = { key, host };
      return host;
    },
    dispose() {
      kept?.host.model.dispose();
      kept = undefined;
    },
  };
}

async function doShard(
  job: Job<ShardJob>,
  models: Models,
  options: WorkOptions,
  signal: AbortSignal,
): Promise<ShardDone> {
  const { data } = job;
  try {
    checkJob(data);
  } catch (error) {
    throw new WrongMachine((error as Error).message);
  }
  const store = await (options.openStore ?? openStore)(data.output);
  const name = shardName(data.run, data.number, data.spec.shards);
  const before = await store.read(name);
  if (before !== undefined) return { ...summary(parseLines(before)), existed: true };
  const host = await models.for(data);
  const items = await readItems(data.shard, data.run, store, options.fetch);
  const lines = await writeLines(job, host, items, options, signal);
  const bytes = new TextEncoder().encode(lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  const isOurs = await store.publish(name, bytes);
  return { ...summary(lines), existed: !isOurs };
}

export const parseLines = (bytes: Uint8Array): ResultLine[] =>
  new TextDecoder()
    .decode(bytes)
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as ResultLine);

const summary = (lines: readonly ResultLine[]) => ({
  images: lines.length,
  failures: lines.filter(({ error }) => error !== undefined).length,
});

async function writeLines(
  job: Job<ShardJob>,
  host: ModelHost,
  items: readonly Item[],
  { maxBatch, readItem = (item, signal) => item.read(signal) }: WorkOptions,
  signal: AbortSignal,
): Promise<ResultLine[]> {
  const care = job.stalledCounter >= STALLS_BEFORE_CARE ? startCare(job) : undefined;
  const size = care === undefined ? maxBatch : 1;
  const { file } = job.data.shard;
  const lines: ResultLine[] = [];
  const open = (at: number) =>
    items.slice(at, at + size).map((item) => readItem(item, signal).catch((error: Error) => error));
  let next = care === undefined ? open(0) : [];
  try {
    for (let at = 0; at < items.length; at += size) {
      const batch = items.slice(at, at + size);
      const { line, key } = batch[0]!;
      if ((await care?.begin(line)) === true) {
        const message = `${DEATHS} workers died over it`;
        lines.push({ file, line, key, error: { code: 'killed-its-worker', message } });
        continue;
      }
      const images = await Promise.all(care === undefined ? next : open(at));
      if (care === undefined) next = open(at + size); // read while the model works
      const results = await caption(host, job.data, images, signal);
      results.forEach((result, n) => {
        const { key, line } = batch[n]!;
        lines.push({ file, line, key, ...resultOf(result, job.data) });
      });
    }
  } finally {
    await care?.end();
  }
  return lines;
}

/** Counts the deaths of workers over each image of a shard that keeps losing its workers. */
function startCare(job: Job<ShardJob>) {
  const { current = 0, deaths: before = {} } = (typeof job.progress === 'object' ? job.progress : {}) as Partial<Care>;
  const deaths: Record<number, number> = { ...before };
  if (current !== 0) deaths[current] = (deaths[current] ?? 0) + 1;
  const note = (line: number): Promise<void> => job.updateProgress({ current: line, deaths });
  return {
    /** True where the image is to be given up. */
    async begin(line: number): Promise<boolean> {
      const isPoisoned = (deaths[line] ?? 0) >= DEATHS;
      await note(isPoisoned ? 0 : line);
      return isPoisoned;
    },
    /** What ends a shard alive is no death. */
    end: () => note(0),
  };
}

/** Texts for a batch; an image that fails fails alone. What is no image's fault ends the shard. */
async function caption(
  { model }: ModelHost,
  { spec: { generation, prompt, question } }: ShardJob,
  images: readonly (Uint8Array | Error)[],
  signal: AbortSignal,
): Promise<(Caption | Error)[]> {
  const opened = images.map((image) => {
    if (image instanceof Error && !isOwnFault(image)) throw image;
    return image;
  });
  const given = { ...generation, signal } as CaptionOptions;
  const readable = opened.filter((image): image is Uint8Array => !(image instanceof Error));
  let written: (Caption | Error)[];
  if (question === undefined) {
    const options = { ...given, ...(prompt === undefined ? {} : { prompt }), onError: 'collect' as const };
    written = await model.caption(readable, options);
  } else {
    const { onError: _, prompt: __, ...rest } = given;
    const asked = readable.map((image) => model.answer(image, question, rest).catch((error: Error) => error));
    written = await Promise.all(asked);
  }
  signal.throwIfAborted();
  for (const result of written) if (result instanceof Error && !isOwnFault(result)) throw result;
  const results = written.values();
  return opened.map((image) => (image instanceof Error ? image : results.next().value!));
}

/** Whether a failure is the image's own, and will be on every machine. */
const isOwnFault = (error: Error): boolean =>
  error instanceof Image2TextError && !(error instanceof OptionError) && !(error instanceof BackendError);

function resultOf(result: Caption | Error, { spec: { question } }: ShardJob): Partial<ResultLine> {
  if (result instanceof Error) {
    const { code, detail } = result as Image2TextError;
    return { error: { code, message: detail } };
  }
  const { text, score, confidence } = result;
  return { ...(question === undefined ? {} : { question }), text, score, confidence };
}
