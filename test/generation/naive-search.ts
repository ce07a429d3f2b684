/** The searches once more, from their definitions alone: everything recomputed at each step, everything sorted. Nothing shared with src/. */
import { logSoftmax } from './scripted-session.js';

export type NextLogits = (ids: readonly number[]) => ArrayLike<number>;

export interface NaiveResult {
  readonly ids: readonly number[];
  readonly score: number;
}

interface NaiveBeam {
  readonly ids: readonly number[];
  readonly sum: number;
}

export interface NaiveBeamSettings {
  readonly beams: number;
  /** The end tokens; the first one closes what is cut. */
  readonly eos: readonly number[];
  readonly maxLength: number;
  readonly lengthPenalty: number;
}

export function naiveGreedy(
  next: NextLogits,
  prompt: readonly number[],
  eos: readonly number[],
  maxLength: number,
): number[] {
  const ids = [...prompt];
  while (ids.length < maxLength && (ids.length === prompt.length || !eos.includes(ids.at(-1)!))) {
    const logits = Array.from(next(ids));
    ids.push(logits.indexOf(Math.max(...logits)));
  }
  return ids;
}

/** Hugging Face 4.40, by the rules in the reference's README. */
export function naiveBeam(
  next: NextLogits,
  prompt: readonly number[],
  s: NaiveBeamSettings & { readonly earlyStopping: boolean | 'never'; readonly keep: number },
): NaiveResult[] {
  const hypotheses: NaiveResult[] = [];
  const add = (ids: readonly number[], sum: number, generated: number): void => {
    hypotheses.push({ ids, score: sum / generated ** s.lengthPenalty });
    hypotheses.sort((a, b) => b.score - a.score);
    hypotheses.splice(s.beams);
  };
  let beams: NaiveBeam[] = Array.from({ length: s.beams }, (_, k) => ({ ids: prompt, sum: k === 0 ? 0 : -1e9 }));
  for (let length = prompt.length + 1; ; length++) {
    const all = beams.flatMap(({ ids, sum }) => logSoftmax(next(ids)).map((p, id) => ({ ids, id, sum: sum + p })));
    const best = all.sort((a, b) => b.sum - a.sum).slice(0, Math.max(2, 1 + s.eos.length) * s.beams);
    const open: NaiveBeam[] = [];
    best.forEach(({ ids, id, sum }, rank) => {
      if (open.length === s.beams) return;
      if (!s.eos.includes(id)) open.push({ ids: [...ids, id], sum });
      else if (rank < s.beams) add([...ids, id], sum, length - prompt.length);
    });
    beams = open;
    if (hypotheses.length === s.beams) {
      if (s.earlyStopping === true) break;
      const far = s.earlyStopping === 'never' && s.lengthPenalty > 0 ? s.maxLength : length;
      if (hypotheses.at(-1)!.score >= best[0]!.sum / (far - prompt.length) ** s.lengthPenalty) break;
    }
    if (length === s.maxLength) {
      for (const { ids, sum } of beams) add(ids, sum, length - prompt.length);
      break;
    }
  }
  return hypotheses.slice(0, s.keep);
}

/** The original's, by the ten differences in the reference's README. */
export function naiveOriginal(
  next: NextLogits,
  prompt: readonly number[],
  s: NaiveBeamSettings & { readonly perNode: number; readonly keep: number },
): NaiveResult[] {
  const norm = (n: number): number => ((5 + n) / 6) ** s.lengthPenalty;
  const hypotheses: NaiveResult[] = [];
  let beams: NaiveBeam[] = Array.from({ length: s.beams }, (_, k) => ({ ids: prompt, sum: k === 0 ? 0 : -1e9 }));
  for (let length = prompt.length; length < s.maxLength; length++) {
    const all = beams.flatMap(({ ids, sum }) => logSoftmax(next(ids)).map((p, id) => ({ ids, id, sum: sum + p })));
    const best = all.sort((a, b) => b.sum - a.sum).slice(0, Math.max(s.perNode, 1 + s.eos.length) * s.beams);
    const full = hypotheses.length === s.keep;
    if (full && hypotheses.at(-1)!.score >= best[0]!.sum / norm(s.maxLength - 1)) break;
    const open: NaiveBeam[] = [];
    for (const { ids, id, sum } of best) {
      if (open.length === s.beams) break;
      const isEnd = s.eos.includes(id);
      if (isEnd || length + 1 === s.maxLength)
        hypotheses.push({ ids: [...ids, isEnd ? id : s.eos[0]!], score: sum / norm(length) });
      else open.push({ ids: [...ids, id], sum });
      hypotheses.sort((a, b) => b.score - a.score);
      hypotheses.splice(s.keep);
    }
    beams = open;
  }
  return hypotheses;
}

/** Every sentence that ends with `eos` or is cut at maxLength, with its log-probability: the whole space. */
export function allSentences(next: NextLogits, prompt: readonly number[], eos: number, maxLength: number): NaiveBeam[] {
  const grow = ({ ids, sum }: NaiveBeam): NaiveBeam[] =>
    logSoftmax(next(ids)).flatMap((p, id) => {
      const longer = { ids: [...ids, id], sum: sum + p };
      return id === eos || longer.ids.length === maxLength ? [longer] : grow(longer);
    });
  return grow({ ids: prompt, sum: 0 });
}
