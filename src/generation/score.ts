import { OptionError } from '../errors.js';
import { checkOptions, fail, functionOf, integer, type OptionsFor, showValue, signal } from '../options.js';
import { logNormalizer } from './log-softmax.js';
import type { SessionSource, VocabularyFacts } from './session.js';
import { checkIds, checkVocabulary, type SearchScope, searchScope, stepSession, withSession } from './session.js';
import { buildTrie, childrenOf, goesOn, groupsOf, type Trie, type TrieNode } from './trie.js';

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
  const { maxRows, signal, onProgress } = checkOptions(options, scoreOptions, 'scoreSequences');
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
        for (let i = node.from; i < node.to; i++) found[trie.places[i]!]!.push(logProb);
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
