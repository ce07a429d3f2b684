import * as z from 'zod/mini';
import {
  bleuCounts,
  type CaptionScores,
  ciderScore,
  documentFrequencies,
  normalizeAnswerSteps,
  normalizeTextVqaAnswer,
  ptbTokens,
  scoreAnswers,
  scoreCaptions,
  tokenizeCaption,
} from '../metrics/index.js';
import { listModels } from '../tools/models.js';
import {
  type CaseKind,
  type Folder,
  notRun,
  type ParityCase,
  type ParityRow,
  readJsonFile,
  sniffJson,
} from './cases.js';
import { compareNumbers, countRows } from './compare.js';

const numbers = z.record(z.string(), z.unknown());
const corpus = z.object({
  corpus_scores: numbers,
  images: z.array(
    z.object({
      image_id: z.union([z.string(), z.number()]),
      candidate: z.string(),
      references: z.array(z.string()),
      tokenized_candidate: z.string(),
      tokenized_references: z.array(z.string()),
      scores: z.record(z.string(), z.number()),
    }),
  ),
});
type Corpus = z.infer<typeof corpus>;

const question = z.object({ prediction: z.string(), answers: z.array(z.string()) });
const vqa = z.object({
  overall: z.object({
    overall: z.number(),
    perQuestionType: z.record(z.string(), z.number()),
    perAnswerType: z.record(z.string(), z.number()),
  }),
  questions: z.array(
    z.extend(question, {
      question_id: z.union([z.string(), z.number()]),
      question_type: z.string(),
      answer_type: z.string(),
      accuracy_percent: z.number(),
    }),
  ),
});
const textVqa = z.object({ overall: z.number(), questions: z.array(z.extend(question, { accuracy: z.number() })) });
const stVqa = z.object({
  overall_anls: z.number(),
  overall_accuracy: z.number(),
  questions: z.array(z.extend(question, { anls: z.number(), accuracy: z.number() })),
});
const ptbPairs = z.object({
  pairs: z.array(z.object({ in: z.string(), tokens_line: z.string(), caption: z.string() })),
});
const vqaPairs = z.object({
  pairs: z.array(z.object({ in: z.string(), after_punctuation: z.string(), out: z.string() })),
});
const textVqaPairs = z.object({ pairs: z.array(z.object({ in: z.string(), out: z.string() })) });

const figures = z.object({
  repo: z.array(
    z.object({
      model: z.string(),
      hf: z.optional(z.string()),
      metric: z.string(),
      value: z.number(),
      exact: z.optional(z.number()),
    }),
  ),
});

/** What a file can be; the first layout that fits is its. */
const LAYOUTS: readonly {
  readonly schema: z.ZodMiniType;
  readonly run: (data: never, name: string) => Generator<ParityRow>;
}[] = [
  { schema: corpus, run: corpusRows },
  { schema: z.record(z.string(), corpus), run: corporaRows },
  { schema: ptbPairs, run: tokenizerRows },
  { schema: vqaPairs, run: vqaNormalizationRows },
  { schema: textVqaPairs, run: textVqaNormalizationRows },
  { schema: vqa, run: vqaRows },
  { schema: stVqa, run: stVqaRows },
  { schema: textVqa, run: textVqaRows },
  { schema: figures, run: publishedRows },
];

/** Scores of captions and answers by the field's own programs: every NAME.json of one of these layouts. */
export const metricsCases: CaseKind = {
  async find(folder, unclaimed) {
    const cases: ParityCase[] = [];
    const claims: string[] = [];
    for (const file of unclaimed.filter((name) => name.endsWith('.json'))) {
      for (const { schema, run } of LAYOUTS) {
        if (!(await sniffJson(folder.path, file, schema))) continue;
        cases.push(scoresCase(folder, file, schema, run));
        claims.push(file);
        break;
      }
    }
    return { cases, claims };
  },
};

