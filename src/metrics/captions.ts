import { MetricError, quote } from '../errors.js';
import { tokenizeCaption } from './ptb-tokenizer.js';

/** One image: what was said of it, and what people said. */
export interface CaptionItem {
  readonly id: string | number;
  readonly candidate: string;
  readonly references: readonly string[];
}

/** The scores of one image or of all, 0 to 1 (CIDEr 0 to 10). */
export interface CaptionScores {
  readonly bleu1: number;
  readonly bleu2: number;
  readonly bleu3: number;
  readonly bleu4: number;
  readonly rougeL: number;
  /** CIDEr-D, the figure that papers print as CIDEr. */
  readonly cider: number;
}

/** All scores: of the corpus, and of each image in the order given. */
export interface CaptionEvaluation extends CaptionScores {
  readonly count: number;
  readonly perItem: readonly (CaptionScores & { readonly id: string | number })[];
}

/**
 * BLEU-1 to 4, ROUGE-L and CIDEr-D of captions, as the COCO evaluation computes them from untokenized text.
 *
 * @throws MetricError for no items, an id that comes twice, an item without references, text that is no string, and a
 *   caption of more than 20,000 words
 */
export function scoreCaptions(items: Iterable<CaptionItem>): CaptionEvaluation {
  const known = new Set<string>();
  const tokenized: TokenizedItem[] = [];
  for (const item of items) {
    checkItem(item, known);
    tokenized.push({
      candidate: tokenizeCaption(item.candidate),
      references: item.references.map(tokenizeCaption),
      id: item.id,
    });
  }
  return scoreTokenized(tokenized);
}

function checkItem({ id, candidate, references }: CaptionItem, known: Set<string>): void {
  const fail = (code: string, detail: string): never => {
    throw new MetricError({ path: `item ${quote(String(id))}`, code, detail });
  };
  if (known.has(String(id))) fail('duplicate-id', 'this id comes twice');
  known.add(String(id));
  if (typeof candidate !== 'string') fail('wrong-type', 'the candidate must be a string');
  if (!Array.isArray(references) || references.length === 0) fail('missing-references', 'there is no reference for it');
  if (references.some((text) => typeof text !== 'string')) fail('wrong-type', 'references must be strings');
}

/** An item after `tokenizeCaption`. */
export interface TokenizedItem {
  readonly id: string | number;
  readonly candidate: string;
  readonly references: readonly string[];
}

/** `scoreCaptions` of text that is tokenized already. */
export function scoreTokenized(items: readonly TokenizedItem[]): CaptionEvaluation {
  if (items.length === 0) throw new MetricError({ code: 'no-items', detail: 'there is nothing to score' });
  const frequencies = documentFrequencies(items.map(({ references }) => references));
  const total = emptyCounts();
  let rouge = 0;
  let ciderSum = 0;
  const perItem = items.map(({ id, candidate, references }) => {
    const parsed = parse(candidate, frequencies.ngrams);
    const others = references.map((reference) => parse(reference, frequencies.ngrams));
    if ([parsed, ...others].some(({ length }) => length > CAPTION_WORD_LIMIT)) {
      const detail = `a caption of more than ${CAPTION_WORD_LIMIT} words`;
      throw new MetricError({ path: `item ${quote(String(id))}`, code: 'too-long', detail });
    }
    const counts = bleuCountsOf(parsed, others);
    addCounts(total, counts);
    const rougeL = rougeLScore(candidate, references);
    const cider = ciderOf(parsed, others, frequencies, 'd');
    rouge += rougeL;
    ciderSum += cider;
    return { id, ...bleuScores(counts), rougeL, cider };
  });
  const count = items.length;
  return { ...bleuScores(total), rougeL: rouge / count, cider: ciderSum / count, count, perItem };
}

/** Longest caption, in words: the time of ROUGE-L grows with the square of it. */
const CAPTION_WORD_LIMIT = 20_000;

/** Longest n-grams of BLEU and CIDEr. */
const MOST = 4;

/** Words of a tokenized caption: split at any white space, no-break spaces too; none for an empty caption. */
const wordsOf = (caption: string): string[] => caption.split(/\s+/u).filter((word) => word !== '');

/** n-grams by number, from 0 up, so that they are compared and counted without their words. */
export class NgramNumbers {
  readonly #words = new Map<string, number>();
  /** Number of an n-gram by that of its start, n - 1 words, and its last word. */
  readonly #numbers = new Map<number, number>();

