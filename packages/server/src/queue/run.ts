import { createHash } from 'node:crypto';
import { Image2TextError } from 'generative-image2text';
import { packageVersion } from '../command-line.js';

/** A dataset and what is written about its images: everything that results depend on. */
export interface RunSpec {
  /** As workers open it: a name on the Hub, a folder, or demo. */
  readonly model: string;
  readonly revision?: string | undefined;
  /** SHA-256 of the checkpoint; a worker whose files differ takes nothing. */
  readonly modelDigest: string;
  readonly weights: string;
  readonly maxMegapixels: number;
  readonly images: Readonly<Record<string, unknown>>;
  readonly generation: Readonly<Record<string, unknown>>;
  readonly prompt?: string | undefined;
  readonly question?: string | undefined;
  /** What the source holds: names, places and sizes of its images. */
  readonly inputs: string;
  readonly shardSize: number;
  readonly shards: number;
  readonly count: number;
  readonly version: string;
}

/** Images that one worker takes at a time: a range of bytes of one file. */
export interface Shard {
  readonly kind: 'list' | 'tsv' | 'tar';
  /** The file; of a list it is in the output. */
  readonly file: string;
  readonly start: number;
  readonly end: number;
  /** How many images are in it, and the line (or member) of the first, counted from 1 in its file. */
  readonly count: number;
  readonly first: number;
}

/** What a job in the queue holds. */
export interface ShardJob {
  readonly run: string;
  readonly output: string;
  readonly spec: RunSpec;
  readonly number: number;
  readonly shard: Shard;
}

/** What a worker says of a shard that is done. */
export interface ShardDone {
  readonly images: number;
  readonly failures: number;
  /** True where another worker had published it. */
  readonly existed: boolean;
}

/** A line of the results. */
export interface ResultLine {
  readonly file: string;
  readonly line: number;
  readonly key: string;
  readonly text?: string;
  readonly score?: number;
  readonly confidence?: number;
  readonly question?: string;
  readonly error?: { readonly code: string; readonly message: string };
}

export const VERSION = packageVersion();

/** The name of a run: the same model, options and inputs have the same name wherever they are added. */
export function runName(spec: Omit<RunSpec, 'shards' | 'count'>): string {
  const { model: _, revision: __, ...content } = spec;
  const sorted = JSON.stringify(content, (_key, value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value,
  );
  return `run-${createHash('sha256').update(sorted).digest('hex').slice(0, 16)}`;
}

/** @throws Image2TextError where a job is not what its name says. */
export function checkJob({ run, spec }: ShardJob): void {
  const { shards: _, count: __, ...named } = spec;
  if (spec.version !== VERSION)
    throw new Image2TextError({
      ...{ path: run, code: 'version', detail: `the job was added by version ${spec.version}, this is ${VERSION}` },
    });
  if (runName(named) !== run)
    throw new Image2TextError({
      path: run,
      code: 'changed-job',
      detail: 'model and options are not those of its name',
    });
}

const digits = (count: number): number => Math.max(5, String(count).length);

export const shardName = (run: string, number: number, shards: number): string =>
  `${run}/shard-${String(number).padStart(digits(shards), '0')}-of-${String(shards).padStart(digits(shards), '0')}.jsonl`;

/** Job ids may hold no colon. */
export const jobId = (run: string, number: number): string => `${run}-${number}`;
