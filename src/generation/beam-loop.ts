import { OptionError } from '../errors.js';
import { type SearchScope, stepSession } from './steps.js';
import type { Finish, GeneratedSequence } from './types.js';

/** One unfinished sequence of an image. */
export interface Beam {
  readonly ids: readonly number[];
  /** log-softmax of the raw logits at each new token. */
  readonly logProbs: readonly number[];
  /** What the search has added up so far. */
  readonly sum: number;
}

/** A token to append, and to which of the image's rows. */
export interface Move {
  readonly row: number;
  readonly id: number;
}

/** The search over one image, as a machine: logits of its rows in, next rows out. */
export interface ImageSearch {
  readonly prompt: readonly number[];
  /** Takes the logits of its rows (one row at first: its prompt) and says what comes next; nothing when it is done. */
  advance(logits: readonly Float32Array[]): readonly Move[];
  results(): GeneratedSequence[];
}

/**
 * Runs the searches of all images together: each prompt is read once, the rows of an image stay together, and an image that is done
 * leaves the session. Images know nothing of each other, so each result equals that of a single run.
 */
export async function runBeams(scope: SearchScope, searches: readonly ImageSearch[]): Promise<GeneratedSequence[][]> {
  let live = searches.map((search, first) => ({ search, first, rows: 1 }));
  let logits = await stepSession(
    scope,
    searches.map((search) => search.prompt),
  );
  while (true) {
    const from: number[] = [];
    const tokens: number[][] = [];
    const next: typeof live = [];
    for (const { search, first, rows } of live) {
      const moves = search.advance(logits.slice(first, first + rows));
      if (moves.length > 0) next.push({ search, first: from.length, rows: moves.length });
      for (const move of moves) {
        from.push(first + move.row);
        tokens.push([move.id]);
      }
    }
    if (next.length === 0) return searches.map((search) => search.results());
    live = next;
    scope.session.reorder(from);
    logits = await stepSession(scope, tokens);
  }
}

/** Sum that keeps beams 2..K, equal to the first before the first token, out of the first step; Hugging Face's number. */
const BEHIND = -1e9;

/** The beams of an image before the first token: the prompt, `count` times. */
export const beamsAtStart = (prompt: readonly number[], count: number): Beam[] =>
  Array.from({ length: count }, (_, k) => ({ ids: prompt, logProbs: [], sum: k === 0 ? 0 : BEHIND }));

/** `beam` with one more token, which makes its sum `sum` and has the log-probability `logProb` by the raw logits. */
export const grow = (beam: Beam, id: number, sum: number, logProb: number): Beam => ({
  ids: [...beam.ids, id],
  logProbs: [...beam.logProbs, logProb],
  sum,
});

/** A beam as a result. */
export function beamResult(beam: Beam, promptLength: number, score: number, finish: Finish): GeneratedSequence {
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
export const placeOf = (image: number, length: number): string => `image ${image}, token ${length}`;

/** The rules on tokens left an image neither a beam nor a finished sentence. */
export function allForbidden(path: string): never {
  throw new OptionError({
    path,
    code: 'all-forbidden',
    detail: 'the rules on tokens forbid every token of every beam',
  });
}

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

export function hypotheses(keep: number): Hypotheses {
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
