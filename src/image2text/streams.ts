import { OptionError } from '../errors.js';
import { streamTokens } from '../generation/generate.js';
import type { StreamOptions } from '../generation/options.js';
import { disposeCache } from '../model/kv-cache.js';
import type { Writer } from './captions.js';
import { pieceOf, promptIds, questionIds, sessionOver, vocabularyOf } from './captions.js';
import type { ModelInput } from './encode.js';
import { encodeOne } from './encode.js';
import type { CaptionStreamOptions } from './types.js';

/**
 * Text as it is written, over one image: pieces whose concatenation is the caption. Leaving the loop early stops the model.
 */
export async function* streamText(
  { git, tokenizer }: Writer,
  input: ModelInput,
  options: CaptionStreamOptions & { readonly signal: AbortSignal },
): AsyncGenerator<string, void, void> {
  const { prompt, question, trace, ...rest } = options;
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
  const generation = { strategy: 'greedy', ...rest } as StreamOptions;
  const image = input.held?.image ?? encodeOne(git, input, trace);
  input.held?.retain();
  try {
    for await (const { id } of streamTokens(sessionOver(git, image, [0], trace), vocabularyOf(git), generation, [
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
