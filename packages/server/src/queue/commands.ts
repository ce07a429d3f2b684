import { randomUUID } from 'node:crypto';
import { lstat, open, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { openModel } from 'generative-image2text/node';
import { EXIT, type FlagTables, helpOf, parseCommandLine, UsageError } from '../command-line.js';
import { modelDigest } from '../digest.js';
import { generationOptions, imageOptions, modelOptions, queueOptions, serverOptions } from '../options.js';
import type { Terminal } from '../serve.js';
import { openBull, withQueue } from './connection.js';
import { jobId, type RunSpec, runName, type ShardDone, type ShardJob, shardName, VERSION } from './run.js';
import { LIST, planShards } from './sources.js';
import { giveName, openStore, type ResultStore } from './store.js';
import { parseLines, work } from './worker.js';

type Options = Readonly<Record<string, never>>;
interface Command {
  readonly usage: string;
  readonly about: string;
  readonly tables: FlagTables;
  run(names: readonly string[], options: readonly Options[], terminal: Terminal): Promise<number>;
}

/** Times that a shard is tried again after a failure that may pass (a full disk, a store that does not answer). */
const ATTEMPTS = 100;
const AT_ONCE = 100;

/** `image2text queue add`: what is published is left out, so that it can be given again after whatever happened. */
async function add(
  names: readonly string[],
  given: readonly Options[],
  { stderr, stdout, signal }: Terminal,
): Promise<number> {
  const [own, model, images, generation] = given as unknown as [
    { redis: string; queue: string; output?: string; shardSize: number; prompt?: string; question?: string },
    { model?: string; weights: string; revision?: string; cacheDir?: string; maxMegapixels: number },
    Record<string, unknown>,
    Record<string, unknown>,
  ];
  if (names.length === 0) throw new UsageError('name what is to be captioned: a folder, .jsonl, .tsv or .tar');
  const output = required(own.output, '--output: name where results go');
  const name = required(model.model, '--model: name the model');
  if (own.prompt !== undefined && own.question !== undefined)
    throw new UsageError('give --prompt or --question, not both');
  const bull = await openBull(own.redis);
  const store = await openStore(output);
  const files = await openModel(name, {
    ...(model.revision && { revision: model.revision }),
    cacheDir: model.cacheDir,
    signal,
  });
  const plan = await planShards(names, own.shardSize);
  const named = {
    model: name,
    revision: model.revision,
    modelDigest: (await modelDigest(files, signal)).digest,
    weights: model.weights,
    maxMegapixels: model.maxMegapixels,
    images,
    generation,
    prompt: own.prompt,
    question: own.question,
    inputs: plan.inputs,
    shardSize: own.shardSize,
    version: VERSION,
  };
  const run = runName(named);
  const count = plan.shards.reduce((sum, shard) => sum + shard.count, 0);
  const spec: RunSpec = { ...named, shards: plan.shards.length, count };
  if (plan.list !== undefined) await store.publish(`${run}/${LIST}`, plan.list);
  await store.publish(`${run}/run.json`, new TextEncoder().encode(`${JSON.stringify(spec, null, 2)}\n`));
  const published = new Set(await store.list(run));
  const todo = plan.shards
    .map((shard, n): ShardJob => ({ run, output, spec, number: n + 1, shard }))
    .filter(({ number }) => !published.has(shardName(run, number, spec.shards)));
  const added = await withQueue(bull, own.queue, async (queue) => {
    let fresh = 0;
    for (let at = 0; at < todo.length; at += AT_ONCE) {
      signal.throwIfAborted();
      const part = todo.slice(at, at + AT_ONCE);
      const missing = await Promise.all(
        part.map(async (job) => {
          const before = await queue.getJob(jobId(run, job.number));
          if (before === undefined) return job;
          const state = await before.getState();
          if (state !== 'failed' && state !== 'completed') return undefined;
          await before.remove(); // failed, or done with a result that is gone since
          return job;
        }),
      );
      const jobs = missing.filter((job) => job !== undefined);
      await queue.addBulk(
        jobs.map((data) => ({
          name: 'shard',
          data,
          opts: { jobId: jobId(run, data.number), attempts: ATTEMPTS, backoff: { type: 'custom' } },
        })),
      );
      fresh += jobs.length;
    }
    return fresh;
  });
  stdout(run);
  const rest = plan.shards.length - todo.length;
  stderr(
    `image2text: ${count} images in ${plan.shards.length} shards: ${added} added, ${todo.length - added} in the queue already, ${rest} done`,
  );
  return EXIT.done;
}

function required(value: string | undefined, message: string): string {
  if (value === undefined) throw new UsageError(message);
  return value;
}

/** `image2text queue work`. */
async function workCommand(
  names: readonly string[],
  given: readonly Options[],
  { stderr, signal }: Terminal,
): Promise<number> {
  const [own, model, server] = given as unknown as [
    { redis: string; queue: string; lock: number; once: boolean },
    { model?: string; backend: 'auto'; cacheDir?: string; maxBatch: number },
    { fetch: string },
  ];
  if (names.length > 0) throw new UsageError(`${names[0]}: queue work takes options only`);
  const bull = await openBull(own.redis);
  const log = (line: string): void => stderr(`image2text: ${line}`);
  const done = await work(bull, { ...own, ...model, ...server, signal, log });
  log(`${done} ${done === 1 ? 'shard' : 'shards'} done`);
  return EXIT.done;
}

interface Found {
  readonly run: string;
  readonly spec: RunSpec;
  readonly store: ResultStore;
  /** Numbers of the shards that are published. */
  readonly published: ReadonlySet<number>;
}

/** The run whose results are in `OUTPUT/RUN`. */
async function findRun(names: readonly string[]): Promise<Found> {
  const [path, ...others] = names;
  const [, output, run] = /^(.*)\/(run-[0-9a-f]{16})\/?$/.exec(path ?? '') ?? [];
  if (output === undefined || run === undefined || others.length > 0)
    throw new UsageError('name the results of one run: the output and what queue add printed, OUTPUT/run-…');
  const store = await openStore(output);
  const bytes = await store.read(`${run}/run.json`);
  if (bytes === undefined) throw new UsageError(`${path}: there is no run.json`);
  const spec = JSON.parse(new TextDecoder().decode(bytes)) as RunSpec;
  const numbers = (await store.list(run)).flatMap((name) => {
    const number = Number(/shard-(\d+)-of-/.exec(name)?.[1]);
    return name === shardName(run, number, spec.shards) ? [number] : [];
  });
  return { run, spec, store, published: new Set(numbers) };
}

const BAR = 30;
/** Rates are of the shards that were done in this many seconds. */
const RATE_SECONDS = 600;
const MOST_FAILURES = 40;

/** `image2text queue status`. What is published counts; the queue says what is under way. */
async function status(names: readonly string[], given: readonly Options[], { stdout }: Terminal): Promise<number> {
  const [{ redis, queue: name }] = given as unknown as [{ redis: string; queue: string }];
  const { run, spec, store, published } = await findRun(names);
  const [done, total] = [published.size, spec.shards];
  const states = await withQueue(await openBull(redis), name, async (queue) => {
    const counts = new Map<string, number>();
    const failed: string[] = [];
    const times: { at: number; images: number }[] = [];
    let broken = 0;
    for (let first = 1; first <= total; first += AT_ONCE) {
      const numbers = Array.from({ length: Math.min(AT_ONCE, total - first + 1) }, (_, n) => first + n);
      await Promise.all(
        numbers.map(async (number) => {
          const job = await queue.getJob(jobId(run, number));
          const result = job?.returnvalue as ShardDone | null | undefined;
          if (job !== undefined && result && job.finishedOn !== undefined) {
            times.push({ at: job.finishedOn, images: result.images });
            broken += result.failures;
          }
          if (published.has(number)) return;
          const state = job === undefined ? 'not in the queue' : await job.getState();
          counts.set(state, (counts.get(state) ?? 0) + 1);
          if (state === 'failed') failed.push(`shard ${number}: ${job!.failedReason}`);
          else if (job?.failedReason) failed.push(`shard ${number}, to be tried again: ${job.failedReason}`);
        }),
      );
    }
    return { counts, failed, times, broken };
  });
  const filled = Math.round((BAR * done) / total);
  stdout(`${run}: ${spec.count} images, ${spec.model}`);
  stdout(
    `[${'#'.repeat(filled)}${'.'.repeat(BAR - filled)}] ${done} of ${total} shards (${Math.floor((100 * done) / total)} %)`,
  );
  for (const [state, count] of states.counts) stdout(`${count} ${state}`);
  if ((states.counts.get('not in the queue') ?? 0) > 0) stdout('the same queue add puts what is missing back');
  const rate = rateOf(states.times);
  if (rate !== undefined && done < total) {
    const left = ((total - done) * spec.shardSize) / rate;
    stdout(`${rate.toFixed(1)} images a second, about ${duration(left)} left`);
  }
  for (const line of states.failed) stdout(line);
  if (states.broken > 0) await listFailures(run, spec, store, published, stdout);
  return states.failed.length > 0 ? EXIT.failed : EXIT.done;
}

/** Images a second, over the last shards. */
function rateOf(times: readonly { at: number; images: number }[]): number | undefined {
  const last = Math.max(0, ...times.map(({ at }) => at));
  const recent = times.filter(({ at }) => at > last - RATE_SECONDS * 1000);
  const first = Math.min(...recent.map(({ at }) => at));
  const images = recent.filter(({ at }) => at > first).reduce((sum, one) => sum + one.images, 0);
  return images === 0 ? undefined : images / ((last - first) / 1000);
}

const duration = (seconds: number): string =>
  seconds < 90
    ? `${Math.ceil(seconds)} s`
    : seconds < 5400
      ? `${Math.ceil(seconds / 60)} min`
      : `${(seconds / 3600).toFixed(1)} h`;

/** Images that failed, with the lines they are on. */
async function listFailures(
  run: string,
  spec: RunSpec,
  store: ResultStore,
  published: ReadonlySet<number>,
  stdout: (line: string) => void,
): Promise<void> {
  let shown = 0;
  let all = 0;
  for (const number of [...published].sort((a, b) => a - b)) {
    const bytes = await store.read(shardName(run, number, spec.shards));
    for (const { file, line, key, error } of parseLines(bytes ?? new Uint8Array())) {
      if (error === undefined) continue;
      all++;
      if (shown++ < MOST_FAILURES) stdout(`${file} line ${line}: ${key}: ${error.code}: ${error.message}`);
    }
  }
  if (all > MOST_FAILURES) stdout(`and ${all - MOST_FAILURES} images more failed`);
}

/** `image2text queue merge`: one new file, in the order of the source. */
async function merge(
  names: readonly string[],
  given: readonly Options[],
  { stdout, stderr, signal }: Terminal,
): Promise<number> {
  const [{ output, partial }] = given as unknown as [{ output?: string; partial: boolean }];
  const target = required(output, '--output: name the file, .jsonl or .tsv');
  if (!/\.(jsonl|tsv)$/.test(target)) throw new UsageError(`${target}: expected .jsonl or .tsv`);
  const { run, spec, store, published } = await findRun(names);
  const missing = Array.from({ length: spec.shards }, (_, n) => n + 1).filter((number) => !published.has(number));
  if (missing.length > 0 && !partial)
    throw new UsageError(
      `${missing.length} of ${spec.shards} shards are not done (${missing.slice(0, 8).join(', ')}${missing.length > 8 ? ', …' : ''}); --partial merges the others`,
    );
  const taken = `${target} exists already: remove it, or name another file`;
  if ((await lstat(target).catch(() => undefined)) !== undefined) throw new UsageError(taken);
  const part = join(dirname(target), `.i2t-${process.pid}-${randomUUID()}.part`);
  const file = await open(part, 'wx'); // a file of our own, never one that a link points to
  const failures: string[] = [];
  let images = 0;
  try {
    for (let number = 1; number <= spec.shards; number++) {
      signal.throwIfAborted();
      if (!published.has(number)) continue;
      const bytes = (await store.read(shardName(run, number, spec.shards))) ?? new Uint8Array();
      const lines = parseLines(bytes);
      images += lines.length;
      for (const one of lines)
        if (one.error !== undefined)
          failures.push(`${one.file} line ${one.line}: ${one.key}: ${one.error.code}: ${one.error.message}`);
      const text = target.endsWith('.tsv')
        ? lines
            .filter(({ error }) => error === undefined)
            .map(({ key, text: said }) => `${key}\t${ascii([{ caption: said }])}\n`)
            .join('')
        : lines.map((one) => `${JSON.stringify(one)}\n`).join('');
      await file.writeFile(text);
    }
    await file.sync();
    if (missing.length === 0 && images !== spec.count)
      throw new UsageError(`${images} lines where ${spec.count} images are: the results are not of this run`);
    if (!(await giveName(part, target))) throw new UsageError(taken);
  } finally {
    await file.close();
    await rm(part, { force: true });
  }
  if (missing.length === 0) await store.tidy(run);
  stdout(`${images} images, ${failures.length} failed`);
  for (const line of failures.slice(0, MOST_FAILURES)) stderr(`image2text: ${line}`);
  return failures.length > 0 ? EXIT.failed : EXIT.done;
}

/** JSON in ASCII, as the original project's TSV files have it. */
const ascii = (value: unknown): string =>
  JSON.stringify(value).replace(/[\u007f-\uffff]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);

const GENERATION = [[modelOptions, 'queue'], [imageOptions], [generationOptions]] as const;

/** Options of the model that concern the machine, not the run. */
const { backend, maxBatch, model, cacheDir } = modelOptions;

const COMMANDS: Readonly<Record<string, Command>> = {
  add: {
    usage: 'add <source...> --output <where> --model <name>',
    about: 'Cuts a folder, a list (.jsonl), TSV or tar files into shards and puts them into the queue.',
    tables: [[queueOptions, 'add'], ...GENERATION],
    run: add,
  },
  work: {
    usage: 'work',
    about: 'Takes shards from the queue until it is stopped; on any number of machines.',
    tables: [
      [queueOptions, 'work'],
      [{ model, backend, maxBatch, cacheDir }, 'queue'],
      [{ fetch: serverOptions.fetch }, 'queue'],
    ],
    run: workCommand,
  },
  status: {
    usage: 'status <output>/<run>',
    about: 'Says how far a run is, and which images failed.',
    tables: [[queueOptions, 'status']],
    run: status,
  },
  merge: {
    usage: 'merge <output>/<run> --output <file>',
    about: 'Puts the results of a run into one file.',
    tables: [[queueOptions, 'merge']],
    run: merge,
  },
};

const HELP = `Usage: image2text queue <command> [options]

${Object.values(COMMANDS)
  .map(({ usage, about }) => `  ${usage}\n      ${about}`)
  .join('\n')}

image2text queue add --help shows the options of a command.`;

/** `image2text queue`. */
export async function queue([name, ...args]: readonly string[], terminal: Terminal): Promise<number> {
  if (name === undefined || name === '--help' || name === '-h') {
    terminal.stdout(HELP);
    return name === undefined ? EXIT.usage : EXIT.done;
  }
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name]! : undefined;
  if (command === undefined)
    throw new UsageError(`queue ${name}: the commands are ${Object.keys(COMMANDS).join(', ')}`);
  const { options, names, help } = parseCommandLine(args, command.tables);
  if (help) {
    terminal.stdout(`Usage: image2text queue ${command.usage}\n\n${command.about}\n\n${helpOf(command.tables)}`);
    return EXIT.done;
  }
  return command.run(names, options as readonly Options[], terminal);
}
