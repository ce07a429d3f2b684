import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod/mini';
import { readJson } from '../checkpoint/json.js';
import { ConfigError } from '../errors.js';
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
import { loadTokenizer, type Tokenizer } from '../tokenizer/tokenizer.js';
import { listModels } from '../tools/models.js';
import {
  type CaseKind,
  checkLayout,
  exactRow,
  type Folder,
  notRun,
  type ParityCase,
  type ParityRow,
  readJsonFile,
  sniffJson,
} from './cases.js';
import { compareNumbers, countRows, firstDifference } from './compare.js';
import { idRows } from './generation-cases.js';

const VOCABULARY = 'vocab.txt';

const ids = z.array(z.int());
const decoded = { skip_clean: z.string(), skip_raw: z.string(), keep_clean: z.string(), keep_raw: z.string() };

/** What a row of a file can be; the first layout that fits the first row is that of the file. */
const TOKENIZER_LAYOUTS = [
  { schema: z.object({ texts: z.array(z.string()), input_ids: idRows, attention_mask: idRows }), run: runBatch },
  { schema: z.object({ ids, ...decoded }), run: runDecode },
  { schema: z.object({ text: z.string(), max_length: z.int(), ids }), run: runTruncate },
  { schema: z.object({ text: z.string(), ids }), run: runEncode },
] as const;

const metaSign = z.object({ vocab_sha256: z.string() });

/** Texts and ids of a folder's vocab.txt: every NAME.jsonl, a row a line. */
export const tokenizerCases: CaseKind = {
  async find(folder, unclaimed) {
    if (!folder.files.includes(VOCABULARY)) return undefined;
    const files = unclaimed.filter((file) => file.endsWith('.jsonl'));
    const cases = files.map((file) => rowsCase(folder, file));
    const hasMeta = unclaimed.includes('meta.json') && (await sniffJson(folder.path, 'meta.json', metaSign));
    if (hasMeta) cases.unshift(vocabularyCase(folder));
    return { cases, claims: [...files, ...(hasMeta ? ['meta.json'] : [])] };
  },
};

function vocabularyCase(folder: Folder): ParityCase {
  const name = `${folder.label}/${VOCABULARY}`;
  return {
    name,
    async *run() {
      const { vocab_sha256: expected } = await readJsonFile(folder.path, 'meta.json', metaSign);
      const found = createHash('sha256')
        .update(await readFile(join(folder.path, VOCABULARY)))
        .digest('hex');
      yield exactRow(name, 'sha256', found === expected ? 0 : 1, 'another vocabulary than the cases were made with');
    },
  };
}

function rowsCase(folder: Folder, file: string): ParityCase {
  const name = `${folder.label}/${file.replace(/\.jsonl$/, '')}`;
  return {
    name,
    async *run() {
      const rows = await readRows(folder.path, file);
      for (const { schema, run } of TOKENIZER_LAYOUTS) {
        if (!z.safeParse(schema, rows[0]).success) continue;
        const tokenizer = await openTokenizer(folder);
        yield* run(tokenizer, checkLayout(rows, file, z.array(schema)) as never, name);
        return;
      }
      yield notRun(name, '-', 'no layout of rows that parity knows');
    },
  };
}

async function openTokenizer(folder: Folder): Promise<Tokenizer> {
  const bytes = async (file: string) => new Uint8Array(await readFile(join(folder.path, file)));
  const config = 'tokenizer_config.json';
  return loadTokenizer({
    vocabTxt: { bytes: await bytes(VOCABULARY), file: VOCABULARY },
    ...(folder.files.includes(config) && {
      tokenizerConfig: { json: readJson(await bytes(config), config), file: config },
    }),
  });
}

async function readRows(folder: string, file: string): Promise<unknown[]> {
  const lines = (await readFile(join(folder, file), 'utf8')).split('\n');
  return lines.flatMap((line, index) => {
    if (line.trim() === '') return [];
    try {
      return [JSON.parse(line) as unknown];
    } catch {
      throw new ConfigError({ file, path: `line ${index + 1}`, code: 'not-json', detail: 'this line is not JSON' });
    }
  });
}

type TextRow = { readonly text: string; readonly ids: readonly number[] };

async function* runEncode(tokenizer: Tokenizer, rows: readonly TextRow[], name: string): AsyncGenerator<ParityRow> {
  yield countRows(name, 'ids', rows, (row) =>
    firstDifference(tokenizer.encode(row.text, { addSpecialTokens: false }), row.ids),
  );
  yield countRows(name, 'ids with [CLS] and [SEP]', rows, (row) =>
    firstDifference(tokenizer.encode(row.text), [tokenizer.clsId, ...row.ids, tokenizer.sepId]),
  );
}

async function* runTruncate(
  tokenizer: Tokenizer,
  rows: readonly (TextRow & { readonly max_length: number })[],
  name: string,
): AsyncGenerator<ParityRow> {
  yield countRows(name, 'ids', rows, (row) =>
    firstDifference(tokenizer.encode(row.text, { maxLength: row.max_length }), row.ids),
  );
}

async function* runBatch(
  tokenizer: Tokenizer,
  rows: readonly {
    readonly texts: readonly string[];
    readonly input_ids: readonly (readonly number[])[];
    readonly attention_mask: readonly (readonly number[])[];
  }[],
  name: string,
): AsyncGenerator<ParityRow> {
  const flat = (table: readonly (readonly number[])[]) => table.flatMap((row) => [...row, -1]);
  yield countRows(name, 'input_ids', rows, (row) =>
    firstDifference(flat(tokenizer.encodeBatch(row.texts).inputIds), flat(row.input_ids)),
  );
  yield countRows(name, 'attention_mask', rows, (row) =>
    firstDifference(flat(tokenizer.encodeBatch(row.texts).attentionMask), flat(row.attention_mask)),
  );
}

async function* runDecode(
  tokenizer: Tokenizer,
  rows: readonly ({ readonly ids: readonly number[] } & Readonly<Record<keyof typeof decoded, string>>)[],
  name: string,
): AsyncGenerator<ParityRow> {
  for (const column of Object.keys(decoded) as (keyof typeof decoded)[]) {
    const options = {
      skipSpecialTokens: column.startsWith('skip'),
      cleanUpTokenizationSpaces: column.endsWith('clean'),
    };
    yield countRows(name, column, rows, (row) => {
      const text = tokenizer.decode(row.ids, options);
      return text === row[column]
        ? undefined
        : `: ours ${JSON.stringify(text)}, expected ${JSON.stringify(row[column])}`;
    });
  }
}

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
const METRIC_LAYOUTS: readonly {
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
      for (const { schema, run } of METRIC_LAYOUTS) {
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
  run: (typeof METRIC_LAYOUTS)[number]['run'],
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
