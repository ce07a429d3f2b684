import { bestCandidates, logSoftmaxThenProcess } from './beam-candidates.js';
import {
  allForbidden,
  type Beam,
  beamResult,
  beamsAtStart,
  grow,
  hypotheses,
  type ImageSearch,
  type Move,
  placeOf,
  runBeams,
} from './beam-loop.js';
import type { BeamSettings, CheckedRules } from './check-options.js';
import { processorsFor } from './logits-processors.js';
import { lengthLimit, type SearchScope } from './steps.js';
import type { GeneratedSequence } from './types.js';

/**
 * Beam search as in Hugging Face transformers 4.40 (`generation/beam_search.py`, `BeamSearchScorer`): candidates are the 2K best; an end
 * token counts only among the first K; score = sum / (new tokens, end token included) ^ lengthPenalty. Returns `[image][rank]`, best first;
 * fewer than `numReturnSequences` only where the rules on tokens leave fewer. The session is borrowed.
 *
 * One difference: forbidden tokens never become beams, where Hugging Face lets beams of score -Infinity live on.
 *
 * @throws BackendError `logits-not-finite`; OptionError `all-forbidden`; the signal's reason.
 */
export function beamSearch(
  scope: SearchScope,
  prompts: readonly (readonly number[])[],
  rules: CheckedRules,
  settings: BeamSettings,
): Promise<GeneratedSequence[][]> {
  return runBeams(
    scope,
    prompts.map((prompt, image) => imageSearch(scope, prompt, image, rules, settings)),
  );
}

function imageSearch(
  scope: SearchScope,
  prompt: readonly number[],
  image: number,
  rules: CheckedRules,
  settings: BeamSettings,
): ImageSearch {
  const { eosId } = scope.vocabulary;
  const { numBeams, lengthPenalty } = settings;
  const limit = lengthLimit(prompt, image, rules, scope.session);
  const scoreRow = logSoftmaxThenProcess(processorsFor(rules, eosId, prompt.length));
  const ended = hypotheses(numBeams);
  let beams = beamsAtStart(prompt, numBeams);

  const score = (sum: number, length: number): number => sum / (length - prompt.length) ** lengthPenalty;

  /** Can no open beam beat the worst kept sentence? `best`: the best candidate's sum, `length`: tokens of the candidates. */
  const isDone = (best: number, length: number): boolean => {
    if (!ended.full) return false;
    if (settings.earlyStopping === true) return true;
    const farthest = settings.earlyStopping === 'never' && lengthPenalty > 0 ? limit : length;
    return ended.worst >= score(best, farthest);
  };

  const advance = (logits: readonly Float32Array[]): readonly Move[] => {
    const length = beams[0]!.ids.length + 1;
    const path = placeOf(image, length - 1);
    const rows = logits.map((row, r) => scoreRow(row, r, beams[r]!.ids, path));
    const rowOf = (beam: number): number => (rows.length === 1 ? 0 : beam); // before the first token all beams are one row
    const candidates = bestCandidates(
      beams.map((_, beam) => rows[rowOf(beam)]!.scores),
      beams.map((beam) => beam.sum),
      2 * numBeams,
    );
    const next: { readonly beam: Beam; readonly move: Move }[] = [];
    for (const [rank, { beam, id, sum }] of candidates.entries()) {
      const grown = grow(beams[beam]!, id, sum, rows[rowOf(beam)]!.rawLogProb(id));
      if (id !== eosId) next.push({ beam: grown, move: { row: rowOf(beam), id } });
      else if (rank < numBeams) ended.add(beamResult(grown, prompt.length, score(sum, length), 'eos'));
      if (next.length === numBeams) break;
    }
    beams = next.map(({ beam }) => beam);
    if (candidates.length > 0 && isDone(candidates[0]!.sum, length)) return [];
    if (length < limit && beams.length > 0) return next.map(({ move }) => move);
    for (const beam of beams) ended.add(beamResult(beam, prompt.length, score(beam.sum, length), 'length'));
    return ended.count > 0 ? [] : allForbidden(path);
  };

  return { prompt, advance, results: () => ended.best(settings.numReturnSequences) };
}
