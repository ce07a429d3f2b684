import assert from 'node:assert/strict';
import * as metrics from '../../src/metrics/index.js';
import { METRICS_REFERENCE, readJson } from '../support/fixtures.js';

const golden = <T>(name: string): T => readJson<T>(`${METRICS_REFERENCE}${name}.json`);

/** Equal to 1e-9 of the value. */
function expectClose(actual: number, expected: number, what: string): void {
  assert.ok(
    Math.abs(actual - expected) <= 1e-9 * Math.max(Math.abs(expected), 1e-300),
    `${what}: ${actual}, not ${expected}`,
  );
}

interface Scores {
  readonly [name: string]: number;
}
interface Corpus {
  readonly corpus_scores: Scores & {
    readonly bleu_totals: { testlen: number; reflen: number; guess: number[]; correct: number[] };
  };
  readonly images: readonly {
    readonly image_id: number;
    readonly candidate: string;
    readonly references: string[];
    readonly tokenized_candidate: string;
    readonly tokenized_references: string[];
    readonly scores: Scores;
  }[];
}

function expectScores(found: metrics.CaptionScores, expected: Scores, what: string): void {
  expectClose(found.bleu1, expected['Bleu_1']!, `${what} BLEU-1`);
  expectClose(found.bleu2, expected['Bleu_2']!, `${what} BLEU-2`);
  expectClose(found.bleu3, expected['Bleu_3']!, `${what} BLEU-3`);
  expectClose(found.bleu4, expected['Bleu_4']!, `${what} BLEU-4`);
  expectClose(found.rougeL, expected['ROUGE_L']!, `${what} ROUGE-L`);
  expectClose(found.cider, expected['CIDEr']!, `${what} CIDEr`);
}

function checkCorpus({ corpus_scores: corpus, images }: Corpus): void {
  const items = images.map(({ image_id: id, candidate, references }) => ({ id, candidate, references }));
  const found = metrics.scoreCaptions(items);
  expectScores(found, corpus, 'corpus');
  const frequencies = metrics.documentFrequencies(images.map((image) => image.tokenized_references));
  let plain = 0;
  const totals = { testlen: 0, reflen: 0 };
  const sums = { guess: [0, 0, 0, 0], correct: [0, 0, 0, 0] };
  for (const [i, image] of images.entries()) {
    const what = `image ${image.image_id}`;
    assert.equal(metrics.tokenizeCaption(image.candidate), image.tokenized_candidate);
    assert.deepEqual(image.references.map(metrics.tokenizeCaption), image.tokenized_references);
    expectScores(found.perItem[i]!, image.scores, what);
    const cider = metrics.ciderScore(image.tokenized_candidate, image.tokenized_references, frequencies, 'plain');
    expectClose(cider, image.scores['CIDEr_plain']!, `${what} CIDEr, plain`);
    plain += cider;
    const counts = metrics.bleuCounts(image.tokenized_candidate, image.tokenized_references);
    totals.testlen += counts.candidateLength;
    totals.reflen += counts.referenceLength;
    for (let n = 0; n < 4; n++) {
      sums.guess[n]! += counts.guessed[n]!;
      sums.correct[n]! += counts.correct[n]!;
    }
  }
  expectClose(plain / images.length, corpus['CIDEr_plain']!, 'CIDEr, plain');
  assert.deepEqual({ ...totals, ...sums }, corpus.bleu_totals);
}

