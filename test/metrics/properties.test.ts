import assert from 'node:assert/strict';
import { build } from 'esbuild';
import fc from 'fast-check';
import {
  anls,
  exactMatch,
  MetricError,
  ptbTokens,
  scoreAnswers,
  scoreCaptions,
  tokenizeCaption,
  topKAccuracy,
  vqaAccuracy,
} from '../../src/metrics/index.js';
import { ROOT } from '../support/fixtures.js';

const word = fc.constantFrom(
  'a',
  'red',
  'sign',
  'says',
  'stop',
  'dog',
  "it's",
  '"No',
  'way"',
  '(blue)',
  '3.5',
  'U.S.',
  'café',
);
const caption = fc.array(word, { minLength: 4, maxLength: 12 }).map((words) => words.join(' '));
const items = fc
  .array(fc.record({ candidate: caption, references: fc.array(caption, { minLength: 1, maxLength: 4 }) }), {
    minLength: 2,
    maxLength: 12,
  })
  .map((list) => list.map((item, id) => ({ id, ...item })));

describe('metrics, as properties', () => {
  it('a caption equal to its only reference scores the maximum', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(caption, {
          minLength: 2,
          maxLength: 10,
          selector: (text) => tokenizeCaption(text).split(' ')[0] + text,
        }),
        (captions) => {
          const found = scoreCaptions(captions.map((text, id) => ({ id, candidate: text, references: [text] })));
          for (const bleu of [found.bleu1, found.bleu2, found.bleu3, found.bleu4])
            assert.ok(Math.abs(bleu - 1) < 1e-6, `${bleu}`);
          assert.ok(Math.abs(found.rougeL - 1) < 1e-12);
          for (const { cider } of found.perItem) assert.ok(cider <= 10 + 1e-9, `${cider}`);
        },
      ),
      { seed: 1, numRuns: 200 },
    );
    const distinct = [
      'a man rides a bike',
      'two dogs eat red cake',
      'the sign says stop now',
      'some zebras look at cars',
    ];
    const { cider } = scoreCaptions(distinct.map((text, id) => ({ id, candidate: text, references: [text] })));
    assert.ok(Math.abs(cider - 10) < 1e-9, `${cider}: nothing is in every image`);
  });

  it('the order of items does not matter', () => {
    fc.assert(
      fc.property(items, fc.integer(), (list, seed) => {
        const found = scoreCaptions(list);
        const shuffled = [...list].sort((a, b) => Math.sin(seed + a.id) - Math.sin(seed + b.id));
        const again = scoreCaptions(shuffled);
        for (const { id, ...scores } of found.perItem) {
          const { id: _, ...others } = again.perItem.find((other) => other.id === id)!;
          assert.deepEqual(others, scores);
        }
        for (const key of ['bleu1', 'bleu2', 'bleu3', 'bleu4', 'rougeL', 'cider'] as const) {
          assert.ok(Math.abs(found[key] - again[key]) < 1e-12, key);
        }
      }),
      { seed: 2, numRuns: 200 },
    );
  });

  it('every score is in its range, and more agreement never scores less', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary' }),
        fc.array(fc.string({ unit: 'binary' }), { minLength: 10, maxLength: 10 }),
        (said, answers) => {
          for (const score of [vqaAccuracy(said, answers), anls(said, answers), exactMatch(said, answers)])
            assert.ok(score >= 0 && score <= 1);
          assert.equal(exactMatch(said, [...answers, said]), 1);
          assert.equal(anls(said, [...answers, said]), 1);
        },
      ),
      { seed: 3, numRuns: 300 },
    );
    const agreeing = [0, 1, 2, 3, 4, 10].map((n) =>
      vqaAccuracy('red', [...Array(n).fill('red'), ...Array(10 - n).fill('blue')]),
    );
    assert.deepEqual(
      agreeing.map((x) => Math.round(x * 100)),
      [0, 30, 60, 90, 100, 100],
    );
  });

  it('the tokenizer is total, and its tokens hold no blank but the no-break space', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 60 }), (text) => {
        for (const token of ptbTokens(text))
          assert.ok(token !== '' && !/[ \t\r\n]/.test(token), JSON.stringify([text, token]));
      }),
      { seed: 4, numRuns: 2000 },
    );
  });

  it('the tokenizer reads a caption of any kind in proportion to its length', () => {
    for (const unit of ['!a', 'a.1', '<a ', '@', 'a@', '1-', "n't", '(5', 'a ', '"', 'http://a', '\u00bd']) {
      assert.ok(ptbTokens(unit.repeat(20_000)).length > 0, unit); // a square of 40,000 would not end within the test's time
    }
  });

  it('top-k', () => {
    assert.deepEqual(
      [1, 2, 3].map((k) => topKAccuracy(['cat', 'dog', 'bus'], 'dog', k)),
      [0, 1, 1],
    );
    assert.throws(() => topKAccuracy(['a'], 'a', 0), MetricError);
  });

  it('what cannot be scored is a typed error', () => {
    const refused = (body: () => unknown, code: string) =>
      assert.throws(body, (error) => error instanceof MetricError && error.code === code);
    refused(() => scoreCaptions([]), 'no-items');
    refused(() => scoreCaptions([{ id: 1, candidate: 'a', references: [] }]), 'missing-references');
    refused(() => scoreCaptions([1, 1].map((id) => ({ id, candidate: 'a', references: ['a'] }))), 'duplicate-id');
    refused(() => scoreCaptions([{ id: 1, candidate: 7 as never, references: ['a'] }]), 'wrong-type');
    refused(() => scoreAnswers([], 'vqa'), 'no-items');
    refused(() => scoreAnswers([{ id: 1, prediction: 'a', answers: [] }], 'vqa'), 'missing-references');
    refused(() => vqaAccuracy('a', [7 as never]), 'wrong-type');
  });
});

describe('the metrics entry point', () => {
  /** Files and size of a bundle for a page. */
  async function bundle(code: string): Promise<{ inputs: string[]; bytes: number }> {
    const { metafile, outputFiles } = await build({
      stdin: { contents: code, resolveDir: `${ROOT}src/metrics`, loader: 'ts' },
      bundle: true,
      write: false,
      format: 'esm',
      platform: 'browser',
      metafile: true,
      minify: true,
    });
    const [output] = Object.values(metafile.outputs);
    const inputs = Object.entries(output!.inputs).flatMap(([file, { bytesInOutput }]) =>
      bytesInOutput > 0 ? [file] : [],
    );
    return { inputs, bytes: outputFiles[0]!.contents.length };
  }

  it('bundles for a page without tfjs and without Node', async () => {
    const { inputs } = await bundle("export * from './index.ts';");
    assert.ok(
      inputs.some((file) => file.includes('src/metrics/captions')),
      inputs.join(),
    );
    assert.deepEqual(
      inputs.filter(
        (file) => /tensorflow|tfjs|node:/.test(file) || (file.includes('node_modules') && !file.includes('/zod/')),
      ),
      [],
    );
  });

  it('one score brings nothing of other packages', async () => {
    const { inputs, bytes } = await bundle("export { ciderScore, scoreCaptions, vqaAccuracy } from './index.ts';");
    assert.deepEqual(
      inputs.filter((file) => file.includes('node_modules')),
      [],
    );
    assert.ok(bytes < 25_000, `${bytes} bytes`);
  });
});
