import { MetricError, quote } from '../errors.js';

/** What the VQA evaluation makes of an answer before it compares; docs/evaluation.md. */

const PUNCTUATION = [...';/[]"{}()=+\\_-><@`,?!'];
const DIGITS: Readonly<Record<string, string>> = {
  none: '0',
  zero: '0',
  one: '1',
  two: '2',
  three: '3',
  four: '4',
  five: '5',
  six: '6',
  seven: '7',
  eight: '8',
  nine: '9',
  ten: '10',
};
const ARTICLES = new Set(['a', 'an', 'the']);

/** Forms without their apostrophe, as the VQA evaluation lists them. It looks words up in lower case. */
const CONTRACTIONS: ReadonlyMap<string, string> = new Map(
  [
    ...[
      "ain't",
      "aren't",
      "can't",
      "could've",
      "couldn't",
      "didn't",
      "doesn't",
      "don't",
      "hadn't",
      "hasn't",
      "haven't",
    ],
    ...[
      "he'd",
      "he's",
      "how'd",
      "how'll",
      "how's",
      "isn't",
      "it'd",
      "it'll",
      "ma'am",
      "mightn't",
      "might've",
      "mustn't",
    ],
    ...["must've", "needn't", "not've", "o'clock", "oughtn't", "shan't", "should've", "shouldn't", "somebody'll"],
    ...["somebody's", "someone'd", "someone'll", "someone's", "something'd", "something'll", "that's", "there'd"],
    ...[
      "there're",
      "there's",
      "they'd",
      "they'll",
      "they're",
      "they've",
      "'twas",
      "wasn't",
      "we've",
      "weren't",
      "what'll",
    ],
    ...[
      "what're",
      "what's",
      "what've",
      "when's",
      "where'd",
      "where's",
      "where've",
      "who'd",
      "who'll",
      "who's",
      "who've",
    ],
    ...["why'll", "why're", "why's", "won't", "would've", "wouldn't", "y'all", "you'd", "you'll", "you're", "you've"],
  ].map((form) => [form.replaceAll("'", ''), form] as const),
);
/** Two apostrophes of which one is missing. */
const DOUBLE_CONTRACTIONS: ReadonlyMap<string, string> = new Map(
  ["couldn't've", "hadn't've", "he'd've", "it'd've", "mightn't've", "she'd've", "shouldn't've", "somebody'd've"]
    .concat([
      "someone'd've",
      "something'd've",
      "there'd've",
      "they'd've",
      "we'd've",
      "who'd've",
      "wouldn't've",
      "you'd've",
    ])
    .flatMap((form) => {
      const [first, second] = [form.indexOf("'"), form.lastIndexOf("'")];
      const without = (at: number) => form.slice(0, at) + form.slice(at + 1);
      return [[without(first), form] as const, [without(second), form] as const];
    }),
);
const ODD_CONTRACTIONS: ReadonlyMap<string, string> = new Map([
  ["somebody'd", 'somebodyd'], // as the list has it
  ["ow's'at", "'ow's'at"],
  ["'ows'at", "'ow's'at"],
  ["'ow'sat", "'ow's'at"],
  ["yall'll", "y'all'll"],
  ["y'allll", "y'all'll"],
  ["yall'd've", "y'all'd've"],
  ["y'alld've", "y'all'd've"],
  ["y'all'dve", "y'all'd've"],
]);

/** The steps of the VQA evaluation's normalization. */
export interface NormalizedAnswer {
  readonly afterPunctuation: string;
  readonly answer: string;
}

/** What Python's `str.split` and `str.strip` take for white space: not what JavaScript does at the ends of the list. */
const SPACE = '[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]';
const SPACES = new RegExp(`${SPACE}+`);
const OUTER_SPACE = new RegExp(`^${SPACE}+|${SPACE}+$`, 'g');
const strip = (text: string): string => text.replace(OUTER_SPACE, '');

/** How many full stops are deleted at most: the original passes a flag where a count is meant, and the flag is 32. */
const MOST_FULL_STOPS = 32;

/** An answer as the VQA evaluation compares it: without punctuation, articles and capitals, digits for number words. */
export const normalizeAnswer = (answer: string): string => normalizeAnswerSteps(answer).answer;

