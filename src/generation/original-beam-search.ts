/** The two decoders of the original project, microsoft/GenerativeImage2Text (`generativeimage2text/layers/decoder.py`). */
import {
  allForbidden,
  type Beam,
  beamResult,
  beamsAtStart,
  bestCandidates,
  grow,
  hypotheses,
  type ImageSearch,
  type ImageStart,
  type Move,
  pathOf,
  processThenLogSoftmax,
  scoreCandidates,
  topQuery,
} from './beam-search.js';
import type { CheckedOptions } from './options.js';
import type { LogitsProcessor, NextLogits } from './session.js';

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
