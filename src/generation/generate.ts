import { fail } from '../options.js';
import { beamSearch, runBeams } from './beam-search.js';
import {
  type CheckedOptions,
  checkGenerateOptions,
  type GenerateOptions,
  type Strategy,
  type StreamOptions,
  type TokenListener,
} from './options.js';
import { autoregressiveSearch, originalBeamSearch } from './original-beam-search.js';
import type { GeneratedSequence, SearchScope, SessionSource, TokenEvent, VocabularyFacts } from './session.js';
import { checkPrompts, checkVocabulary, searchScope, withSession } from './session.js';
import { singleSearch } from './single-search.js';

/**
 * Generates for all images of a session by the strategy that the options name; `{}` is the original's beam search. Returns
 * `[image][rank or sample]`. Every row equals the one that its image alone would give.
 *
 * The session is opened after the options are checked and disposed of in every case: success, error, abort.
 *
 * prompts: token ids, one list for each image (lengths may differ), [bosId] alone by default.
 *
 * @throws OptionError naming the option or prompt, also `all-forbidden` when the rules leave no token; BackendError `logits-not-finite`; the
 *   signal's reason as soon as a step is over.
 */
export async function generate(
  open: SessionSource,
  vocabulary: VocabularyFacts,
  options: GenerateOptions = {},
  prompts?: readonly (readonly number[])[],
): Promise<GeneratedSequence[][]> {
  checkVocabulary(vocabulary);
  const checked = checkGenerateOptions(options, vocabulary);
  const { signal } = checked;
  signal?.throwIfAborted();
  return withSession(open, async (session) => {
    const scope = searchScope(session, vocabulary, signal);
    return search(scope, checkPrompts(prompts, scope), checked);
  });
}

/**
 * Greedy search or sampling, token by token: `for await (const token of streamTokens(…))`. The generator's return value is what `generate`
 * returns. Nothing is opened before the first token is asked for; leaving the loop early, an error or an abort disposes of the session.
 * `next(false)` ends the row of the last token.
 *
 * @throws as `generate`, from the first `next()` on.
 */
export async function* streamTokens(
  open: SessionSource,
  vocabulary: VocabularyFacts,
  options: StreamOptions,
  prompts?: readonly (readonly number[])[],
): AsyncGenerator<TokenEvent, GeneratedSequence[][], unknown> {
  checkVocabulary(vocabulary);
  const checked = checkGenerateOptions(options, vocabulary);
  if (checked.strategy !== 'greedy' && checked.strategy !== 'sample') {
    return fail('strategy', 'not-streamable', `only greedy and sample produce token by token, not ${checked.strategy}`);
  }
  checked.signal?.throwIfAborted();
  const session = await open();
  try {
    const scope = searchScope(session, vocabulary, checked.signal);
    return yield* singleSearch(scope, checkPrompts(prompts, scope), checked);
  } finally {
    session.dispose();
  }
}

function search(
  scope: SearchScope,
  prompts: readonly (readonly number[])[],
  options: CheckedOptions<Strategy>,
): Promise<GeneratedSequence[][]> {
  switch (options.strategy) {
    case 'beam':
      return runBeams(scope, prompts, options, beamSearch);
    case 'original':
      return runBeams(scope, prompts, options, originalBeamSearch);
    case 'original-autoregressive':
      return runBeams(scope, prompts, options, autoregressiveSearch);
    default:
      return drain(singleSearch(scope, prompts, options), options.onToken);
  }
}

/** Runs a token generator to its end, with the listener's answers. */
async function drain(
  tokens: AsyncGenerator<TokenEvent, GeneratedSequence[][], unknown>,
  onToken: TokenListener | undefined,
): Promise<GeneratedSequence[][]> {
  let answer: unknown;
  while (true) {
    const { done, value } = await tokens.next(answer);
    if (done === true) return value;
    answer = await onToken?.(value);
  }
}
