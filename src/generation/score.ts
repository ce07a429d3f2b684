/** Exact scores of given texts, ranking of class names and search among them: all walk the texts as a trie, so that a common beginning is computed once. */

import { OptionError } from '../errors.js';
import { eventSink } from '../load-events.js';
import { asObject, checkOptions, fail, functionOf, integer, type OptionsFor, showValue, signal } from '../options.js';
import { logNormalizer } from './logits-processors.js';
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

/** Options of scoring and ranking, by the function that takes them. */
export const scoreOptions = {
  /** Rows that the session may hold at once: memory against speed. */
  maxRows: integer({
    least: 1,
    most: 65536,
    defaults: { scoreSequences: 64, rankNames: 64 },
    help: 'How many rows are computed at once.',
  }),
  /** How many of the best to return; all by default. */
  topK: integer({ least: 1, defaults: { rankNames: undefined }, help: 'How many of the best names to return.' }),
  /** Receives, as it goes, how many of the sequences are scored. */
  onProgress: functionOf<(scored: number, total: number) => void>()({
    defaults: { scoreSequences: undefined, rankNames: undefined },
    help: 'Receives how many of how many sequences are scored.',
  }),
  /** Checked before and after every step. */
  signal: signal({
    defaults: { scoreSequences: undefined, rankNames: undefined, constrainedGreedy: undefined },
    help: 'Stops the call, which then throws the reason of the signal.',
  }),
} as const;

/** How to score. */
export type ScoreOptions = OptionsFor<typeof scoreOptions, 'scoreSequences'>;

/** How likely the model finds one sequence behind the prompt. */
export interface SequenceScore {
  /** Natural log-probability of each token, given the prompt and the tokens before it. */
  readonly tokenLogProbs: readonly number[];
  /** Their sum. */
  readonly logProb: number;
}

/**
 * Log-likelihood of each of `sequences` (token ids; close them with the end token where that is meant) behind one prompt, over one image.
 * Exact: log-softmax of raw logits, summed in double. Common beginnings are computed once: the sequences are walked as a trie, level by
 * level, one session row for each node that goes on, so the last token of a sequence costs no step. The source is asked for
 * one session for each group of sequences that fits `maxRows`; each is disposed of, however this ends.
 *
 * @throws OptionError naming the argument; BackendError `logits-not-finite`; the signal's reason.
 */
export async function scoreSequences(
  open: SessionSource,
  vocabulary: VocabularyFacts,
  prompt: readonly number[],
  sequences: readonly (readonly number[])[],
  options: ScoreOptions = {},
): Promise<SequenceScore[]> {
  const { maxRows, signal, onProgress: listener } = checkOptions(options, scoreOptions, 'scoreSequences');
  const onProgress = listener && eventSink(listener);
  checkVocabulary(vocabulary);
  const start = checkIds(prompt, 'prompt', vocabulary);
  if (!Array.isArray(sequences))
    return fail('sequences', 'wrong-type', `expected a list of lists of ids, found ${showValue(sequences)}`);
  const trie = buildTrie(sequences.map((ids, at) => checkIds(ids, `sequences[${at}]`, vocabulary)));
  const found: number[][] = sequences.map(() => []);
  for (const group of groupsOf(trie, maxRows)) {
    signal?.throwIfAborted();
    await withSession(open, (session) => {
      checkRoom(session.rows, session.maxLength, start, sequences);
      return walk(searchScope(session, vocabulary, signal), start, trie, group, found);
    });
    onProgress?.(group.to, sequences.length);
  }
  return found.map((tokenLogProbs) => ({ tokenLogProbs, logProb: tokenLogProbs.reduce((sum, x) => sum + x, 0) }));
}

/** Walks one group level by level and appends each token's log-probability to the lists of all sequences that have it. */
async function walk(
  scope: SearchScope,
  prompt: readonly number[],
  trie: Trie,
  group: TrieNode,
  found: readonly number[][],
): Promise<void> {
  let level = [group];
  let logits = await stepSession(scope, [prompt]);
  while (true) {
    const next: { readonly node: TrieNode; readonly row: number; readonly id: number }[] = [];
    for (const [row, parent] of level.entries()) {
      const scores = logits[row]!;
      const normalizer = logNormalizer(scores, `prefix ${row}, token ${prompt.length + parent.depth}`);
      for (const { id, node } of childrenOf(trie, parent)) {
        const logProb = scores[id]! - normalizer;
        for (let i = node.from; i < node.to; i++) found[trie.order[i]!]!.push(logProb);
        if (goesOn(trie, node)) next.push({ node, row, id });
      }
      await scope.rowDone();
    }
    if (next.length === 0) return;
    scope.session.reorder(next.map(({ row }) => row));
    level = next.map(({ node }) => node);
    logits = await stepSession(
      scope,
      next.map(({ id }) => [id]),
    );
  }
}

function checkRoom(
  rows: number,
  maxLength: number,
  prompt: readonly number[],
  sequences: readonly (readonly number[])[],
): void {
  if (rows !== 1) {
    throw new OptionError({
      path: 'open',
      code: 'row-count',
      detail: `expected a session over one image, it has ${rows}`,
    });
  }
  const long = sequences.findIndex((ids) => prompt.length + ids.length > maxLength);
  if (long >= 0) {
    const total = `${prompt.length} + ${sequences[long]!.length}`;
    const detail = `prompt and sequence have ${total} tokens, the model has ${maxLength} positions`;
    throw new OptionError({ path: `sequences[${long}]`, code: 'too-long', detail });
  }
}

