import { OptionError, TokenizerError } from '../errors.js';
import { logProbsWithoutImage } from '../explain/explanation.js';
import { generate, streamTokens } from '../generation/generate.js';
import type { GenerationConfig } from '../generation/generation-config.js';
import type { GenerateOptions, StreamOptions } from '../generation/options.js';
import type { Finish, GeneratedSequence, SessionSource, TokenEvent, VocabularyFacts } from '../generation/session.js';
import type { Trace } from '../layers/tidy.js';
import { eventSink } from '../load-events.js';
import type { Git, ImageCache } from '../model/git.js';
import { disposeCache } from '../model/git.js';
import { startSession } from '../model/git-session.js';
import type { OptionsFor } from '../options.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import type { ModelInput } from './encoded-image.js';
import { batches, encodeInput, withEncodedImages } from './encoded-image.js';
import type { CheckedCall, Method, methodOptions, TokenStreamer } from './method-options.js';

/** One generated token. */
export interface Token {
  readonly id: number;
  /** Its word piece: `sign`, `##ed`, `[SEP]`. */
  readonly piece: string;
  /** Natural logarithm of its probability under the model, before any processor. */
  readonly logProb: number;
  /** With `evidence`: what the image adds to it, `logProb` minus the same of the decoder without any image. */
  readonly evidence?: number;
}

/** A generated text. */
export interface Caption {
  /** Words, without special tokens, without the prompt. */
  readonly text: string;
  /** What the search ranks by: the sum of log-probabilities for greedy and sampling, else normalized by length as the search defines it. */
  readonly score: number;
  /** Sum of the tokens' log-probabilities. */
  readonly logProb: number;
  /** Geometric mean of the tokens' probabilities, 0 to 1: comparable between texts of different length. */
  readonly confidence: number;
  /** The new tokens, the end token included if there is one. */
  readonly tokens: readonly Token[];
  readonly finish: Finish;
  /** The next best, best first, where `numReturnSequences` asks for more than one. */
  readonly alternatives: readonly Caption[];
}

/** The answer to a question: `text` is the answer alone. */
export interface Answer extends Caption {
  readonly question: string;
}

/** Texts, where ids are asked for below. */
export interface TextRules {
  /** Words and phrases, or lists of token ids, that must not appear. */
  readonly badWords?: readonly (string | readonly number[])[] | undefined;
  /** Pairs of a text, or a list of token ids, and what is added to the score of its last token. */
  readonly sequenceBias?: readonly (readonly [sequence: string | readonly number[], bias: number])[] | undefined;
}
type WithTexts<Options> = Options extends unknown ? Omit<Options, keyof TextRules> & TextRules : never;
type OwnOptions<Taker extends Method> = OptionsFor<typeof methodOptions, Taker>;

/** What calls about images accept. */
export type CallOptions = Pick<OwnOptions<'caption'>, 'batchSize' | 'trace' | 'signal'>;

/** Options of `answer`. */
export type AnswerOptions = WithTexts<GenerateOptions> & OwnOptions<'answer'>;

/** Options of `caption`. */
export type CaptionOptions = WithTexts<GenerateOptions> & OwnOptions<'caption'>;

/** Options of `stream`. */
export type CaptionStreamOptions = WithTexts<Partial<StreamOptions>> & OwnOptions<'stream'>;

/** What texts are made and read with. */
export interface TextContext {
  readonly git: Git;
  readonly tokenizer: Tokenizer;
  /** The checkpoint's generation_config.json, where it has one. */
  readonly generationConfig?: GenerationConfig | undefined;
}

/** An image or video and the prompts to go on from. It is encoded once for all of them. */
export interface Task extends ModelInput {
  readonly prompts: readonly (readonly number[])[];
}

/** What generation needs to know of the vocabulary. */
export const vocabularyOf = ({ git: { config }, tokenizer, generationConfig }: TextContext): VocabularyFacts => ({
  size: config.vocabSize,
  bosId: config.bosTokenId,
  eosIds: sepFirst(generationConfig?.eosTokenIds ?? config.eosTokenIds, tokenizer.sepId),
  textOf: (id) => {
    const piece = pieceOf(tokenizer, id);
    return piece.startsWith('##') ? piece.slice(2) : ` ${piece}`;
  },
});

/** The model learned to close its texts with [SEP], so that is the end token that scores count, wherever it is in the list. */
const sepFirst = (ids: readonly number[], sepId: number): readonly number[] =>
  ids.includes(sepId) ? [sepId, ...ids.filter((id) => id !== sepId)] : ids;

/** More tokens than any model has positions (`max_position_embeddings`): what is longer is refused all the same, without being tokenized. */
const MOST_TOKENS = 2 ** 16 + 1;