  /** How often each n-gram of 1 to 4 words is there, by n. */
  count(words: readonly string[]): Map<number, number>[] {
    const counts = Array.from({ length: MOST }, () => new Map<number, number>());
    const ids = words.map((word) => numberOf(this.#words, word));
    for (let start = 0; start < ids.length; start++) {
      let ngram = 0;
      for (let i = 0; i < MOST && start + i < ids.length; i++) {
        ngram = numberOf(this.#numbers, ngram * WORD_LIMIT + ids[start + i]!) + 1; // 0 is the n-gram of no words
        counts[i]!.set(ngram, (counts[i]!.get(ngram) ?? 0) + 1);
      }
    }
    return counts;
  }
}

/** Most different words; with as many as 2^31 n-grams the keys are exact integers. */
const WORD_LIMIT = 2 ** 22;

function numberOf<T>(numbers: Map<T, number>, key: T): number {
  const known = numbers.get(key);
  if (known !== undefined) return known;
  if (numbers.size >= WORD_LIMIT && typeof key === 'string') {
    throw new MetricError({ code: 'too-many-words', detail: `more than ${WORD_LIMIT} different words` });
  }
  numbers.set(key, numbers.size);
  return numbers.size - 1;
}

/** What BLEU is computed from; counts of several captions add up. */
export interface BleuCounts {
  candidateLength: number;
  /** Length of the reference that is closest in length. */
  referenceLength: number;
  /** n-grams of the candidate, and how many of them are in a reference, by n. */
  readonly guessed: number[];
  readonly correct: number[];
}

const emptyCounts = (): BleuCounts => ({
  candidateLength: 0,
  referenceLength: 0,
  guessed: new Array<number>(MOST).fill(0),
  correct: new Array<number>(MOST).fill(0),
});

function addCounts(sum: BleuCounts, counts: BleuCounts): void {
  sum.candidateLength += counts.candidateLength;
  sum.referenceLength += counts.referenceLength;
  for (let i = 0; i < MOST; i++) {
    sum.guessed[i]! += counts.guessed[i]!;
    sum.correct[i]! += counts.correct[i]!;
  }
}

/**
 * The counts of one tokenized caption: an n-gram is correct as often as the reference that has it most often has it
 * (Papineni et al. 2002). The reference length is the closest, the shorter of two as close.
 */
export function bleuCounts(candidate: string, references: readonly string[]): BleuCounts {
  const ngrams = new NgramNumbers();
  return bleuCountsOf(
    parse(candidate, ngrams),
    references.map((reference) => parse(reference, ngrams)),
  );
}

/** A tokenized caption: its length in words, and its n-grams. */
interface Parsed {
  readonly length: number;
  readonly counts: readonly ReadonlyMap<number, number>[];
}

function parse(caption: string, ngrams: NgramNumbers): Parsed {
  const words = wordsOf(caption);
  return { length: words.length, counts: ngrams.count(words) };
}

function bleuCountsOf(candidate: Parsed, references: readonly Parsed[]): BleuCounts {
  const counts = emptyCounts();
  counts.candidateLength = candidate.length;
  const distance = (length: number) => Math.abs(length - candidate.length);
  counts.referenceLength = references
    .map(({ length }) => length)
    .reduce((best, length) =>
      distance(length) < distance(best) || (distance(length) === distance(best) && length < best) ? length : best,
    );
  for (const [i, ngrams] of candidate.counts.entries()) {
    counts.guessed[i] = Math.max(0, candidate.length - i);
    for (const [ngram, count] of ngrams) {
      const most = references.reduce((most, reference) => Math.max(most, reference.counts[i]!.get(ngram) ?? 0), 0);
      counts.correct[i]! += Math.min(count, most);
    }
  }
  return counts;
}

/** Keeps ratios of nothing finite; too small to be seen in a score. */
const TINY = 1e-15;
const SMALL = 1e-9;

/** BLEU-1 to 4 of counts: the geometric mean of the precisions, with the penalty for being short. */
export function bleuScores(counts: BleuCounts): Pick<CaptionScores, 'bleu1' | 'bleu2' | 'bleu3' | 'bleu4'> {
  const ratio = (counts.candidateLength + TINY) / (counts.referenceLength + SMALL);
  const penalty = ratio < 1 ? Math.exp(1 - 1 / ratio) : 1;
  let product = 1;
  const [bleu1, bleu2, bleu3, bleu4] = counts.guessed.map((guessed, i) => {
    product *= (counts.correct[i]! + TINY) / (guessed + SMALL);
    return product ** (1 / (i + 1)) * penalty;
  }) as [number, number, number, number];
  return { bleu1, bleu2, bleu3, bleu4 };
}

/** Weight of recall against precision in ROUGE-L. */
const BETA = 1.2;

/**
 * ROUGE-L of one tokenized caption: F of the longest common subsequence, with the best precision and the best recall
 * over the references. Split at plain spaces only, so that an empty caption is one empty word.
 */
export function rougeLScore(candidate: string, references: readonly string[]): number {
  const words = candidate.split(' ');
  let precision = 0;
  let recall = 0;
  for (const reference of references) {
    const others = reference.split(' ');
    const common = longestCommonSubsequence(words, others);
    precision = Math.max(precision, common / words.length);
    recall = Math.max(recall, common / others.length);
  }
  if (precision === 0 || recall === 0) return 0;
  return ((1 + BETA ** 2) * precision * recall) / (recall + BETA ** 2 * precision);
}

function longestCommonSubsequence(a: readonly string[], b: readonly string[]): number {
  const row = new Array<number>(b.length + 1).fill(0);
  for (const word of a) {
    let diagonal = 0; // of the row before
    for (let j = 1; j <= b.length; j++) {
      const above = row[j]!;
      row[j] = word === b[j - 1] ? diagonal + 1 : Math.max(above, row[j - 1]!);
      diagonal = above;
    }
  }
  return row[b.length]!;
}

/** In how many images' references each n-gram is. */
export interface DocumentFrequencies {
  readonly images: number;
  /** By the number of the n-gram. */
  readonly counts: readonly number[];
  readonly ngrams: NgramNumbers;
}

/** Counts the n-grams of the tokenized references of each image; each image's are read once and not kept. */
export function documentFrequencies(imageReferences: Iterable<readonly string[]>): DocumentFrequencies {
  const ngrams = new NgramNumbers();
  const counts: number[] = [];
  let images = 0;
  for (const references of imageReferences) {
    images++;
    const present = new Set<number>();
    for (const reference of references) {
      for (const byLength of parse(reference, ngrams).counts) for (const ngram of byLength.keys()) present.add(ngram);
    }
    for (const ngram of present) counts[ngram] = (counts[ngram] ?? 0) + 1;
  }
  return { images, counts, ngrams };
}

/** Width of the length penalty of CIDEr-D. */
const SIGMA = 6;

/** n-grams weighted by how rare they are, by n, with the norms and the number of bigrams, by which lengths are compared. */
interface Weighted {
  readonly weights: readonly ReadonlyMap<number, number>[];
  readonly norms: readonly number[];
  readonly bigrams: number;
}

function weigh({ length, counts: ownCounts }: Parsed, { images, counts }: DocumentFrequencies): Weighted {
  const logImages = Math.log(images);
  const norms: number[] = [];
  const weights = ownCounts.map((ngrams) => {
    const ofLength = new Map<number, number>();
    let sum = 0;
    for (const [ngram, count] of ngrams) {
      const weight = count * (logImages - Math.log(Math.max(1, counts[ngram] ?? 0)));
      ofLength.set(ngram, weight);
      sum += weight ** 2;
    }
    norms.push(Math.sqrt(sum));
    return ofLength;
  });
  return { weights, norms, bigrams: Math.max(0, length - 1) };
}

/**
 * CIDEr-D of one tokenized caption (Vedantam et al. 2015), 0 to 10: the cosine of the weighted n-grams with each
 * reference's, weights clipped to the reference's, less for another length; mean over n and references. An n-gram in
 * every image weighs nothing, so that a corpus of one image scores 0.
 *
 * @param variant 'd' (default), or 'plain' for the first CIDEr, without clipping and length
 */
export function ciderScore(
  candidate: string,
  references: readonly string[],
  frequencies: DocumentFrequencies,
  variant: 'd' | 'plain' = 'd',
): number {
  const { ngrams } = frequencies;
  const others = references.map((reference) => parse(reference, ngrams));
  return ciderOf(parse(candidate, ngrams), others, frequencies, variant);
}

function ciderOf(
  candidate: Parsed,
  references: readonly Parsed[],
  frequencies: DocumentFrequencies,
  variant: 'd' | 'plain',
): number {
  const ours = weigh(candidate, frequencies);
  let sum = 0;
  for (const reference of references) {
    const theirs = weigh(reference, frequencies);
    const factor = variant === 'd' ? Math.exp(-((ours.bigrams - theirs.bigrams) ** 2) / (2 * SIGMA ** 2)) : 1;
    for (let i = 0; i < MOST; i++) {
      let dot = 0;
      for (const [ngram, weight] of ours.weights[i]!) {
        const other = theirs.weights[i]!.get(ngram);
        if (other !== undefined) dot += (variant === 'd' ? Math.min(weight, other) : weight) * other;
      }
      const norm = ours.norms[i]! * theirs.norms[i]!;
      if (norm !== 0) dot /= norm;
      sum += dot * factor;
    }
  }
  return (sum / MOST / references.length) * 10;
}
