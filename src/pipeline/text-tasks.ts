/** Tasks that generate texts. */
import { OptionError } from '../errors.js';
import type { TokenListener } from '../generation/options.js';
import type { Answer, AnswerOptions, Caption, CaptionOptions } from '../image2text/captions.js';
import { promptIds } from '../image2text/captions.js';
import type { Image2Text } from '../image2text/image2text.js';
import type { VideoSource, VisualInput } from '../image2text/inputs.js';
import { isVideoInput, video } from '../image2text/inputs.js';
import { imagesOf, isImageBatch } from '../image2text/tensor-images.js';
import { readGeneration } from './generation-options.js';
import { wrongType } from './options.js';

import { withStreamer } from './streaming.js';
import type { GeneratedText } from './types.js';

/** A pipeline's work: what it was called with becomes what it returns. */
export type Task = (model: Image2Text, inputs: readonly unknown[]) => Promise<unknown>;

/** Images to texts. */
export const imageToText: Task = (model, inputs) => captionEach('image-to-text', model, inputs, (image) => image);

/** Videos to texts. */
export const videoToText: Task = (model, inputs) => captionEach('video-to-text', model, inputs, asVideo);

/** Where a task is about videos, whatever is given means one. */
export const asVideo = (source: unknown): VisualInput => (isVideoInput(source) ? source : video(source as VideoSource));

/** Runs `body` for a list, the images of a tensor of rank 4, or one input; one gives one result. */
export async function forEachInput<T>(input: unknown, body: (many: readonly unknown[]) => Promise<T[]>) {
  if (Array.isArray(input)) return body(input);
  if (!isImageBatch(input)) return (await body([input]))[0]!;
  const images = imagesOf(input);
  try {
    return await body(images);
  } finally {
    for (const image of images) image.dispose();
  }
}

async function captionEach(
  task: string,
  model: Image2Text,
  [items, options]: readonly unknown[],
  asInput: (item: unknown) => unknown,
): Promise<GeneratedText[] | GeneratedText[][]> {
  const { generation, own } = readGeneration(options, task, 'caption', model, ['prompt']);
  const { prompt } = own;
  if (prompt !== undefined && typeof prompt !== 'string') wrongType('prompt', 'a text', prompt);
  const given = { ...generation, prompt } as CaptionOptions;
  const texts = (best: Caption): GeneratedText[] =>
    [best, ...best.alternatives].map((caption) => ({ generated_text: wholeText(model, prompt, caption) }));
  if (task === 'video-to-text' && isImageBatch(items)) items = asVideo(items);
  return forEachInput(items, async (many) => {
    const inputs = many.map(asInput) as readonly VisualInput[];
    if (given.streamer === undefined) return (await model.caption(inputs, given)).map(texts);
    const found: GeneratedText[][] = [];
    for (const [row, input] of inputs.entries()) {
      const numbered = withRows(given, [row]);
      found.push(texts(await withStreamer(numbered, (ready) => model.caption(input, ready))));
    }
    return found;
  });
}

/** The text with its prompt, which Python's pipeline gives back too. */
function wholeText(model: Image2Text, prompt: string | undefined, { text, tokens }: Caption): string {
  if (prompt === undefined) return text;
  const ids = [...promptIds(model.tokenizer, prompt), ...tokens.map(({ id }) => id)];
  return decodeKnown(model, ids).trim();
}

/** Ids as text, without special tokens. */
export const decodeKnown = ({ tokenizer }: Image2Text, ids: readonly number[]): string =>
  tokenizer.decode(
    ids.filter((id) => id < tokenizer.vocabSize),
    { skipSpecialTokens: true },
  );

/** An answer's length where nobody says one: Hugging Face's 20 would count the question, and leave nothing behind a long one. */
const ANSWER_TOKENS = 20;

/** The options of answers, with their length. */
export function answerOptions(generation: CaptionOptions, { generationConfig }: Image2Text): AnswerOptions {
  const { maxLength, maxNewTokens = generationConfig?.options['maxNewTokens'] } = generation;
  const hasLength = maxLength !== undefined || maxNewTokens !== undefined;
  return (hasLength ? generation : { ...generation, maxNewTokens: ANSWER_TOKENS }) as AnswerOptions;
}

/** One question about one image or video. */
export interface Request {
  readonly subject: VisualInput;
  /** What the caller gave: what comes twice is encoded once. */
  readonly source: unknown;
  readonly question: string;
}

/** Questions to answers with their scores. An image or video that comes more than once is encoded once. */
export const visualQuestionAnswering: Task = (model, inputs) =>
  answerEach('visual-question-answering', model, inputs, ({ text, confidence }) => ({
    answer: text,
    score: confidence,
  }));

/** The same without scores. */
export const documentQuestionAnswering: Task = (model, inputs) =>
  answerEach('document-question-answering', model, inputs, ({ text }) => ({ answer: text }));

