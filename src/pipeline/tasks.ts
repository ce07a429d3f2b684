import { OptionError } from '../errors.js';
import type { TokenListener } from '../generation/options.js';
import {
  type Answer,
  type AnswerOptions,
  type Caption,
  type CaptionOptions,
  promptIds,
} from '../image2text/captions.js';
import type { Image2Text } from '../image2text/image2text.js';
import { isImageBatch, withList } from '../image2text/input-loader.js';
import { isVideoInput, type VideoSource, type VisualInput, video } from '../image2text/inputs.js';
import type { ClassifyOptions, EmbedOptions } from '../image2text/scores.js';
import { readGeneration } from './generation-options.js';
import { checkSignal, readOptions, spellingsOf, withoutNulls, wrongType } from './options.js';
import { withStreamer } from './streaming.js';
import type { FeatureTensor, GeneratedText, ScoredLabel } from './types.js';

/** Tasks that give scores or features in place of texts. */

const LABEL_NAMES = spellingsOf(['topK', 'candidateLabels', 'prompt', 'method', 'trace', 'signal']);
const TOP = 5;

/** Images to the best of given names; `preset` are the names for calls that bring none. */
export const imageClassification = (preset: readonly string[] | undefined): Task =>
  classification('image-classification', preset, (image) => image);

export const videoClassification = (preset: readonly string[] | undefined): Task => {
  const classify = classification('video-classification', preset, asVideo);
  return (model, [videos, options]) => classify(model, [isImageBatch(videos) ? asVideo(videos) : videos, options]);
};

const classification =
  (task: string, preset: readonly string[] | undefined, asInput: (item: unknown) => unknown): Task =>
  async (model, [items, options]) => {
    const given = readOptions(options, LABEL_NAMES, task);
    const { candidateLabels, topK: _, prompt, method, ...rest } = withoutNulls(given);
    checkSignal(rest);
    const labels = candidateLabels === undefined ? preset : readLabels(candidateLabels);
    if (labels === undefined) {
      const detail = 'GIT has no classes of its own: give the names to choose from';
      throw new OptionError({ path: 'candidate_labels', code: 'missing', detail });
    }
    if (prompt !== undefined && typeof prompt !== 'string') wrongType('prompt', 'a text', prompt);
    if (method !== undefined && method !== 'exact' && method !== 'greedy')
      wrongType('method', 'exact or greedy', method);
    const top = method === 'greedy' ? {} : { topK: readTop(given['topK'], labels.length) };
    const asked = { ...rest, prompt, method, ...top } as ClassifyOptions;
    return forEachInput(items, (many) => classifyEach(model, many.map(asInput), labels, labels, asked));
  };

/** As in transformers.js. */
const HYPOTHESIS = 'This is a photo of {}';

const ZERO_SHOT_NAMES = spellingsOf(['hypothesisTemplate', 'trace', 'signal']);

/** Images and names to the names with their scores, all of them, best first. */
export const zeroShotImageClassification: Task = async (model, [images, candidates, options]) => {
  const labels = readLabels(candidates);
  const { hypothesisTemplate = HYPOTHESIS, ...rest } = withoutNulls(
    readOptions(options, ZERO_SHOT_NAMES, 'zero-shot-image-classification'),
  );
  checkSignal(rest);
  if (typeof hypothesisTemplate !== 'string') wrongType('hypothesis_template', 'a text', hypothesisTemplate);
  if (!hypothesisTemplate.includes('{}')) wrongType('hypothesis_template', 'a text with {}', hypothesisTemplate);
  const texts = labels.map((label) => hypothesisTemplate.split('{}').join(label));
  const asked = { ...rest, topK: Math.max(1, labels.length) } as ClassifyOptions;
  return forEachInput(images, (many) => classifyEach(model, many, labels, texts, asked));
};

/** Scores of `texts`, by the labels that they stand for. */
async function classifyEach(
  model: Image2Text,
  inputs: readonly unknown[],
  labels: readonly string[],
  texts: readonly string[],
  options: ClassifyOptions,
): Promise<ScoredLabel[][]> {
  const labelOf = new Map(texts.map((text, n) => [text, labels[n]!]));
  const rows: ScoredLabel[][] = [];
  for (const input of inputs) {
    const found = await model.classify(input as VisualInput, texts, options);
    rows.push(found.map(({ label, probability }) => ({ label: labelOf.get(label)!, score: probability })));
  }
  return rows;
}

/** Names to choose from. */
export function readLabels(value: unknown): readonly string[] {
  if (Array.isArray(value) && value.every((label) => typeof label === 'string')) return value;
  return wrongType('candidate_labels', 'a list of texts', value);
}

/** 0 and null are all, as in transformers.js. */
function readTop(value: unknown, all: number): number {
  if (value === null || value === 0) return Math.max(1, all);
  if (value === undefined) return TOP;
  if (typeof value === 'number' && Number.isInteger(value) && value > 0) return value;
  throw new OptionError({
    path: 'top_k',
    code: 'out-of-range',
    detail: `expected a whole number from 0, found ${String(value)}`,
  });
}

const FEATURE_NAMES = spellingsOf(['pool', 'stage', 'signal']);

/** Images to features: [images, tokens, D], pooled [images, D]. */
export const imageFeatureExtraction: Task = async (model, [images, options]) => {
  const { pool = false, ...rest } = withoutNulls(readOptions(options, FEATURE_NAMES, 'image-feature-extraction'));
  checkSignal(rest);
  const asked = { ...rest, pool: pool === true ? 'class' : pool === false ? 'none' : pool } as EmbedOptions;
  const embeddings: Awaited<ReturnType<Image2Text['embed']>>[] = [];
  await forEachInput(images, async (many) => {
    for (const image of many) embeddings.push(await model.embed(image as VisualInput, asked));
    return [undefined];
  });
  const [first] = embeddings;
  const shape = first?.shape ?? [];
  const odd = embeddings.find((one) => String(one.shape) !== String(shape));
  if (odd !== undefined) {
    const detail = `[${shape}] and [${odd.shape}] do not fit into one tensor: give these images one by one`;
    throw new OptionError({ path: 'images', code: 'shapes-differ', detail });
  }
  const length = first?.data.length ?? 0;
  const data = new Float32Array(length * embeddings.length);
  for (const [n, one] of embeddings.entries()) data.set(one.data, n * length);
  return featureTensor(data, [embeddings.length, ...shape]);
};

const featureTensor = (data: Float32Array, dims: readonly number[]): FeatureTensor => ({
  dims,
  type: 'float32',
  data,
  size: data.length,
  tolist: () => nested(data, dims),
});

function nested(data: Float32Array, [first = 0, ...rest]: readonly number[]): unknown[] {
  if (rest.length === 0) return [...data];
  const length = data.length / first;
  return Array.from({ length: first }, (_, n) => nested(data.subarray(n * length, (n + 1) * length), rest));
}

/** Tasks that generate texts. */

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
  const results = await withList(input as VisualInput | readonly VisualInput[], body);
  return Array.isArray(input) || isImageBatch(input) ? results : results[0]!;
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
