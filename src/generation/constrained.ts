import { asObject, checkOptions, fail, type OptionsFor, showValue } from '../options.js';
import { logNormalizer } from './log-softmax.js';
import { scoreOptions, scoreSequences } from './score.js';
import type { SessionSource, VocabularyFacts } from './session.js';
import {
  checkIds,
  checkPrompts,
  checkVocabulary,
  type SearchScope,
  searchScope,
  stepSession,
  withSession,
} from './session.js';
import { buildTrie, childrenOf, rootOf, type Trie, type TrieNode } from './trie.js';

/** One class name as the model sees it. */
export interface RankedName {
  /** Its place in the caller's list. */
  readonly name: number;
  /** Natural log-likelihood of the whole name, the end token included. */
  readonly logProb: number;
  /** Share of this name among all the given names: softmax of their `logProb`. */
  readonly probability: number;
  /** One for each token of the name and one for the end token. */
  readonly tokenLogProbs: readonly number[];
}

/** How to rank. */
export type RankOptions = OptionsFor<typeof scoreOptions, 'rankNames'>;

/**
 * Scores every name exactly (our addition: the original scores none but the one it produces) and returns the best first; of equals the
 * earlier one. names: token ids without the end token, which is appended here. Costs one row-step for each distinct beginning of the names.
 *
 * @throws OptionError naming the argument; BackendError `logits-not-finite`; the signal's reason.
 */
export async function rankNames(
  open: SessionSource,
  vocabulary: VocabularyFacts,
  prompt: readonly number[],
  names: readonly (readonly number[])[],
  options: RankOptions = {},
): Promise<RankedName[]> {
  checkVocabulary(vocabulary);
  const closed = closeNames(names, vocabulary);
  const { topK = closed.length } = checkOptions(options, scoreOptions, 'rankNames');
  const { topK: _, ...rest } = options;
  const scores = await scoreSequences(open, vocabulary, prompt, closed, rest);
  const max = scores.reduce((best, { logProb }) => Math.max(best, logProb), Number.NEGATIVE_INFINITY);
  const total = scores.reduce((sum, { logProb }) => sum + Math.exp(logProb - max), 0);
  const ranked = scores.map(({ logProb, tokenLogProbs }, name) => {
    return { name, logProb, probability: Math.exp(logProb - max) / total, tokenLogProbs };
  });
  return ranked.sort((a, b) => b.logProb - a.logProb || a.name - b.name).slice(0, topK);
}

/** The name that constrained greedy search produced for one image. */
export interface ConstrainedResult {
  /** Its place in the caller's list; of equal names the first. */
  readonly name: number;
  /** Prompt, name and end token. */
  readonly ids: readonly number[];
  readonly newIds: readonly number[];
  /** log-softmax of the raw logits over the whole vocabulary at each new token. */
  readonly tokenLogProbs: readonly number[];
  /** Their sum: the name's log-likelihood, the same that `rankNames` gives. */
  readonly logProb: number;
}

/**
 * Vocabulary-constrained greedy search as the original classifies (`TrieAutoRegressiveBeamSearch`): at each step the most likely of the tokens
 * that continue a name; from the second step on the token just produced is taken again only where nothing else is allowed. The original adds
 * about 10,000 to float32 scores for that, which blurs them by 0.001; here the order among allowed tokens is the model's own, and of
 * equals the lower id wins. One result for each image of the session, images do not influence each other.
 *
 * names: token ids without the end token. prompts: one for each image, default [bosId].
 *
 * @throws OptionError naming the argument; BackendError `logits-not-finite`; the signal's reason.
 */
export async function constrainedGreedy(
  open: SessionSource,
  vocabulary: VocabularyFacts,
  names: readonly (readonly number[])[],
  options: { readonly prompts?: readonly (readonly number[])[]; readonly signal?: AbortSignal } = {},
): Promise<ConstrainedResult[]> {
  checkVocabulary(vocabulary);
  const { prompts: given, ...rest } = asObject(options, 'options');
  const { signal } = checkOptions(rest, scoreOptions, 'constrainedGreedy');
  const trie = buildTrie(closeNames(names, vocabulary));
  signal?.throwIfAborted();
  return withSession(open, (session) => {
    const scope = searchScope(session, vocabulary, signal);
    const prompts = checkPrompts(given, scope);
    const longest = trie.sorted.reduce((most, ids) => Math.max(most, ids.length), 0);
    prompts.forEach((prompt, row) => {
      if (prompt.length + longest <= session.maxLength) return;
      const detail = `with the longest name it has ${prompt.length + longest} tokens, the model has ${session.maxLength} positions`;
      fail(`prompts[${row}]`, 'prompt-too-long', detail);
    });
    return search(scope, trie, prompts);
  });
}

interface Walker {
  readonly prompt: readonly number[];
  readonly newIds: number[];
  readonly logProbs: number[];
  node: TrieNode;
}

async function search(
  scope: SearchScope,
  trie: Trie,
  prompts: readonly (readonly number[])[],
): Promise<ConstrainedResult[]> {
  const walkers = prompts.map((prompt): Walker => ({ prompt, newIds: [], logProbs: [], node: rootOf(trie) }));
  let live = walkers;
  let logits = await stepSession(scope, prompts);
  while (true) {
    for (const [row, walker] of live.entries()) advance(walker, logits[row]!, trie);
    const kept = live.flatMap((walker, row) => (walker.newIds.at(-1) === scope.vocabulary.eosId ? [] : [row]));
    if (kept.length === 0) return walkers.map((walker) => finished(walker, trie));
    if (kept.length < live.length) {
      scope.session.reorder(kept);
      live = kept.map((row) => live[row]!);
    }
    logits = await stepSession(
      scope,
      live.map((walker) => walker.newIds.slice(-1)),
    );
  }
}

function advance(walker: Walker, logits: Float32Array, trie: Trie): void {
  const normalizer = logNormalizer(logits, `token ${walker.prompt.length + walker.newIds.length}`);
  const allowed = childrenOf(trie, walker.node);
  const last = walker.newIds.at(-1);
  const fresh = allowed.filter(({ id }) => id !== last);
  const choice = (fresh.length > 0 ? fresh : allowed).reduce((best, child) =>
    logits[child.id]! > logits[best.id]! ? child : best,
  );
  walker.node = choice.node;
  walker.newIds.push(choice.id);
  walker.logProbs.push(logits[choice.id]! - normalizer);
}

function finished({ prompt, newIds, logProbs, node }: Walker, trie: Trie): ConstrainedResult {
  const logProb = logProbs.reduce((sum, x) => sum + x, 0);
  return { name: trie.places[node.from]!, ids: [...prompt, ...newIds], newIds, tokenLogProbs: logProbs, logProb };
}

/** Names closed with the end token, which they must not contain themselves: the walk would stop there. */
function closeNames(names: unknown, vocabulary: VocabularyFacts): readonly (readonly number[])[] {
  if (!Array.isArray(names))
    return fail('names', 'wrong-type', `expected a list of lists of ids, found ${showValue(names)}`);
  if (names.length === 0) return fail('names', 'empty', 'expected at least one name');
  return names.map((name: unknown, at) => {
    const ids = checkIds(name, `names[${at}]`, vocabulary);
    if (ids.includes(vocabulary.eosId)) fail(`names[${at}]`, 'end-token', 'give names without the end token');
    return [...ids, vocabulary.eosId];
  });
}
