import { OptionError } from '../errors.js';
import { generate } from '../generation/generate.js';
import type { GenerateOptions } from '../generation/options.js';
import type { GeneratedSequence, TokenEvent, VocabularyFacts } from '../generation/types.js';
import type { Git } from '../model/git.js';
import { startSession } from '../model/git-session.js';
import type { Trace } from '../model/trace.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import type { ModelInput } from './encode.js';
import { batches, withImageCache } from './encode.js';
import type { Caption, CaptionOptions } from './types.js';

/** What the model needs to know to write. */
export interface Writer {
  readonly git: Git;
  readonly tokenizer: Tokenizer;
}

/** What generation needs to know of the vocabulary. */
export const vocabularyOf = ({ config }: Git): VocabularyFacts => ({
  size: config.vocabSize,
  bosId: config.bosTokenId,
  eosId: config.eosTokenId,
});

/** [CLS] and the words of a prompt, without [SEP]: the text goes on from there. */
export const promptIds = (tokenizer: Tokenizer, prompt = ''): number[] => [
  tokenizer.clsId,
  ...tokenizer.encode(prompt, { addSpecialTokens: false }),
];

/**
 * Generates one text for each input from its prompt; every input is encoded once. Inputs of one size are decoded together,
 * at most `batchSize` (results do not depend on it).
 */
export async function writeSequences(
  writer: Writer,
  inputs: readonly (ModelInput & { readonly prompt: readonly number[] })[],
  options: GenerateOptions,
  scope: { readonly signal: AbortSignal; readonly batchSize?: number | undefined; readonly trace?: Trace | undefined },
): Promise<GeneratedSequence[][]> {
  const { batchSize = 8, signal, trace } = scope;
  if (!Number.isInteger(batchSize) || batchSize < 1) {
    throw new OptionError({
      place: 'batchSize',
      rule: 'out-of-range',
      detail: `expected a whole number from 1, found ${batchSize}`,
    });
  }
  const results: GeneratedSequence[][] = [];
  for (const batch of batches(inputs, batchSize)) {
    const first = results.length;
    const found = await withImageCache(writer.git, batch, { signal, trace }, (image) =>
      generate(
        () => startSession(writer.git, image, trace),
        vocabularyOf(writer.git),
        { ...shiftListener(options, first), signal },
        batch.map(({ prompt }) => prompt),
      ),
    );
    results.push(...found);
  }
  return results;
}

/** The listener hears the place of a picture in the whole call, not in its batch. */
function shiftListener(options: GenerateOptions, first: number): GenerateOptions {
  const onToken = 'onToken' in options ? options.onToken : undefined;
  if (onToken === undefined || first === 0) return options;
  return {
    ...options,
    onToken: (event: TokenEvent) => onToken({ ...event, row: event.row + first }),
  } as GenerateOptions;
}

/** Options of generation, apart from those that are the hall's. */
export function splitOptions(options: CaptionOptions): {
  readonly generation: GenerateOptions;
  readonly prompt: string | undefined;
  readonly scope: { readonly batchSize: number | undefined; readonly trace: Trace | undefined };
  readonly signal: AbortSignal | undefined;
} {
  const { prompt, batchSize, trace, ...generation } = options;
  return { generation, prompt, scope: { batchSize, trace }, signal: options.signal };
}

/** The best sequence as a caption, the others as its alternatives. */
export function toCaption(tokenizer: Tokenizer, sequences: readonly GeneratedSequence[]): Caption {
  const [best, ...others] = sequences;
  return { ...toText(tokenizer, best!), alternatives: others.map((other) => toCaption(tokenizer, [other])) };
}

function toText(tokenizer: Tokenizer, sequence: GeneratedSequence): Omit<Caption, 'alternatives'> {
  const { newIds, tokenLogProbs, logProb, score, finish } = sequence;
  return {
    text: newText(tokenizer, sequence),
    score,
    logProb,
    confidence: newIds.length === 0 ? 0 : Math.exp(logProb / newIds.length),
    tokens: newIds.map((id, n) => ({ id, piece: pieceOf(tokenizer, id), logProb: tokenLogProbs[n]! })),
    finish,
  };
}

/** A model may have more rows in its word table than the vocabulary has words. */
export const pieceOf = (tokenizer: Tokenizer, id: number): string =>
  id < tokenizer.vocabSize ? tokenizer.tokenOf(id) : `[unused ${id}]`;

/** The text of the new tokens as it follows the prompt's: a piece that goes on a word of the prompt does so. */
function newText(tokenizer: Tokenizer, { ids, newIds }: GeneratedSequence): string {
  const stream = tokenizer.detokenizer({ skipSpecialTokens: true });
  const known = (id: number) => id < tokenizer.vocabSize;
  for (const id of ids.slice(0, ids.length - newIds.length)) stream.push(id);
  const text = newIds.filter(known).map((id) => stream.push(id));
  return (text.join('') + stream.flush()).trimStart();
}
