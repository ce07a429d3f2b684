import { bestCandidates, processThenLogSoftmax } from './beam-candidates.js';
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
import type { CheckedRules, OriginalSettings } from './check-options.js';
import { processorsFor } from './logits-processors.js';
import { lengthLimit, type SearchScope } from './steps.js';
import type { GeneratedSequence } from './types.js';

/**
 * The beam search of the original project (microsoft/GenerativeImage2Text, `GeneratorWithBeamSearch`), which made the published captions.
 * It differs from Hugging Face's: only `numReturnSequences` sentences are kept; the score is sum / ((5 + n) / 6) ^ lengthPenalty with n
 * the tokens of the prompt and the sentence without the end token; an end token counts at any rank among the perNode x numBeams candidates; the
 * test whether to go on comes before a step's sentences are added; processors act on raw logits; and in the last step every
 * candidate ends its beam: without its own token, but with that token's log-probability in the sum. So a sentence cut by the limit loses a
 * word and gets an end token in its place (finish `length`).
 *
 * Returns `[image][rank]`, best first. `ids` end with the end token; the original's matrix is `padRows(ids, eosId, maxLength)`, without the
 * prompt if there was one. The session is borrowed.
 *
 * @throws BackendError `logits-not-finite`; OptionError `all-forbidden`; the signal's reason.
 */
export function originalBeamSearch(
  scope: SearchScope,
  prompts: readonly (readonly number[])[],
  rules: CheckedRules,
  settings: OriginalSettings,
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
  settings: OriginalSettings,
): ImageSearch {
  const { eosId } = scope.vocabulary;
  const { numBeams, lengthPenalty } = settings;
  const maxSteps = lengthLimit(prompt, image, rules, scope.session);
  const scoreRow = processThenLogSoftmax(processorsFor(rules, eosId, prompt.length));
  const ended = hypotheses(settings.numReturnSequences);
  let beams = beamsAtStart(prompt, numBeams);

  const norm = (length: number): number => ((5 + length) / 6) ** lengthPenalty;

  const advance = (logits: readonly Float32Array[]): readonly Move[] => {
    const length = beams[0]!.ids.length;
    const path = placeOf(image, length);
    const rows = logits.map((row, r) => scoreRow(row, r, beams[r]!.ids, path));
    const rowOf = (beam: number): number => (rows.length === 1 ? 0 : beam); // before the first token all beams are one row
    const candidates = bestCandidates(
      beams.map((_, beam) => rows[rowOf(beam)]!.scores),
      beams.map((beam) => beam.sum),
      settings.perNode * numBeams,
    );
    if (candidates.length > 0 && ended.full && ended.worst >= candidates[0]!.sum / norm(maxSteps - 1)) return [];
    const last = length + 1 === maxSteps;
    const next: { readonly beam: Beam; readonly move: Move }[] = [];
    for (const { beam, id, sum } of candidates) {
      const row = rowOf(beam);
      if (last || id === eosId) {
        const sentence = grow(beams[beam]!, eosId, sum, rows[row]!.rawLogProb(eosId));
        ended.add(beamResult(sentence, prompt.length, sum / norm(length), id === eosId ? 'eos' : 'length'));
      } else next.push({ beam: grow(beams[beam]!, id, sum, rows[row]!.rawLogProb(id)), move: { row, id } });
      if (next.length === numBeams) break;
    }
    if (next.length === 0 && ended.count === 0) allForbidden(path);
    beams = next.map(({ beam }) => beam);
    return next.map(({ move }) => move);
  };

  return { prompt, advance, results: () => ended.best(settings.numReturnSequences) };
}