describe('metrics against the reference programs', () => {
  it('300 images with 5 references', () => checkCorpus(golden<Corpus>('captions_300')));
  it('40 images with 1 to 6 references', () => checkCorpus(golden<Corpus>('captions_40_varied_refs')));
  for (const [name, corpus] of Object.entries(golden<Record<string, Corpus>>('hand_cases'))) {
    it(`by hand: ${name}`, () => checkCorpus(corpus));
  }

  it('the tokenizer, line by line', () => {
    const { pairs } = golden<{ pairs: { in: string; tokens_line: string; caption: string }[] }>('ptb_tokenizer_400');
    for (const { in: text, tokens_line: line, caption } of pairs) {
      assert.equal(metrics.ptbTokens(text).join(' '), line, JSON.stringify(text));
      assert.equal(metrics.tokenizeCaption(text), caption, JSON.stringify(text));
    }
    assert.equal(pairs.length, 400);
  });

  it('normalized answers of VQA and TextVQA', () => {
    const vqa = golden<{ pairs: { in: string; after_punctuation: string; out: string }[] }>('vqa_normalise_300').pairs;
    for (const { in: text, after_punctuation: afterPunctuation, out: answer } of vqa) {
      assert.deepEqual(metrics.normalizeAnswerSteps(text), { afterPunctuation, answer }, JSON.stringify(text));
    }
    const textVqa = golden<{ pairs: { in: string; out: string }[] }>('textvqa_normalise_300').pairs;
    for (const { in: text, out } of textVqa)
      assert.equal(metrics.normalizeTextVqaAnswer(text), out, JSON.stringify(text));
    assert.deepEqual([vqa.length, textVqa.length], [300, 300]);
  });

  interface Question {
    readonly question_id: number;
    readonly question_type: string;
    readonly answer_type: string;
    readonly prediction: string;
    readonly answers: string[];
    readonly accuracy_percent: number;
    readonly accuracy: number;
    readonly anls: number;
  }

  it('VQAv2 accuracy, by question and type', () => {
    type Golden = {
      overall: { overall: number; perQuestionType: Scores; perAnswerType: Scores };
      questions: Question[];
    };
    const { overall, questions } = golden<Golden>('vqa_accuracy_120');
    const found = metrics.scoreAnswers(
      questions.map((q) => ({
        id: q.question_id,
        prediction: q.prediction,
        answers: q.answers,
        questionType: q.question_type,
        answerType: q.answer_type,
      })),
      'vqa',
    );
    const percent = (value: number) => Math.round(value * 1e8) / 1e6;
    for (const [i, question] of questions.entries()) {
      assert.equal(percent(found.perItem[i]!.score), question.accuracy_percent, JSON.stringify(question));
    }
    const percents = (means: Scores) =>
      Object.fromEntries(Object.entries(means).map(([name, value]) => [name, percent(value)]));
    assert.deepEqual(
      {
        overall: percent(found.overall),
        perQuestionType: percents(found.perQuestionType),
        perAnswerType: percents(found.perAnswerType),
      },
      overall,
    );
  });

  it('TextVQA accuracy, and accuracy and ANLS of ST-VQA', () => {
    const textVqa = golden<{ overall: number; questions: Question[] }>('textvqa_accuracy_80');
    const items = (questions: readonly Question[]) =>
      questions.map(({ prediction, answers }, id) => ({ id, prediction, answers }));
    const found = metrics.scoreAnswers(items(textVqa.questions), 'textvqa');
    expectClose(found.overall, textVqa.overall, 'TextVQA');
    for (const [i, { accuracy }] of textVqa.questions.entries())
      expectClose(found.perItem[i]!.score, accuracy, `question ${i}`);
    const st = golden<{ overall_anls: number; overall_accuracy: number; questions: Question[] }>('stvqa_150');
    const anls = metrics.scoreAnswers(items(st.questions), 'anls');
    const accuracy = metrics.scoreAnswers(items(st.questions), 'stvqa-accuracy');
    expectClose(anls.overall, st.overall_anls, 'ANLS');
    expectClose(accuracy.overall, st.overall_accuracy, 'ST-VQA');
    for (const [i, question] of st.questions.entries()) {
      expectClose(anls.perItem[i]!.score, question.anls, `question ${i}`);
      assert.equal(accuracy.perItem[i]!.score, question.accuracy);
    }
  });
});