/** The tokens of a caller's text. */
export const textIds = (tokenizer: Tokenizer, text: string): number[] =>
  tokenizer.encode(text, { addSpecialTokens: false, maxLength: MOST_TOKENS, truncationSide: 'right' });

/** [CLS] and the words of a prompt, without [SEP]: the text goes on from there. */
export const promptIds = (tokenizer: Tokenizer, prompt = ''): number[] => [
  tokenizer.clsId,
  ...textIds(tokenizer, prompt),
];

/** Most tokens of a question in the original, [CLS] and [SEP] counted. */
const QUESTION_TOKENS = 40;

/** A question as the original prompts with it: its first 40 tokens, of those the last 38, after [CLS] and without [SEP]. */
export function questionIds(tokenizer: Tokenizer, question: string): number[] {
  if (question.trim() === '') throw new OptionError({ path: 'question', code: 'empty', detail: 'ask something' });
  const ids = tokenizer.encode(question, { addSpecialTokens: false, maxLength: QUESTION_TOKENS });
  return [tokenizer.clsId, ...ids.slice(-(QUESTION_TOKENS - 2))];
}

/** A session with one row for each of `images`, the places of their images in the cache. */
export const sessionOver =
  (git: Git, image: ImageCache, images: readonly number[], trace?: Trace): SessionSource =>
  () => {
    const session = startSession(git, image, trace);
    session.reorder(images);
    return session;
  };

/**
 * Generates texts for every prompt of every task: `[task][prompt][rank]`. Every image is encoded once. Tasks of one size are decoded
 * together, at most `batchSize` rows at a time (results do not depend on it).
 */
export async function writeSequences(
  context: TextContext,
  tasks: readonly Task[],
  options: GenerateOptions,
  scope: { readonly signal: AbortSignal; readonly batchSize?: number | undefined; readonly trace?: Trace | undefined },
): Promise<GeneratedSequence[][][]> {
  const { batchSize = 8, signal, trace } = scope;
  const results: GeneratedSequence[][][] = [];
  let before = 0; // rows of earlier batches: a listener is called with rows of the whole call
  for (const batch of batches(tasks, batchSize)) {
    const rows = batch.flatMap(({ prompts }, image) => prompts.map((prompt) => ({ prompt, image })));
    await withEncodedImages(context.git, batch, { signal, trace }, async (image) => {
      const found: GeneratedSequence[][] = [];
      for (let at = 0; at < rows.length; at += batchSize) {
        const part = rows.slice(at, at + batchSize);
        const open = sessionOver(
          context.git,
          image,
          part.map(({ image }) => image),
          trace,
        );
        const given = { ...shiftListener(options, before + at), signal };
        found.push(
          ...(await generate(
            open,
            vocabularyOf(context),
            given,
            part.map(({ prompt }) => prompt),
          )),
        );
      }
      for (const { prompts } of batch) results.push(found.splice(0, prompts.length));
    });
    before += rows.length;
  }
  return results;
}

/** The listener is called with the place of a row in the whole call, not in its batch. */
function shiftListener(options: GenerateOptions, first: number): GenerateOptions {
  const onToken = 'onToken' in options ? options.onToken : undefined;
  if (onToken === undefined || first === 0) return options;
  return {
    ...options,
    onToken: (event: TokenEvent) => onToken({ ...event, row: event.row + first }),
  } as GenerateOptions;
}

/** Feeds a streamer as transformers.js does: prompt, tokens one by one, end. */
export function withStreamer(
  options: GenerateOptions,
  streamer: TokenStreamer | undefined,
  prompt: readonly number[] = [],
): GenerateOptions {
  if (streamer === undefined) return options;
  if (options.strategy !== 'greedy' && options.strategy !== 'sample') {
    throw new OptionError({
      path: 'streamer',
      code: 'not-streamable',
      detail: 'needs strategy greedy or sample: beams change their words until the end',
    });
  }
  const inner = options.onToken;
  const put = eventSink((ids: bigint[][]) => streamer.put(ids));
  const end = eventSink(() => streamer.end());
  let started = false;
  const onToken = async (event: TokenEvent): Promise<unknown> => {
    if (event.row !== 0 || event.sample !== 0)
      throw new OptionError({ path: 'streamer', code: 'one-row', detail: 'streams one text at a time' });
    if (!started) put([prompt.map(BigInt)]);
    started = true;
    put([[BigInt(event.id)]]);
    const answer = await inner?.(event);
    if (event.finish !== undefined || answer === false) end();
    return answer;
  };
  return { ...options, onToken };
}

/** What the tokens of texts have as log-probabilities without the image, where that was asked for. */
export type WithoutImage = ReadonlyMap<GeneratedSequence, readonly number[]>;

