/**
 * Options of the server and of the queue, declared once: flags, checks, help and the tables in the docs are made from these tables, as the
 * library's own are.
 */
import { generationOptions, IMAGE_OPTIONS, WEIGHT_FORMATS } from 'generative-image2text';
import { NODE_BACKENDS } from 'generative-image2text/node';
import {
  boolean,
  choice,
  integer,
  number,
  type OptionDeclaration,
  type OptionsFor,
  type OptionTable,
  text,
  texts,
} from 'generative-image2text/options';

const MIB = 2 ** 20;
/** Most pixels of an image that a stranger sends, in millions; the library's own limit is for the files of its user. */
const SERVED_MEGAPIXELS = 25;

/** Which model, and how it is kept in memory. */
export const modelOptions = {
  model: text({
    defaults: { serve: undefined, queue: undefined },
    flag: '--model',
    help: "A checkpoint's name on the Hub, a folder with its files, or demo.",
  }),
  backend: choice(NODE_BACKENDS, {
    defaults: { serve: 'auto', queue: 'auto' },
    flag: '--backend',
    help: 'What computes.',
  }),
  weights: choice(WEIGHT_FORMATS, {
    defaults: { serve: 'f32', queue: 'f32' },
    flag: '--weights',
    help: 'How weights are kept in memory; only simd keeps them narrower than f32.',
  }),
  revision: text({
    defaults: { serve: undefined, queue: undefined },
    flag: '--revision',
    help: 'Branch, tag or commit on the Hub.',
  }),
  cacheDir: text({
    defaults: { serve: undefined, queue: undefined },
    flag: '--cache-dir',
    help: "A folder in place of Hugging Face's cache.",
  }),
  maxMegapixels: number({
    above: 0,
    defaults: { serve: SERVED_MEGAPIXELS, queue: 100 },
    flag: '--max-megapixels',
    help: 'The most pixels of an image, in millions, checked in its header.',
  }),
  maxBatch: integer({
    least: 1,
    most: 1024,
    defaults: { serve: 8, queue: 8 },
    flag: '--batch',
    help: 'Most images or questions that are computed together; results do not depend on it.',
  }),
} as const;

/** The server: where it listens, whom it serves, and what it allows a request. */
export const serverOptions = {
  host: text({ defaults: { serve: '127.0.0.1' }, flag: '--host', help: 'The address to listen on; 0.0.0.0 for all.' }),
  port: integer({
    least: 0,
    most: 65535,
    defaults: { serve: 11434 },
    flag: '--port',
    help: "The port to listen on, by default Ollama's; 0 for any that is free.",
  }),
  token: text({
    defaults: { serve: undefined },
    flag: '--token',
    help: 'What requests must bear (Authorization: Bearer); also as IMAGE2TEXT_TOKEN, which a list of processes does not show.',
  }),
  cors: texts({
    defaults: { serve: [] as readonly string[] },
    flag: '--cors',
    help: 'Origins whose pages may ask, with commas between them (https://example.com); * for all.',
  }),
  fetch: choice(['none', 'public', 'all'], {
    defaults: { serve: 'none', queue: 'public' },
    flag: '--fetch',
    help: 'Whether images are fetched from http addresses: not at all, from public hosts, or from private networks too.',
  }),
  prompts: choice(['auto', 'caption', 'answer', 'continue'], {
    defaults: { serve: 'auto' },
    flag: '--prompts',
    help: "What a prompt of Ollama's or OpenAI's API is: requests to describe caption and others are questions; always a caption; always a question; or the start of the text.",
  }),
  maxRequests: integer({
    least: 1,
    defaults: { serve: 256 },
    flag: '--max-requests',
    help: 'Most requests that are read, wait or are computed at once; more are refused with 503.',
  }),
  maxStreams: integer({
    least: 1,
    defaults: { serve: 8 },
    flag: '--max-streams',
    help: 'Most texts that are written word by word at once; more wait.',
  }),
  maxBody: integer({
    least: 1,
    defaults: { serve: 20 * MIB },
    flag: '--max-body',
    help: 'Most bytes of a request.',
  }),
  maxBuffered: integer({
    least: 1,
    defaults: { serve: 512 * MIB },
    flag: '--max-buffered',
    help: 'Most bytes of all requests at once; more are refused with 503.',
  }),
  maxPrompt: integer({
    least: 1,
    defaults: { serve: 4000 },
    flag: '--max-prompt',
    help: 'Most characters of a prompt, a question, a label or a text.',
  }),
  maxTexts: integer({
    least: 1,
    defaults: { serve: 1000 },
    flag: '--max-texts',
    help: 'Most labels or texts of one request.',
  }),
  maxBeams: integer({
    least: 1,
    most: 1024,
    defaults: { serve: 16 },
    flag: '--max-beams',
    help: 'Most beams, or texts of one image, that a request may ask for.',
  }),
  bodyTimeout: number({
    above: 0,
    defaults: { serve: 30 },
    flag: '--body-timeout',
    help: 'Seconds that a client may take to send its request.',
  }),
  timeout: number({
    above: 0,
    defaults: { serve: 120 },
    flag: '--timeout',
    help: 'Seconds from a request to the end of its answer.',
  }),
  grace: number({
    least: 0,
    defaults: { serve: 30 },
    flag: '--grace',
    help: 'Seconds that running requests have to end after SIGTERM.',
  }),
  accessLog: boolean({
    defaults: { serve: false },
    flag: '--access-log',
    help: 'Write a line of JSON to stdout for every request.',
  }),
} as const;

/** The queue on Redis. */
export const queueOptions = {
  redis: text({
    defaults: { add: 'redis://127.0.0.1:6379', work: 'redis://127.0.0.1:6379', status: 'redis://127.0.0.1:6379' },
    flag: '--redis',
    help: 'The address of Redis; also as REDIS_URL, which may hold a password.',
  }),
  queue: text({
    defaults: { add: 'image2text', work: 'image2text', status: 'image2text' },
    flag: '--queue',
    help: 'The name of the queue in Redis.',
  }),
  output: text({
    defaults: { add: undefined, merge: undefined },
    flag: '--output',
    help: 'Where results go: a folder that all workers see, or s3://bucket/prefix; of merge: the file.',
  }),
  shardSize: integer({
    least: 1,
    most: 1_000_000,
    defaults: { add: 500 },
    flag: '--shard-size',
    help: 'Most images of one shard: what one worker takes at a time.',
  }),
  prompt: text({ defaults: { add: undefined }, flag: '--prompt', help: 'Text that the captions go on from.' }),
  question: text({
    defaults: { add: undefined },
    flag: '--question',
    help: 'A question to answer in place of captions.',
  }),
  lock: number({
    least: 0.5,
    defaults: { work: 30 },
    flag: '--lock',
    help: 'Seconds without a sign of life after which the shard of a worker goes to another.',
  }),
  once: boolean({ defaults: { work: false }, flag: '--once', help: 'End when no shard is left.' }),
  partial: boolean({
    defaults: { merge: false },
    flag: '--partial',
    help: 'Merge what is there; by default all shards must be.',
  }),
} as const;

export type ServeOptions = OptionsFor<typeof serverOptions, 'serve'>;

/** Generation options and those of images that the library has flags for, without what `modelOptions` spells its own way. */
const { maxPixels: _, ...imageOptions } = IMAGE_OPTIONS;

export { generationOptions, imageOptions };

export type Declared = OptionDeclaration<never>;
export type { OptionTable };