/** `normalizeAnswer`, and what it has after its first step. */
export function normalizeAnswerSteps(answer: string): NormalizedAnswer {
  const text = strip(answer.replaceAll('\n', ' ').replaceAll('\t', ' '));
  const hasCommaInNumber = /\p{Nd},\p{Nd}/u.test(text);
  let clean = text;
  for (const mark of PUNCTUATION) {
    const isLoose = hasCommaInNumber || text.includes(`${mark} `) || text.includes(` ${mark}`);
    clean = clean.replaceAll(mark, isLoose ? '' : ' ');
  }
  let stops = 0;
  clean = clean.replace(/\.(?!\p{Nd})/gu, (stop) => (stops++ < MOST_FULL_STOPS ? '' : stop));
  const words = clean
    .toLowerCase()
    .split(SPACES)
    .filter((word) => word !== '');
  const kept = words
    .map((word) => (Object.hasOwn(DIGITS, word) ? DIGITS[word]! : word))
    .filter((word) => !ARTICLES.has(word));
  const whole = (word: string): string =>
    CONTRACTIONS.get(word) ?? DOUBLE_CONTRACTIONS.get(word) ?? ODD_CONTRACTIONS.get(word) ?? word;
  return { afterPunctuation: clean, answer: kept.map(whole).join(' ') };
}

/** An answer as the TextVQA evaluation (M4C) compares it. */
export function normalizeTextVqaAnswer(answer: string): string {
  return normalizeAnswer(answer.toLowerCase().replaceAll(',', '').replaceAll('?', '').replaceAll("'s", " 's"));
}

/** As many agreeing answers of other people make an answer wholly right. */
const AGREEING = 3;

/** For each person's answer: how many of the others' are the prediction, of three; the mean of them, 0 to 1. */
function leaveOneOut(prediction: string, answers: readonly string[]): number {
  const matches = answers.map((answer) => answer === prediction);
  const total = matches.filter(Boolean).length;
  const sum = matches.reduce((sum, match) => sum + Math.min(1, (total - Number(match)) / AGREEING), 0);
  return sum / answers.length;
}

/**
 * Accuracy of one VQAv2 prediction against (ten) people's answers, 0 to 1. Where all answers are the same nothing is
 * normalized and the prediction must be the same too, as in the original.
 *
 * @throws MetricError without answers
 */
export function vqaAccuracy(prediction: string, answers: readonly string[]): number {
  checkAnswers(prediction, answers);
  const said = strip(prediction.replaceAll('\n', ' ').replaceAll('\t', ' '));
  if (new Set(answers).size === 1) return leaveOneOut(said, answers);
  return leaveOneOut(normalizeAnswer(said), answers.map(normalizeAnswer));
}

/** Accuracy of one TextVQA prediction against (ten) people's answers, 0 to 1. @throws MetricError without answers */
export function textVqaAccuracy(prediction: string, answers: readonly string[]): number {
  checkAnswers(prediction, answers);
  return leaveOneOut(normalizeTextVqaAnswer(prediction), answers.map(normalizeTextVqaAnswer));
}

/** Is the prediction any of the answers, as the ST-VQA evaluation normalizes them? 1 or 0. @throws MetricError without answers */
export function stVqaAccuracy(prediction: string, answers: readonly string[]): number {
  checkAnswers(prediction, answers);
  return answers.map(normalizeTextVqaAnswer).includes(normalizeTextVqaAnswer(prediction)) ? 1 : 0;
}

/** Longest answers that are compared, in characters: the time of ANLS grows with the square of it. */
const ANSWER_LIMIT = 20_000;
/** Similarities below count as 0. */
const LEAST_SIMILARITY = 0.5;

/**
 * Normalized Levenshtein similarity of ST-VQA (ANLS of one question), 0 to 1: the best over the answers, capitals
 * ignored; below one half it is 0. At exactly one half it counts, as in the evaluation's code (its text says otherwise).
 *
 * @throws MetricError without answers, and where prediction and answer have more than 20,000 characters
 */
export function anls(prediction: string, answers: readonly string[]): number {
  checkAnswers(prediction, answers);
  const said = [...strip(prediction.toLowerCase())];
  return answers.reduce((best, answer) => {
    const truth = [...strip(answer.toLowerCase())];
    const longer = Math.max(said.length, truth.length);
    if (Math.abs(said.length - truth.length) > longer / 2) return best; // as many differ at least
    if (longer > ANSWER_LIMIT) {
      const detail = `more than ${ANSWER_LIMIT} characters`;
      throw new MetricError({ path: 'answers', code: 'too-long', detail });
    }
    const similarity = longer === 0 ? 1 : 1 - levenshtein(said, truth) / longer;
    return Math.max(best, similarity < LEAST_SIMILARITY ? 0 : similarity);
  }, 0);
}

/** Fewest insertions, deletions and replacements of code points. */
function levenshtein(a: readonly string[], b: readonly string[]): number {
  let row = Uint32Array.from({ length: b.length + 1 }, (_, j) => j);
  for (const [i, char] of a.entries()) {
    const next = new Uint32Array(b.length + 1);
    next[0] = i + 1;
    for (let j = 0; j < b.length; j++) {
      next[j + 1] = Math.min(row[j]! + (char === b[j] ? 0 : 1), row[j + 1]! + 1, next[j]! + 1);
    }
    row = next;
  }
  return row[b.length]!;
}

