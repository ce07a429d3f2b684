import { autoregressiveSearch } from './autoregressive-search.js';
import { beamSearch } from './beam-search.js';
import { type CheckedOptions, checkOptions, type SingleSettings } from './check-options.js';
import { checkVocabulary, fail } from './check-values.js';
import type { GenerateOptions, StreamOptions } from './options.js';
import { originalBeamSearch } from './original-beam-search.js';
import { singleSearch } from './single-search.js';
import { checkPrompts, type SearchScope, withSession } from './steps.js';
import type { GeneratedSequence, SessionSource, TokenEvent, VocabularyFacts } from './types.js';

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
  const checked = checkOptions(options, vocabulary);
  const { signal } = checked.rules;
  signal?.throwIfAborted();
  return withSession(open, (session) => {
    const scope: SearchScope = { session, vocabulary, signal };
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
  const { rules, search } = checkOptions(options, vocabulary);
  const settings = search as SingleSettings; // StreamOptions holds no other; checked for callers without types below
  if (settings.strategy !== 'greedy' && settings.strategy !== 'sample') {
    return fail(
      'strategy',
      'not-streamable',
      `only greedy and sample produce token by token, not ${String(settings.strategy)}`,
    );
  }
  rules.signal?.throwIfAborted();
  const session = await open();
  try {
    const scope: SearchScope = { session, vocabulary, signal: rules.signal };
    return yield* singleSearch(scope, checkPrompts(prompts, scope), rules, settings);
  } finally {
    session.dispose();
  }
}

function search(
  scope: SearchScope,
  prompts: readonly (readonly number[])[],
  { rules, search }: CheckedOptions,
): Promise<GeneratedSequence[][]> {
  switch (search.strategy) {
    case 'beam':
      return beamSearch(scope, prompts, rules, search);
    case 'original':
      return originalBeamSearch(scope, prompts, rules, search);
    case 'original-autoregressive':
      return autoregressiveSearch(scope, prompts, rules, search);
    default:
      return drain(singleSearch(scope, prompts, rules, search), search.onToken);
  }
}

/** Runs a token generator to its end, with the listener's answers. */
async function drain(
  tokens: AsyncGenerator<TokenEvent, GeneratedSequence[][], unknown>,
  onToken: SingleSettings['onToken'],
): Promise<GeneratedSequence[][]> {
  let answer: unknown;
  while (true) {
    const { done, value } = await tokens.next(answer);
    if (done === true) return value;
    answer = await onToken?.(value);
  }
}