/** One class name as the model sees it. */
export interface RankedName {
  /** Its index in the caller's list. */
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
  /** Its index in the caller's list; of equal names the first. */
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
    return followNames(scope, trie, prompts);
  });
}

interface Walker {
  readonly prompt: readonly number[];
  readonly newIds: number[];
  readonly logProbs: number[];
  node: TrieNode;
}

async function followNames(
  scope: SearchScope,
  trie: Trie,
  prompts: readonly (readonly number[])[],
): Promise<ConstrainedResult[]> {
  const walkers = prompts.map((prompt): Walker => ({ prompt, newIds: [], logProbs: [], node: rootOf(trie) }));
  let live = walkers;
  let logits = await stepSession(scope, prompts);
  while (true) {
    for (const [row, walker] of live.entries()) step(walker, logits[row]!, trie);
    const kept = live.flatMap((walker, row) => (walker.newIds.at(-1) === scope.vocabulary.eosIds[0] ? [] : [row]));
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

function step(walker: Walker, logits: Float32Array, trie: Trie): void {
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
  return { name: trie.order[node.from]!, ids: [...prompt, ...newIds], newIds, tokenLogProbs: logProbs, logProb };
}

/** Names closed with the end token, which they must not contain themselves: the walk would stop there. */
function closeNames(names: unknown, vocabulary: VocabularyFacts): readonly (readonly number[])[] {
  if (!Array.isArray(names))
    return fail('names', 'wrong-type', `expected a list of lists of ids, found ${showValue(names)}`);
  if (names.length === 0) return fail('names', 'empty', 'expected at least one name');
  return names.map((name: unknown, at) => {
    const ids = checkIds(name, `names[${at}]`, vocabulary);
    if (ids.some((id) => vocabulary.eosIds.includes(id)))
      fail(`names[${at}]`, 'end-token', 'give names without the end token');
    return [...ids, vocabulary.eosIds[0]!];
  });
}

// The trie.

/**
 * A token trie as a sorted list: a node is the run of sequences that share its prefix. It costs two numbers a sequence, however
 * long the sequences are, and tens of thousands of class names are one sort.
 */
export interface Trie {
  /** The sequences in lexicographic order of their ids; a prefix of another comes before it. */
  readonly sorted: readonly (readonly number[])[];
  /** `order[i]`: which of the caller's list `sorted[i]` is. */
  readonly order: readonly number[];
  /** `shared[i]`: how many leading ids `sorted[i]` has in common with `sorted[i - 1]`; 0 for the first. */
  readonly shared: readonly number[];
}

/** The sequences `from` to `to` (exclusive) of the sorted list, which share their first `depth` ids. */
export interface TrieNode {
  readonly from: number;
  readonly to: number;
  readonly depth: number;
}

/** Sorts `sequences` (any order, duplicates and prefixes of each other allowed, none empty) into a trie. */
export function buildTrie(sequences: readonly (readonly number[])[]): Trie {
  const order = sequences.map((_, index) => index).sort((a, b) => compare(sequences[a]!, sequences[b]!) || a - b);
  const sorted = order.map((index) => sequences[index]!);
  const shared = sorted.map((sequence, i) => (i === 0 ? 0 : commonPrefix(sorted[i - 1]!, sequence)));
  return { sorted, order, shared };
}

export const rootOf = (trie: Trie): TrieNode => ({ from: 0, to: trie.sorted.length, depth: 0 });

/** The nodes one token further, with that token, in ascending order of ids; sequences that end at `node` are in none of them. */
export function childrenOf(trie: Trie, node: TrieNode): { readonly id: number; readonly node: TrieNode }[] {
  const { sorted, shared } = trie;
  const depth = node.depth + 1;
  const children: { id: number; node: TrieNode }[] = [];
  let from = node.from;
  while (from < node.to && sorted[from]!.length === node.depth) from++; // those that end here come first
  while (from < node.to) {
    let to = from + 1;
    while (to < node.to && shared[to]! >= depth) to++;
    children.push({ id: sorted[from]![node.depth]!, node: { from, to, depth } });
    from = to;
  }
  return children;
}

/** Does any sequence go on behind this node? */
export const goesOn = (trie: Trie, node: TrieNode): boolean => trie.sorted[node.to - 1]!.length > node.depth;

/**
 * Cuts the sorted list into runs that can be walked level by level with at most `most` nodes at once (not counting nodes
 * behind which nothing follows). Runs are as long as they can be, so little of a prefix is walked twice.
 */
export function groupsOf(trie: Trie, most: number): TrieNode[] {
  const groups: TrieNode[] = [];
  let from = 0;
  let widths: number[] = []; // widths[d]: nodes at depth d of the group so far that go on
  trie.sorted.forEach((sequence, i) => {
    const known = i === from ? 0 : Math.min(trie.shared[i]!, trie.sorted[i - 1]!.length - 1);
    const fits = widths.slice(known + 1, sequence.length).every((width) => width < most);
    if (!fits) {
      groups.push({ from, to: i, depth: 0 });
      from = i;
      widths = [];
    }
    for (let depth = fits ? known + 1 : 1; depth < sequence.length; depth++) widths[depth] = (widths[depth] ?? 0) + 1;
  });
  if (trie.sorted.length > 0) groups.push({ from, to: trie.sorted.length, depth: 0 });
  return groups;
}

function compare(a: readonly number[], b: readonly number[]): number {
  const at = commonPrefix(a, b);
  return (a[at] ?? -1) - (b[at] ?? -1);
}

function commonPrefix(a: readonly number[], b: readonly number[]): number {
  let at = 0;
  while (at < a.length && at < b.length && a[at] === b[at]) at++;
  return at;
}
