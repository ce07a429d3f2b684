import { OptionError } from '../errors.js';
import type { TokenListener } from '../generation/options.js';
import type { Answer, AnswerOptions, CaptionOptions } from '../image2text/captions.js';
import type { Image2Text } from '../image2text/image2text.js';
import type { VisualInput } from '../image2text/inputs.js';
import { isVideoInput } from '../image2text/inputs.js';
import { readOptions, wrongType } from './option-names.js';
import { withStreamer } from './streaming.js';
import type { Task } from './text-tasks.js';
import { asVideo } from './text-tasks.js';
import type { ScoredAnswer } from './types.js';
import { WRITING_OPTIONS, writingOptions } from './writing-options.js';

/** An answer's length where the caller says none: Hugging Face's 20 would count the question, and leave nothing behind a long one. */
const ANSWER_TOKENS = 20;

/** One question about one image or video. */
interface Request {
  readonly subject: VisualInput;
  /** What the caller gave: what comes twice is encoded once. */
  readonly source: unknown;
  readonly question: string;
}

/** Questions to answers. An image or video that comes more than once is encoded once. */
export const visualQuestionAnswering: Task = async (model, inputs) => {
  const { requests, listed, options } = readInputs(inputs);
  const read = writingOptions(readOptions(options, WRITING_OPTIONS, 'visual-question-answering'));
  const lengthSaid = read.maxLength !== undefined || read.maxNewTokens !== undefined;
  const given = (lengthSaid ? read : { ...read, maxNewTokens: ANSWER_TOKENS }) as CaptionOptions;
  const answers = await withStreamer(given, requests.length, (ready) => answerAll(model, requests, ready));
  const rows = answers.map((best) =>
    [best, ...best.alternatives].map(({ text, confidence }): ScoredAnswer => ({ answer: text, score: confidence })),
  );
  return listed ? rows : rows[0]!;
};

async function answerAll(model: Image2Text, requests: readonly Request[], options: AnswerOptions): Promise<Answer[]> {
  const answers: Answer[] = [];
  for (const rows of bySubject(requests)) {
    const { subject } = requests[rows[0]!]!;
    const questions = rows.map((row) => requests[row]!.question);
    const given = listenToRows(options, rows);
    const found = await model.answer(subject, questions, given);
    found.forEach((answer, n) => {
      answers[rows[n]!] = answer;
    });
  }
  return answers;
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

/** The listener hears a question's place in the whole call. */
function listenToRows(options: AnswerOptions, rows: readonly number[]): AnswerOptions {
  const onToken = 'onToken' in options ? options.onToken : undefined;
  if (onToken === undefined) return options;
  const listener: TokenListener = (event) => onToken({ ...event, row: rows[event.row]! });
  return { ...options, onToken: listener } as AnswerOptions;
}

/** All forms in which Python's and transformers.js's pipelines take images and questions. */
function readInputs([first, second, third]: readonly unknown[]): {
  readonly requests: readonly Request[];
  readonly listed: boolean;
  readonly options: unknown;
} {
  const isText = typeof second === 'string' || Array.isArray(second);
  if (!isText) {
    const pairs: readonly unknown[] = Array.isArray(first) ? first : [first];
    return { requests: pairs.map(readPair), listed: Array.isArray(first), options: second };
  }
  if (Array.isArray(first) && Array.isArray(second)) {
    const detail = 'several images and several questions: give a list of { image, question }';
    throw new OptionError({ path: 'question', code: 'ambiguous', detail });
  }
  const subjects: readonly unknown[] = Array.isArray(first) ? first : [first];
  const questions: readonly unknown[] = Array.isArray(second) ? second : [second];
  const requests = subjects.flatMap((subject) =>
    questions.map((question) => ({
      subject: subject as VisualInput,
      source: subject,
      question: readQuestion(question),
    })),
  );
  return { requests, listed: Array.isArray(first) || Array.isArray(second), options: third };
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