/** The log-probabilities without any image of all sequences, `batchSize` at a time. */
export async function readWithoutImage(
  { git }: TextContext,
  sequences: readonly GeneratedSequence[],
  scope: { readonly signal: AbortSignal; readonly batchSize?: number | undefined },
): Promise<WithoutImage> {
  const rows = sequences.map(({ ids, newIds }) => ({ ids, promptLength: ids.length - newIds.length }));
  const found = await logProbsWithoutImage(git, rows, scope);
  return new Map(sequences.map((sequence, n) => [sequence, found[n]!]));
}

/** The best sequence as a caption, the others as its alternatives. */
export function toCaption(
  tokenizer: Tokenizer,
  sequences: readonly GeneratedSequence[],
  without?: WithoutImage,
): Caption {
  const [best, ...others] = sequences;
  const alternatives = others.map((other) => toCaption(tokenizer, [other], without));
  return { ...toText(tokenizer, best!, without?.get(best!)), alternatives };
}

export const toAnswer = (
  tokenizer: Tokenizer,
  question: string,
  sequences: readonly GeneratedSequence[],
  without?: WithoutImage,
): Answer => ({ question, ...toCaption(tokenizer, sequences, without) });

function toText(
  tokenizer: Tokenizer,
  sequence: GeneratedSequence,
  without: readonly number[] | undefined,
): Omit<Caption, 'alternatives'> {
  const { newIds, tokenLogProbs, logProb, score, finish } = sequence;
  const tokens = newIds.map((id, n) => ({
    ...{ id, piece: pieceOf(tokenizer, id), logProb: tokenLogProbs[n]! },
    ...(without === undefined ? {} : { evidence: tokenLogProbs[n]! - without[n]! }),
  }));
  return {
    text: newText(tokenizer, sequence),
    score,
    logProb,
    confidence: meanProbability(logProb, newIds.length),
    tokens,
    finish,
  };
}

/** Geometric mean of `count` probabilities whose logarithms sum to `logProb`. */
export const meanProbability = (logProb: number, count: number): number =>
  count === 0 ? 0 : Math.exp(logProb / count);

/**
 * The word piece of a generated id. A model may have more rows in its word table than the vocabulary has words, but it never learned to write those:
 *
 * @throws TokenizerError where it does, because the vocabulary is then cut, or another model's.
 */
export function pieceOf(tokenizer: Tokenizer, id: number): string {
  if (id < tokenizer.vocabSize) return tokenizer.tokenOf(id);
  const detail = `the model wrote word ${id}, the vocabulary has ${tokenizer.vocabSize}: is the vocabulary file whole?`;
  throw new TokenizerError({ code: 'word-outside-vocabulary', detail });
}

/** The text of the new tokens as it follows the prompt's: a piece that goes on a word of the prompt does so. */
function newText(tokenizer: Tokenizer, { ids, newIds }: GeneratedSequence): string {
  const stream = tokenizer.detokenizer({ skipSpecialTokens: true });
  for (const id of ids.slice(0, ids.length - newIds.length)) stream.push(id);
  const text = newIds.map((id) => stream.push(id));
  return (text.join('') + stream.flush()).trimStart();
}

/**
 * Text as it is written, over one image: pieces whose concatenation is the caption. Leaving the loop early stops the model.
 */
export async function* streamText(
  context: TextContext,
  input: ModelInput,
  { own: { prompt, question, trace }, generation }: CheckedCall<'stream'>,
  signal: AbortSignal,
): AsyncGenerator<string, void, void> {
  const { git, tokenizer } = context;
  if (prompt !== undefined && question !== undefined) {
    throw new OptionError({ path: 'question', code: 'conflict', detail: 'give a prompt or a question, not both' });
  }
  const ids = question === undefined ? promptIds(tokenizer, prompt) : questionIds(tokenizer, question);
  const detokenizer = tokenizer.detokenizer({ skipSpecialTokens: true });
  for (const id of ids) detokenizer.push(id);
  let first = true;
  const clean = (piece: string): string => {
    const text = first ? piece.trimStart() : piece; // the space between prompt and text belongs to neither
    first &&= text === '';
    return text;
  };
  const known = (id: number): number => {
    pieceOf(tokenizer, id); // refuses a word that the vocabulary does not have
    return id;
  };
  const options = { ...generation, signal } as StreamOptions;
  input.held?.retain();
  const image = input.held?.image ?? (await encodeInput(git, input, { signal, trace }));
  try {
    for await (const { id } of streamTokens(sessionOver(git, image, [0], trace), vocabularyOf(context), options, [
      ids,
    ])) {
      const piece = clean(detokenizer.push(known(id)));
      if (piece !== '') yield piece;
    }
  } finally {
    if (input.held === undefined) disposeCache(image);
    else input.held.release();
  }
  const tail = clean(detokenizer.flush());
  if (tail !== '') yield tail;
}
