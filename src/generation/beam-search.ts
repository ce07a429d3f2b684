/** What beam searches share (candidates, beams, the loop over steps); Hugging Face's beam search, and the original project's. */

import { fail } from '../options.js';
import {
  applyAll,
  argMax,
  logNormalizer,
  logSumExp,
  type RowRules,
  refuseLogit,
  rowRules,
  workingCopy,
} from './logits-processors.js';
import { type CheckedOptions, checkRows } from './options.js';
import {
  type Finish,
  type GeneratedSequence,
  type LogitsProcessor,
  lengthLimit,
  type NextLogits,
  type SearchScope,
  stepSession,
  type TopQuery,
  type TopTokens,
} from './session.js';

/** One sequence of an image, unfinished while `finish` is undefined. */
interface Beam {
  readonly ids: readonly number[];
  /** log-softmax of the raw logits at each new token. */
  readonly logProbs: readonly number[];
  /** What the search has added up so far. */
  readonly sum: number;
  readonly finish?: Finish | undefined;
}

/** A continuation: token `id` behind beam `beam`, with the sum of log-probabilities that it would have. */
export interface Candidate {
  /** Index of the beam, and of the session's row (of the image) that its scores came from. */
  readonly beam: number;
  readonly row: number;
  readonly id: number;
  readonly sum: number;
}

/** Next-token log-probabilities of one beam. */
interface ScoredRow {
  /** What the search ranks by: log-probabilities with the processors applied. Good until the next row is scored. */
  readonly scores: Float32Array;
  /** Whose scores they are, likeliest first; undefined where they are those of the whole vocabulary. */
  readonly ids?: Int32Array;
  /** log-softmax of the raw logits. */
  readonly rawLogProb: (id: number) => number;
}

/** Scores of a row whose tokens are `ids`, from its logits. */
export type RowScorer = (logits: Float32Array, ids: readonly number[], path: string) => ScoredRow;

/** Hugging Face: log-softmax first, processors act on log-probabilities, nothing is normalized again. Overwrites the logits. */
export function logSoftmaxThenProcess(processors: readonly LogitsProcessor[]): RowScorer {
  const copy = workingCopy();
  return (logits, ids, path) => {
    subtract(logits, logNormalizer(logits, path));
    const scores = processors.length === 0 ? logits : copy(logits);
    applyAll(processors, scores, ids);
    return { scores, rawLogProb: (id) => logits[id]! };
  };
}

/** The original: processors act on raw logits, log-softmax last. Overwrites the logits where there is no processor. */
function processThenLogSoftmax(processors: readonly LogitsProcessor[]): RowScorer {
  const copy = workingCopy();
  return (logits, ids, path) => {
    const normalizer = logNormalizer(logits, path);
    if (processors.length === 0) {
      subtract(logits, normalizer);
      return { scores: logits, rawLogProb: (id) => logits[id]! };
    }
    const scores = copy(logits);
    applyAll(processors, scores, ids);
    const best = argMax(scores);
    if (best >= 0) subtract(scores, logSumExp(scores, scores[best]!));
    return { scores, rawLogProb: (id) => logits[id]! - normalizer };
  };
}

/**
 * Without processors a search has need of the `count` likeliest words and the end tokens alone, and Hugging Face's and the original's rank by the
 * same: log-probabilities in float32.
 */
function topQuery(start: ImageStart, count: number): TopQuery | undefined {
  return start.processors.length > 0 ? undefined : { count, by: 'logProb', asked: start.eosIds };
}

function scoreTop({ ids, logits, normalizer }: TopTokens, asked: readonly number[], path: string): ScoredRow {
  if (Number.isNaN(normalizer)) refuseLogit(logits[0]!, ids[0]!, path);
  const all = Float32Array.from(logits, (logit) => logit - normalizer);
  const rawLogProb = (id: number): number => {
    const place = ids.indexOf(id);
    return all[place >= 0 ? place : ids.length + asked.indexOf(id)]!;
  };
  return { scores: all.subarray(0, ids.length), ids, rawLogProb };
}

function subtract(scores: Float32Array, value: number): void {
  for (let id = 0; id < scores.length; id++) scores[id] = scores[id]! - value;
}