async function answerEach<Row>(
  task: string,
  model: Image2Text,
  inputs: readonly unknown[],
  toRow: (answer: Caption) => Row,
): Promise<Row[] | Row[][]> {
  const [first, second, third] = inputs;
  const isText = typeof second === 'string' || Array.isArray(second);
  const options = answerOptions(
    readGeneration(isText ? third : second, task, 'answer', model).generation as CaptionOptions,
    model,
  );
  const answer = async (requests: readonly Request[]): Promise<Row[][]> => {
    const answers = await answerAll(model, requests, options);
    return answers.map((best) => [best, ...best.alternatives].map(toRow));
  };
  if (!isText) return forEachInput(first, (pairs) => answer(pairs.map(readPair)));
  if (Array.isArray(first) && Array.isArray(second)) {
    const detail = 'several images and several questions: give a list of { image, question }';
    throw new OptionError({ path: 'question', code: 'ambiguous', detail });
  }
  const questions: readonly unknown[] = Array.isArray(second) ? second : [second];
  const ask = (subjects: readonly unknown[]) =>
    answer(
      subjects.flatMap((subject) =>
        questions.map((question) => ({
          subject: subject as VisualInput,
          source: subject,
          question: readQuestion(question),
        })),
      ),
    );
  return Array.isArray(second) ? ask([first]) : forEachInput(first, ask);
}

/** Answers to all requests, in their order. Calls about several images are made at once, so that the model can batch them. */
export async function answerAll(
  model: Image2Text,
  requests: readonly Request[],
  options: AnswerOptions,
): Promise<Answer[]> {
  const answers: Answer[] = [];
  const groups = options.streamer === undefined ? bySubject(requests) : requests.map((_, row) => [row]); // streamed one by one
  const answerGroup = async (rows: readonly number[], signal: AbortSignal | undefined): Promise<void> => {
    const { subject } = requests[rows[0]!]!;
    const questions = rows.map((row) => requests[row]!.question);
    const given = { ...withRows(options as CaptionOptions, rows), signal };
    const found = await withStreamer(given, (ready) => model.answer(subject, questions, ready as AnswerOptions));
    for (const [n, answer] of found.entries()) answers[rows[n]!] = answer;
  };
  const hasListener = ('onToken' in options && options.onToken !== undefined) || options.streamer !== undefined;
  await atMost(hasListener ? 1 : CALLS_AT_ONCE, groups, options.signal, answerGroup);
  return answers;
}

/** As many calls are made at once as a batch of the model usually has rows. */
const CALLS_AT_ONCE = 8;

/** Runs `body` for all items, at most `limit` at a time. The first failure ends the others, and is thrown when they have stopped. */
async function atMost<T>(
  limit: number,
  items: readonly T[],
  signal: AbortSignal | undefined | null,
  body: (item: T, signal: AbortSignal | undefined) => Promise<void>,
): Promise<void> {
  const given = signal ?? undefined;
  if (limit === 1 || items.length <= 1) {
    for (const item of items) await body(item, given);
    return;
  }
  const failed = new AbortController();
  const either = given === undefined ? failed.signal : AbortSignal.any([given, failed.signal]);
  let failure: { readonly error: unknown } | undefined;
  const rest = [...items];
  const work = async (): Promise<void> => {
    for (let item = rest.shift(); item !== undefined && failure === undefined; item = rest.shift()) {
      try {
        await body(item, either);
      } catch (error) {
        failure ??= { error };
        failed.abort(error);
      }
    }
  };
  await Promise.all(Array.from({ length: limit }, work));
  if (failure !== undefined) throw failure.error;
}

/** Places of the requests that share an image or video. */
function bySubject(requests: readonly Request[]): number[][] {
  const groups = { image: new Map<unknown, number[]>(), video: new Map<unknown, number[]>() };
  requests.forEach(({ subject, source }, row) => {
    const group = groups[isVideoInput(subject) ? 'video' : 'image'];
    const rows = group.get(source);
    if (rows === undefined) group.set(source, [row]);
    else rows.push(row);
  });
  return [...groups.image.values(), ...groups.video.values()];
}

/** The listener is called with rows of the whole call. */
function withRows(options: CaptionOptions, rows: readonly number[]): CaptionOptions {
  const onToken = 'onToken' in options ? options.onToken : undefined;
  if (onToken === undefined) return options;
  const listener: TokenListener = (event) => onToken({ ...event, row: rows[event.row]! });
  return { ...options, onToken: listener } as CaptionOptions;
}

function readPair(pair: unknown): Request {
  if (typeof pair === 'object' && pair !== null && 'question' in pair) {
    const question = readQuestion(pair.question);
    if ('image' in pair && !('video' in pair))
      return { subject: pair.image as VisualInput, source: pair.image, question };
    if ('video' in pair && !('image' in pair)) return { subject: asVideo(pair.video), source: pair.video, question };
  }
  const detail = 'expected an image and a question, or { image, question }, or { video, question }';
  throw new OptionError({ path: 'question', code: 'wrong-type', detail });
}

function readQuestion(question: unknown): string {
  if (typeof question === 'string') return question;
  return wrongType('question', 'a text', question);
}