/** Is the prediction one of the answers, capitals and white space around it aside? 1 or 0. @throws MetricError without answers */
export function exactMatch(prediction: string, answers: readonly string[]): number {
  checkAnswers(prediction, answers);
  const plain = (text: string) => text.trim().toLowerCase();
  return answers.some((answer) => plain(answer) === plain(prediction)) ? 1 : 0;
}

/**
 * Is the true class among the first `k` predicted, best first? 1 or 0.
 *
 * @throws MetricError where `k` is no whole number above 0
 */
export function topKAccuracy(predicted: readonly string[], truth: string, k: number): number {
  if (!Number.isInteger(k) || k < 1) {
    throw new MetricError({ path: 'k', code: 'out-of-range', detail: `must be a whole number above 0, not ${k}` });
  }
  return predicted.slice(0, k).includes(truth) ? 1 : 0;
}

function checkAnswers(prediction: string, answers: readonly string[]): void {
  if (typeof prediction !== 'string') {
    throw new MetricError({ path: 'prediction', code: 'wrong-type', detail: 'must be a string' });
  }
  if (!Array.isArray(answers) || answers.length === 0) {
    throw new MetricError({
      path: 'answers',
      code: 'missing-references',
      detail: 'there is no answer to compare with',
    });
  }
  const odd = answers.find((answer) => typeof answer !== 'string');
  if (odd !== undefined) {
    throw new MetricError({
      path: 'answers',
      code: 'wrong-type',
      detail: `must be strings, not ${quote(String(odd))}`,
    });
  }
}

/** One question: what was said, and what people said. */
export interface AnswerItem {
  readonly id: string | number;
  readonly prediction: string;
  readonly answers: readonly string[];
  /** For means of each type, where the files have them (VQAv2's `question_type`, `answer_type`). */
  readonly questionType?: string | undefined;
  readonly answerType?: string | undefined;
}

/** Metrics of answers by the name that files, flags and tables use. */
export const ANSWER_METRICS = {
  vqa: vqaAccuracy,
  textvqa: textVqaAccuracy,
  anls,
  'stvqa-accuracy': stVqaAccuracy,
  exact: exactMatch,
} as const satisfies Record<string, (prediction: string, answers: readonly string[]) => number>;
export type AnswerMetric = keyof typeof ANSWER_METRICS;

/** Means, 0 to 1, and the score of each question in the order given. */
export interface AnswerEvaluation {
  readonly metric: AnswerMetric;
  readonly count: number;
  readonly overall: number;
  readonly perQuestionType: Readonly<Record<string, number>>;
  readonly perAnswerType: Readonly<Record<string, number>>;
  readonly perItem: readonly { readonly id: string | number; readonly score: number }[];
}

/**
 * Scores of answers, of each and their means.
 *
 * @throws MetricError for no items, an id that comes twice, and an item without answers
 */
export function scoreAnswers(items: Iterable<AnswerItem>, metric: AnswerMetric): AnswerEvaluation {
  const perItem: { id: string | number; score: number }[] = [];
  const known = new Set<string>();
  const [byQuestion, byAnswer] = [new Map<string, number[]>(), new Map<string, number[]>()];
  for (const { id, prediction, answers, questionType, answerType } of items) {
    if (known.has(String(id))) {
      throw new MetricError({ path: `item ${quote(String(id))}`, code: 'duplicate-id', detail: 'this id comes twice' });
    }
    known.add(String(id));
    const score = ANSWER_METRICS[metric](prediction, answers);
    perItem.push({ id, score });
    for (const [groups, name] of [
      [byQuestion, questionType],
      [byAnswer, answerType],
    ] as const) {
      if (name === undefined) continue;
      const scores = groups.get(name);
      if (scores === undefined) groups.set(name, [score]);
      else scores.push(score);
    }
  }
  if (perItem.length === 0) throw new MetricError({ code: 'no-items', detail: 'there is nothing to score' });
  const mean = (scores: readonly number[]) => scores.reduce((sum, score) => sum + score, 0) / scores.length;
  const means = (groups: ReadonlyMap<string, number[]>) =>
    Object.fromEntries([...groups].map(([name, scores]) => [name, mean(scores)]));
  return {
    metric,
    count: perItem.length,
    overall: mean(perItem.map(({ score }) => score)),
    perQuestionType: means(byQuestion),
    perAnswerType: means(byAnswer),
    perItem,
  };
}
