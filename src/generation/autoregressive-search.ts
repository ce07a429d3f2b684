import { bestCandidates, processThenLogSoftmax, type ScoredRow } from './beam-candidates.js';
import {
  allForbidden,
  type Beam,
  beamResult,
  grow,
  type ImageSearch,
  type Move,
  placeOf,
  runBeams,
} from './beam-loop.js';
import type { AutoregressiveSettings, CheckedRules } from './check-options.js';
import { processorsFor } from './logits-processors.js';
import { lengthLimit, type SearchScope } from './steps.js';
import type { GeneratedSequence, LogitsProcessor } from './types.js';

/** The logit that the original gives to the token just produced. */
const NOT_AGAIN = -10000;

/**
 * The other decoder of the original project (`AutoRegressiveBeamSearch`, switched off there in favour of `originalBeamSearch`): from the
 * second new token on the token just produced gets the logit -10000; each beam offers its `perNode` best tokens and the `numBeams` best sums
 * survive; an ended sentence keeps its place. Returns the best sum, `[image][0]`; score = sum / new tokens, the end token included.
 * With one beam it is greedy search without doubled tokens. The session is borrowed.
 *
 * @throws BackendError `logits-not-finite`; OptionError `all-forbidden`; the signal's reason.
 */
export function autoregressiveSearch(
  scope: SearchScope,
  prompts: readonly (readonly number[])[],
  rules: CheckedRules,
  settings: AutoregressiveSettings,
): Promise<GeneratedSequence[][]> {
  return runBeams(
    scope,
    prompts.map((prompt, image) => imageSearch(scope, prompt, image, rules, settings)),
  );
}

const notAgain: LogitsProcessor = (scores, ids) => {
  const last = ids[ids.length - 1]!;
  if (scores[last] !== Number.NEGATIVE_INFINITY) scores[last] = NOT_AGAIN;
};

function imageSearch(
  scope: SearchScope,
  prompt: readonly number[],
  image: number,
  rules: CheckedRules,
  settings: AutoregressiveSettings,
): ImageSearch {
  const { eosId } = scope.vocabulary;
  const { numBeams, perNode } = settings;
  const limit = lengthLimit(prompt, image, rules, scope.session);
  const processors = processorsFor(rules, eosId, prompt.length);
  const firstStep = processThenLogSoftmax(processors);
  const laterStep = processThenLogSoftmax([...processors, notAgain]);
  let beams: Beam[] = [{ ids: prompt, logProbs: [], sum: 0 }]; // best first
  const isEnded = (beam: Beam): boolean => beam.ids.length > prompt.length && beam.ids[beam.ids.length - 1] === eosId;

  const advance = (logits: readonly Float32Array[]): readonly Move[] => {
    const first = beams[0]!.ids.length === prompt.length;
    const scoreRow = first ? firstStep : laterStep;
    const offers: Offer[] = [];
    let row = 0;
    for (const beam of beams) {
      if (isEnded(beam)) offers.push({ beam, sum: beam.sum });
      else {
        const scored = scoreRow(logits[row]!, row, beam.ids, placeOf(image, beam.ids.length));
        offers.push(...offersOf(beam, row++, scored, first ? numBeams : perNode));
      }
    }
    offers.sort((a, b) => b.sum - a.sum);
    const kept = offers.slice(0, numBeams);
    if (kept.length === 0) allForbidden(placeOf(image, prompt.length));
    beams = kept.map(({ beam }) => beam);
    const moves = kept.flatMap(({ move }) => (move === undefined || move.id === eosId ? [] : [move]));
    const length = Math.max(...beams.map((beam) => beam.ids.length));
    return isEnded(beams[0]!) || length >= limit ? [] : moves; // sums only fall, so an ended first beam stays first
  };

  const results = (): GeneratedSequence[] => {
    const best = beams[0]!;
    const score = best.sum / (best.ids.length - prompt.length);
    return [beamResult(best, prompt.length, score, isEnded(best) ? 'eos' : 'length')];
  };
  return { prompt, advance, results };
}

/** A beam that competes for the next round; `move` is how it came about, if it is new. */
interface Offer {
  readonly beam: Beam;
  readonly sum: number;
  readonly move?: Move;
}

const offersOf = (beam: Beam, row: number, scored: ScoredRow, count: number): Offer[] =>
  bestCandidates([scored.scores], [beam.sum], count).map(({ id, sum }) => ({
    beam: grow(beam, id, sum, scored.rawLogProb(id)),
    sum,
    move: { row, id },
  }));