/** The best of the candidates offered. */
export interface BestCandidates {
  /**
   * Offers tokens of a beam, with `sum` before them: all, or `ids` of which equal ones ascend. Forbidden tokens (-Infinity) are never candidates, so
   * there may be fewer than asked for.
   */
  offer(beam: number, row: number, sum: number, scores: Float32Array, ids?: Int32Array): void;
  /** Best first; of equals the lower beam, then the lower id. */
  best(): Candidate[];
}

/** Keeps the `count` best in a heap with the worst on top; beams must be offered in ascending order. */
function bestCandidates(count: number): BestCandidates {
  const heap: Candidate[] = [];
  const sink = (candidate: Candidate): void => {
    let at = 0;
    for (let child = 1; child < heap.length; child = 2 * at + 1) {
      if (child + 1 < heap.length && isBetter(heap[child]!, heap[child + 1]!)) child++;
      if (!isBetter(candidate, heap[child]!)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = candidate;
  };
  const rise = (candidate: Candidate): void => {
    let at = heap.length;
    heap.push(candidate);
    for (let parent = (at - 1) >> 1; at > 0 && isBetter(heap[parent]!, candidate); parent = (at - 1) >> 1) {
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = candidate;
  };
  return {
    offer(beam, row, sum, scores, ids) {
      let edge = heap.length < count ? Number.NEGATIVE_INFINITY : heap[0]!.sum; // nothing at or below gets in
      for (let i = 0; i < scores.length; i++) {
        const total = sum + scores[i]!;
        if (total > edge) {
          const id = ids === undefined ? i : ids[i]!;
          if (heap.length < count) rise({ beam, row, id, sum: total });
          else sink({ beam, row, id, sum: total });
          if (heap.length === count) edge = heap[0]!.sum;
        }
      }
    },
    best: () => [...heap].sort((a, b) => (isBetter(a, b) ? -1 : 1)),
  };
}

const isBetter = (a: Candidate, b: Candidate): boolean =>
  a.sum > b.sum || (a.sum === b.sum && (a.beam < b.beam || (a.beam === b.beam && a.id < b.id)));

/**
 * Scores the candidates of a step: the `count` best continuations of all beams, by the sum of the beam and the score of the token. Before the
 * first token all beams are one row of the session. `rawLogProbs[row](id)`: what goes into the result's `tokenLogProbs`.
 */
async function scoreCandidates(
  { image, scope, eosIds }: ImageStart,
  beams: readonly Beam[],
  logits: readonly NextLogits[],
  scoreRow: RowScorer,
  count: number,
): Promise<{ readonly candidates: Candidate[]; readonly rawLogProbs: readonly ScoredRow['rawLogProb'][] }> {
  const found = bestCandidates(count);
  const rawLogProbs: ScoredRow['rawLogProb'][] = [];
  let scored: ScoredRow | undefined;
  for (const [beam, { ids, sum }] of beams.entries()) {
    const row = logits.length === 1 ? 0 : beam;
    if (row === rawLogProbs.length) {
      const [next, path] = [logits[row]!, pathOf(image, ids.length)];
      scored = 'ids' in next ? scoreTop(next, eosIds, path) : scoreRow(next, ids, path);
      rawLogProbs.push(scored.rawLogProb);
    }
    found.offer(beam, row, sum, scored!.scores, scored!.ids);
    await scope.rowDone();
  }
  return { candidates: found.best(), rawLogProbs };
}

/** A token to append, and to which of the image's rows. */
interface Move {
  readonly row: number;
  readonly id: number;
}

/** What the search over one image starts from. */
interface ImageStart extends RowRules {
  readonly scope: SearchScope;
  readonly prompt: readonly number[];
  readonly image: number;
  /** Most tokens of a row, prompt included. */
  readonly limit: number;
  readonly eosIds: readonly number[];
}

/** The search over one image, as a machine: logits of its rows in, next rows out. */
interface ImageSearch {
  /** What it has to know of its rows; undefined: all logits. The same for every image. */
  readonly wanted: TopQuery | undefined;
  /** Takes the logits of its rows (one row at first: its prompt) and says what comes next; nothing when it is done. */
  advance(logits: readonly NextLogits[]): Promise<readonly Move[]>;
  results(): GeneratedSequence[];
}

type BeamStrategy = 'beam' | 'original' | 'original-autoregressive';

/**
 * Runs the searches of all images together: each prompt is read once, the rows of an image stay together, and an image that is done
 * leaves the session. Images know nothing of each other, so each result equals that of a single run. Returns `[image][rank]`, best first.
 * The session is borrowed.
 *
 * @throws BackendError `logits-not-finite`; OptionError `all-forbidden`; the signal's reason.
 */
export async function runBeams<Taker extends BeamStrategy>(
  scope: SearchScope,
  prompts: readonly (readonly number[])[],
  options: CheckedOptions<Taker>,
  start: (image: ImageStart, options: CheckedOptions<Taker>) => ImageSearch,
): Promise<GeneratedSequence[][]> {
  const { eosIds } = scope.vocabulary;
  checkRows(options, prompts.length);
  const searches = prompts.map((prompt, image) => {
    const limit = lengthLimit(prompt, image, options, scope.session);
    const rules = rowRules(options, scope.vocabulary, prompt.length);
    return start({ scope, prompt, image, limit, eosIds, ...rules }, options);
  });
  let live = searches.map((search, first) => ({ search, first, rows: 1 }));
  const wanted = searches.every((search) => search.wanted !== undefined) ? searches[0]?.wanted : undefined;
  let logits = await stepSession(scope, prompts, wanted);
  while (true) {
    const from: number[] = [];
    const tokens: number[][] = [];
    const next: typeof live = [];
    for (const { search, first, rows } of live) {
      const moves = await search.advance(logits.slice(first, first + rows));
      if (moves.length > 0) next.push({ search, first: from.length, rows: moves.length });
      for (const move of moves) {
        from.push(first + move.row);
        tokens.push([move.id]);
      }
    }
    if (next.length === 0) return searches.map((search) => search.results());
    live = next;
    scope.session.reorder(from);
    logits = await stepSession(scope, tokens, wanted);
  }
}

/** Sum that keeps beams 2..K, equal to the first before the first token, out of the first step; Hugging Face's number. */
const BEHIND = -1e9;

/** The beams of an image before the first token: the prompt, `count` times. */
const beamsAtStart = (prompt: readonly number[], count: number): Beam[] =>
  Array.from({ length: count }, (_, k) => ({ ids: prompt, logProbs: [], sum: k === 0 ? 0 : BEHIND }));

/** `beam` with one more token, which makes its sum `sum` and has the log-probability `logProb` by the raw logits. */
const grow = (beam: Beam, id: number, sum: number, logProb: number, finish?: Finish): Beam => ({
  ids: [...beam.ids, id],
  logProbs: [...beam.logProbs, logProb],
  sum,
  finish,
});

/** A beam as a result. */
function beamResult(beam: Beam, promptLength: number, score: number, finish: Finish): GeneratedSequence {
  return {
    ids: beam.ids,
    newIds: beam.ids.slice(promptLength),
    tokenLogProbs: beam.logProbs,
    logProb: beam.logProbs.reduce((sum, x) => sum + x, 0),
    score,
    finish,
  };
}

/** Where an image's logits came from, for error messages. */
const pathOf = (image: number, length: number): string => `image ${image}, token ${length}`;

/** The rules on tokens left an image neither a beam nor a finished sentence. */
const allForbidden = (path: string): never =>
  fail(path, 'all-forbidden', 'the rules on tokens forbid every token of every beam');

/** The finished sentences of one image: the best `keep` of those added. */
export interface Hypotheses {
  add(result: GeneratedSequence): void;
  readonly full: boolean;
  readonly count: number;
  /** Score of the worst that is kept. */
  readonly worst: number;
  /** The best `most`, best first; of equals the later one, as Hugging Face takes them. */
  best(most: number): GeneratedSequence[];
}

function hypotheses(keep: number): Hypotheses {
  const kept: GeneratedSequence[] = []; // ascending; of equals the earlier first
  return {
    add(result) {
      if (kept.length === keep && !(result.score > kept[0]!.score)) return;
      let at = kept.length;
      while (at > 0 && kept[at - 1]!.score > result.score) at--;
      kept.splice(at, 0, result);
      if (kept.length > keep) kept.shift();
    },
    get full() {
      return kept.length === keep;
    },
    get count() {
      return kept.length;
    },
    get worst() {
      return kept[0]?.score ?? Number.NEGATIVE_INFINITY;
    },
    best: (most) => kept.slice(-most).reverse(),
  };
}

/**
 * Beam search as in Hugging Face transformers 4.40 (`generation/beam_search.py`, `BeamSearchScorer`): candidates are the 2K best, with n end
 * tokens the (1 + n) K best; an end token counts only among the first K; score = sum / (new tokens, end token included) ^ lengthPenalty. Fewer results than `numReturnSequences`
 * only where the rules on tokens leave fewer. A stopping criterion ends a candidate as an end token does (transformers 5).
 *
 * One difference: forbidden tokens never become beams, where Hugging Face lets beams of score -Infinity live on.
 */
export function beamSearch(start: ImageStart, options: CheckedOptions<'beam'>): ImageSearch {
  const { prompt, image, limit, eosIds, stops } = start;
  const { numBeams, lengthPenalty, earlyStopping } = options;
  const count = Math.max(2, 1 + eosIds.length) * numBeams; // so many that numBeams of them go on, whichever end
  const scoreRow = logSoftmaxThenProcess(start.processors);
  const ended = hypotheses(numBeams);
  let beams = beamsAtStart(prompt, numBeams);

  const score = (sum: number, length: number): number => sum / (length - prompt.length) ** lengthPenalty;

  /** Can no open beam beat the worst kept sentence? `best`: the best candidate's sum, `length`: tokens of the candidates. */
  const isDone = (best: number, length: number): boolean => {
    if (!ended.full) return false;
    if (earlyStopping === true) return true;
    const farthest = earlyStopping === 'never' && lengthPenalty > 0 ? limit : length;
    return ended.worst >= score(best, farthest);
  };

  const advance = async (logits: readonly NextLogits[]): Promise<readonly Move[]> => {
    const length = beams[0]!.ids.length + 1;
    const { candidates, rawLogProbs } = await scoreCandidates(start, beams, logits, scoreRow, count);
    const next: { readonly beam: Beam; readonly move: Move }[] = [];
    for (const [rank, { beam, row, id, sum }] of candidates.entries()) {
      const grown = grow(beams[beam]!, id, sum, rawLogProbs[row]!(id));
      const finish = eosIds.includes(id) ? 'eos' : stops(grown.ids) ? 'stopped' : undefined;
      if (finish === undefined) next.push({ beam: grown, move: { row, id } });
      else if (rank < numBeams) ended.add(beamResult(grown, prompt.length, score(sum, length), finish));
      if (next.length === numBeams) break;
    }
    beams = next.map(({ beam }) => beam);
    if (candidates.length > 0 && isDone(candidates[0]!.sum, length)) return [];
    if (length < limit && beams.length > 0) return next.map(({ move }) => move);
    for (const beam of beams) ended.add(beamResult(beam, prompt.length, score(beam.sum, length), 'length'));
    return ended.count > 0 ? [] : allForbidden(pathOf(image, length - 1));
  };

  return { wanted: topQuery(start, count), advance, results: () => ended.best(options.numReturnSequences) };
}

/** The two decoders of the original project, microsoft/GenerativeImage2Text (`generativeimage2text/layers/decoder.py`). */

/**
 * The beam search of the original project (`GeneratorWithBeamSearch`), which made the published captions.
 * It differs from Hugging Face's: only `numReturnSequences` sentences are kept; the score is sum / ((5 + n) / 6) ^ lengthPenalty with n
 * the tokens of the prompt and the sentence without the end token; an end token counts at any rank among the perNode x numBeams candidates; the
 * test whether to go on comes before a step's sentences are added; processors act on raw logits; and in the last step every
 * candidate ends its beam: without its own token, but with that token's log-probability in the sum. So a sentence cut by the limit loses a
 * word and gets an end token in its place (finish `length`). Our addition: a stopping criterion ends a candidate, with its own token.
 *
 * `ids` end with the end token; the original's matrix is `padRows(ids, eosIds[0], maxLength)`, without the prompt if there was one.
 */
export function originalBeamSearch(start: ImageStart, options: CheckedOptions<'original'>): ImageSearch {
  const { prompt, image, limit, eosIds, stops } = start;
  const { numBeams, perNode, lengthPenalty, numReturnSequences } = options;
  const count = Math.max(perNode, 1 + eosIds.length) * numBeams; // the original has one end token and never fewer than 2 a beam
  const scoreRow = processThenLogSoftmax(start.processors);
  const ended = hypotheses(numReturnSequences);
  let beams = beamsAtStart(prompt, numBeams);

  const norm = (length: number): number => ((5 + length) / 6) ** lengthPenalty;

  const advance = async (logits: readonly NextLogits[]): Promise<readonly Move[]> => {
    const length = beams[0]!.ids.length;
    const { candidates, rawLogProbs } = await scoreCandidates(start, beams, logits, scoreRow, count);
    if (candidates.length > 0 && ended.full && ended.worst >= candidates[0]!.sum / norm(limit - 1)) return [];
    const last = length + 1 === limit;
    const next: { readonly beam: Beam; readonly move: Move }[] = [];
    for (const { beam, row, id, sum } of candidates) {
      const grown = grow(beams[beam]!, id, sum, rawLogProbs[row]!(id));
      const isEnd = eosIds.includes(id);
      if (!isEnd && stops(grown.ids)) {
        ended.add(beamResult(grown, prompt.length, sum / norm(length + 1), 'stopped'));
      } else if (last || isEnd) {
        const endId = isEnd ? id : eosIds[0]!;
        const sentence = grow(beams[beam]!, endId, sum, rawLogProbs[row]!(endId));
        ended.add(beamResult(sentence, prompt.length, sum / norm(length), isEnd ? 'eos' : 'length'));
      } else next.push({ beam: grown, move: { row, id } });
      if (next.length === numBeams) break;
    }
    if (next.length === 0 && ended.count === 0) allForbidden(pathOf(image, length));
    beams = next.map(({ beam }) => beam);
    return next.map(({ move }) => move);
  };

  return { wanted: topQuery(start, count), advance, results: () => ended.best(numReturnSequences) };
}

/** The logit that the original gives to the token just produced. */
const JUST_PRODUCED_LOGIT = -10000;

const discourageLast: LogitsProcessor = (scores, ids) => {
  const last = ids[ids.length - 1]!;
  if (scores[last] !== Number.NEGATIVE_INFINITY) scores[last] = JUST_PRODUCED_LOGIT;
};

/**
 * The other decoder of the original project (`AutoRegressiveBeamSearch`, switched off there in favor of the one above): from the
 * second new token on the token just produced gets the logit -10000; each beam offers its `perNode` best tokens and the `numBeams` best sums
 * survive; an ended sentence stays among the beams. Returns the best sum alone; score = sum / new tokens, the end token included.
 * With one beam it is greedy search without doubled tokens.
 */
export function autoregressiveSearch(
  start: ImageStart,
  { numBeams, perNode }: CheckedOptions<'original-autoregressive'>,
): ImageSearch {
  const { prompt, image, limit, eosIds, stops } = start;
  const firstStep = processThenLogSoftmax(start.processors);
  const laterStep = processThenLogSoftmax([...start.processors, discourageLast]);
  let beams: Beam[] = [{ ids: prompt, logProbs: [], sum: 0 }]; // best first

  const advance = async (logits: readonly NextLogits[]): Promise<readonly Move[]> => {
    const first = beams[0]!.ids.length === prompt.length;
    const scoreRow = first ? firstStep : laterStep;
    const offers: { readonly beam: Beam; readonly move?: Move }[] = [];
    let row = 0;
    for (const beam of beams) {
      if (beam.finish !== undefined) {
        offers.push({ beam });
        continue;
      }
      const { scores, rawLogProb } = scoreRow(logits[row] as Float32Array, beam.ids, pathOf(image, beam.ids.length));
      const best = bestCandidates(first ? numBeams : perNode);
      best.offer(0, row, beam.sum, scores);
      for (const { id, sum } of best.best()) {
        const grown = grow(beam, id, sum, rawLogProb(id));
        const finish = eosIds.includes(id) ? 'eos' : stops(grown.ids) ? 'stopped' : undefined;
        offers.push({ beam: { ...grown, finish }, move: { row, id } });
      }
      row++;
      await start.scope.rowDone();
    }
    offers.sort((a, b) => b.beam.sum - a.beam.sum);
    const kept = offers.slice(0, numBeams);
    if (kept.length === 0) allForbidden(pathOf(image, prompt.length));
    beams = kept.map(({ beam }) => beam);
    const moves = kept.flatMap(({ beam, move }) => (move === undefined || beam.finish !== undefined ? [] : [move]));
    const length = Math.max(...beams.map((beam) => beam.ids.length));
    return beams[0]!.finish !== undefined || length >= limit ? [] : moves; // sums only fall, so an ended first beam stays first
  };

  const results = () => {
    const best = beams[0]!;
    const score = best.sum / (best.ids.length - prompt.length);
    return [beamResult(best, prompt.length, score, best.finish ?? 'length')];
  };
  return { wanted: undefined, advance, results };
}