function scoresCase(
  folder: Folder,
  file: string,
  schema: z.ZodMiniType,
  run: (typeof LAYOUTS)[number]['run'],
): ParityCase {
  const name = `${folder.label}/${file.replace(/\.json$/, '')}`;
  return {
    name,
    async *run() {
      yield* run((await readJsonFile(folder.path, file, schema)) as never, name);
    },
  };
}

/** Sums are taken in another order by other programs. */
const TOLERANCE = 1e-9;

/** Scores equal to 1e-9 of their size; the error is the largest, as a share of the expected value. */
function compareScores(
  caseName: string,
  tensor: string,
  ours: readonly number[],
  expected: readonly number[],
): ParityRow {
  const shares = ours.map((score, i) =>
    score === expected[i] ? 0 : (score - expected[i]!) / Math.max(Math.abs(expected[i]!), Number.MIN_VALUE),
  );
  const zeros = { shape: [expected.length], values: expected.map(() => 0) };
  return compareNumbers(
    caseName,
    tensor,
    { shape: [ours.length], values: shares },
    { expected: zeros, isTruth: false, tolerance: TOLERANCE },
  );
}

const NAMES = {
  Bleu_1: 'bleu1',
  Bleu_2: 'bleu2',
  Bleu_3: 'bleu3',
  Bleu_4: 'bleu4',
  ROUGE_L: 'rougeL',
  CIDEr: 'cider',
} as const satisfies Record<string, keyof CaptionScores>;

function* corporaRows(corpora: Readonly<Record<string, Corpus>>, name: string): Generator<ParityRow> {
  for (const [key, one] of Object.entries(corpora)) yield* corpusRows(one, `${name}/${key}`);
}

function* corpusRows({ corpus_scores: totals, images }: Corpus, name: string): Generator<ParityRow> {
  yield countRows(name, 'tokens', images, (image) => {
    const ours = [image.candidate, ...image.references].map(tokenizeCaption);
    const odd = [image.tokenized_candidate, ...image.tokenized_references].findIndex((text, i) => text !== ours[i]);
    return odd < 0 ? undefined : `: ours ${JSON.stringify(ours[odd])}`;
  });
  const found = scoreCaptions(images.map(({ image_id: id, candidate, references }) => ({ id, candidate, references })));
  const frequencies = documentFrequencies(images.map((image) => image.tokenized_references));
  const plain = images.map((image) =>
    ciderScore(image.tokenized_candidate, image.tokenized_references, frequencies, 'plain'),
  );
  for (const [theirs, ours] of Object.entries(NAMES)) {
    const expected = [Number(totals[theirs]), ...images.map(({ scores }) => scores[theirs]!)];
    yield compareScores(name, theirs, [found[ours], ...found.perItem.map((item) => item[ours])], expected);
  }
  const mean = plain.reduce((sum, score) => sum + score, 0) / images.length;
  const expectedPlain = [Number(totals['CIDEr_plain']), ...images.map(({ scores }) => scores['CIDEr_plain']!)];
  yield compareScores(name, 'CIDEr_plain', [mean, ...plain], expectedPlain);
  const sums = { testlen: 0, reflen: 0, guess: [0, 0, 0, 0], correct: [0, 0, 0, 0] };
  for (const image of images) {
    const counts = bleuCounts(image.tokenized_candidate, image.tokenized_references);
    sums.testlen += counts.candidateLength;
    sums.reflen += counts.referenceLength;
    for (let n = 0; n < 4; n++) {
      sums.guess[n]! += counts.guessed[n]!;
      sums.correct[n]! += counts.correct[n]!;
    }
  }
  const expected = totals['bleu_totals'] as typeof sums | undefined;
  if (expected === undefined) return;
  yield countRows(name, 'bleu_totals', Object.keys(sums) as (keyof typeof sums)[], (key) =>
    String(sums[key]) === String(expected[key]) ? undefined : ` ${key}: ours ${sums[key]}, expected ${expected[key]}`,
  );
}

