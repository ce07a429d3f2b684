/** The scores of captions written down from their definitions, without regard to time: an oracle for the fast ones. */

export interface NaiveItem {
  readonly candidate: string;
  readonly references: readonly string[];
}

const words = (caption: string): string[] => caption.split(/\s+/).filter(Boolean);
const ngrams = (caption: string, n: number): string[] => {
  const list = words(caption);
  return list.slice(0, Math.max(0, list.length - n + 1)).map((_, i) => list.slice(i, i + n).join(' '));
};
const times = (list: readonly string[], ngram: string): number => list.filter((other) => other === ngram).length;
const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** BLEU-n of a corpus: clipped counts, the closest reference length, the shorter of two as close. */
export function naiveBleu(items: readonly NaiveItem[], n: number): number {
  const precisions: number[] = [];
  for (let k = 1; k <= n; k++) {
    let [correct, guessed] = [0, 0];
    for (const { candidate, references } of items) {
      const said = ngrams(candidate, k);
      guessed += said.length;
      for (const ngram of new Set(said)) {
        const most = Math.max(...references.map((reference) => times(ngrams(reference, k), ngram)));
        correct += Math.min(times(said, ngram), most);
      }
    }
    precisions.push((correct + 1e-15) / (guessed + 1e-9));
  }
  const length = sum(items.map(({ candidate }) => words(candidate).length));
  const closest = items.map(({ candidate, references }) => {
    const lengths = references.map((reference) => words(reference).length).sort((a, b) => a - b);
    const distances = lengths.map((other) => Math.abs(other - words(candidate).length));
    return lengths[distances.indexOf(Math.min(...distances))]!;
  });
  const ratio = (length + 1e-15) / (sum(closest) + 1e-9);
  return precisions.reduce((a, b) => a * b) ** (1 / n) * (ratio < 1 ? Math.exp(1 - 1 / ratio) : 1);
}

const longestCommon = (a: readonly string[], b: readonly string[]): number => {
  if (a.length === 0 || b.length === 0) return 0;
  const table = Array.from({ length: a.length + 1 }, () => new Array<number>(b.length + 1).fill(0));
  for (let i = 1; i <= a.length; i++)
    for (let j = 1; j <= b.length; j++)
      table[i]![j] = a[i - 1] === b[j - 1] ? table[i - 1]![j - 1]! + 1 : Math.max(table[i - 1]![j]!, table[i]![j - 1]!);
  return table[a.length]![b.length]!;
};

/** ROUGE-L with beta 1.2; an empty caption is one empty token. */
export function naiveRouge({ candidate, references }: NaiveItem): number {
  const said = candidate.split(' ');
  const common = references.map((reference) => longestCommon(said, reference.split(' ')));
  const precision = Math.max(...common.map((length) => length / said.length));
  const recall = Math.max(...common.map((length, i) => length / references[i]!.split(' ').length));
  if (precision === 0 || recall === 0) return 0;
  return ((1 + 1.2 ** 2) * precision * recall) / (recall + 1.2 ** 2 * precision);
}

/** CIDEr-D of the item at `index` of a corpus. */
export function naiveCider(items: readonly NaiveItem[], index: number): number {
  const { candidate, references } = items[index]!;
  const weight = (caption: string, ngram: string, n: number): number => {
    const images = items.filter((item) => item.references.some((reference) => ngrams(reference, n).includes(ngram)));
    return times(ngrams(caption, n), ngram) * (Math.log(items.length) - Math.log(Math.max(1, images.length)));
  };
  const norm = (caption: string, n: number): number =>
    Math.sqrt(sum([...new Set(ngrams(caption, n))].map((ngram) => weight(caption, ngram, n) ** 2)));
  const scores = references.flatMap((reference) =>
    [1, 2, 3, 4].map((n) => {
      const shared = [...new Set(ngrams(candidate, n))].map((ngram) => {
        const [ours, theirs] = [weight(candidate, ngram, n), weight(reference, ngram, n)];
        return Math.min(ours, theirs) * theirs;
      });
      const norms = norm(candidate, n) * norm(reference, n);
      const distance = ngrams(candidate, 2).length - ngrams(reference, 2).length;
      return (norms === 0 ? sum(shared) : sum(shared) / norms) * Math.exp(-(distance ** 2) / 72);
    }),
  );
  return (10 * sum(scores)) / scores.length;
}