const differs = (ours: string, expected: string) =>
  ours === expected ? undefined : `: ours ${JSON.stringify(ours)}, expected ${JSON.stringify(expected)}`;

function* tokenizerRows({ pairs }: z.infer<typeof ptbPairs>, name: string): Generator<ParityRow> {
  yield countRows(name, 'tokens', pairs, (pair) => differs(ptbTokens(pair.in).join(' '), pair.tokens_line));
  yield countRows(name, 'caption', pairs, (pair) => differs(tokenizeCaption(pair.in), pair.caption));
}

function* vqaNormalizationRows({ pairs }: z.infer<typeof vqaPairs>, name: string): Generator<ParityRow> {
  yield countRows(name, 'after_punctuation', pairs, (pair) =>
    differs(normalizeAnswerSteps(pair.in).afterPunctuation, pair.after_punctuation),
  );
  yield countRows(name, 'out', pairs, (pair) => differs(normalizeAnswerSteps(pair.in).answer, pair.out));
}

function* textVqaNormalizationRows({ pairs }: z.infer<typeof textVqaPairs>, name: string): Generator<ParityRow> {
  yield countRows(name, 'out', pairs, (pair) => differs(normalizeTextVqaAnswer(pair.in), pair.out));
}

/** The official program rounds percentages to 6 places here. */
const percent = (value: number): number => Math.round(value * 1e8) / 1e6;

function* vqaRows({ overall, questions }: z.infer<typeof vqa>, name: string): Generator<ParityRow> {
  const found = scoreAnswers(
    questions.map((q) => ({
      id: q.question_id,
      prediction: q.prediction,
      answers: q.answers,
      questionType: q.question_type,
      answerType: q.answer_type,
    })),
    'vqa',
  );
  const each = found.perItem.map(({ score }) => percent(score));
  yield compareScores(
    name,
    'accuracy',
    [percent(found.overall), ...each],
    [overall.overall, ...questions.map((q) => q.accuracy_percent)],
  );
  for (const key of ['perQuestionType', 'perAnswerType'] as const) {
    const types = Object.entries(overall[key]);
    yield compareScores(
      name,
      key,
      types.map(([type]) => percent(found[key][type] ?? Number.NaN)),
      types.map(([, value]) => value),
    );
  }
}

function* textVqaRows({ overall, questions }: z.infer<typeof textVqa>, name: string): Generator<ParityRow> {
  const found = scoreAnswers(
    questions.map((q, id) => ({ ...q, id })),
    'textvqa',
  );
  yield compareScores(
    name,
    'accuracy',
    [found.overall, ...found.perItem.map(({ score }) => score)],
    [overall, ...questions.map((q) => q.accuracy)],
  );
}

function* stVqaRows(
  { overall_anls, overall_accuracy, questions }: z.infer<typeof stVqa>,
  name: string,
): Generator<ParityRow> {
  for (const [metric, key, overall] of [
    ['anls', 'anls', overall_anls],
    ['stvqa-accuracy', 'accuracy', overall_accuracy],
  ] as const) {
    const found = scoreAnswers(
      questions.map((q, id) => ({ ...q, id })),
      metric,
    );
    yield compareScores(
      name,
      key,
      [found.overall, ...found.perItem.map(({ score }) => score)],
      [overall, ...questions.map((q) => q[key])],
    );
  }
}

/** Published results are compared with those that `reproduce` compares with; measuring them again needs the weights and the data. */
function* publishedRows({ repo }: z.infer<typeof figures>, name: string): Generator<ParityRow> {
  const models = listModels();
  const listed = repo.filter(({ hf }) => hf !== undefined);
  yield countRows(name, 'figures', listed, ({ hf, value, exact = value }) => {
    const ours = models.find(({ id }) => id === hf)?.score?.value;
    return ours === exact ? undefined : ` ${hf}: ours ${ours}, expected ${exact}`;
  });
  yield notRun(name, 'measured', 'needs the published weights and the data sets: image2text reproduce');
}
