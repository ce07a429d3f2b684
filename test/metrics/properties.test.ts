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

  it('the tokenizer leaves out the punctuation of coco-caption, exactly that, and brackets never', () => {
    for (const mark of ["''", "'", '``', '`', '.', '?', '!', ',', ':', '-', '--', '...', ';', '"', '\u2026', '\u2014'])
      assert.equal(tokenizeCaption(`a ${mark} b`), 'a b', mark);
    for (const [mark, token] of [
      ...[['(', '-lrb-'] as const, [')', '-rrb-'] as const, ['{', '-lcb-'] as const, ['}', '-rcb-'] as const],
      ...[['-LRB-', '-lrb-'] as const, ['[', '-lsb-'] as const, ['?!', '?!'] as const, ['!!', '!!'] as const],
      ...[['---', '---'] as const, ['&', '&'] as const, ['*', '*'] as const, ['/', '/'] as const],
    ])
      assert.equal(tokenizeCaption(`a ${mark} b`), `a ${token} b`, mark);
  });

  it('the tokenizer cuts contractions of any word, in any case, with either apostrophe', () => {
    const letters = fc.array(fc.constantFrom(...'abcdefghijklmopqruvwxyz\u00e9\u00f1\u0436\u8a9e'), {
      minLength: 2,
      maxLength: 8,
    });
    const suffix = fc.constantFrom('s', 'm', 'd', 'll', 're', 've');
    const plain = (text: string) => !/^(y|[dol]|cannot|gonna|gotta|lemme|gimme|wanna|tis|twas)$/.test(text);
    const words = letters.map((list) => list.join('')).filter(plain);
    const inCase = fc.constantFrom(
      (text: string) => text,
      (text: string) => text.toUpperCase(),
    );
    fc.assert(
      fc.property(words, suffix, fc.constantFrom("'", '\u2019'), inCase, (text, end, mark, cased) => {
        const shown = cased(text).toLowerCase();
        assert.deepEqual(ptbTokens(cased(`x ${text}${mark}${end} y`)), ['x', shown, `'${end}`, 'y']);
        assert.deepEqual(ptbTokens(cased(`x ${text}n${mark}t y`)), ['x', shown, "n't", 'y']);
      }),
      { seed: 5, numRuns: 500 },
    );
    for (const [whole, cut] of Object.entries({
      ...{ cannot: 'can not', gonna: 'gon na', gotta: 'got ta', lemme: 'lem me', gimme: 'gim me', wanna: 'wan na' },
      ...{ "'tis": "'t is", "'twas": "'t was", "y'all": "y' all", cannots: 'cannots', gonnas: 'gonnas' },
    }))
      for (const text of [whole, whole.toUpperCase()])
        assert.equal(ptbTokens(`x ${text} y`).join(' '), `x ${cut} y`, text);
  });

  it('the tokenizer keeps words of any script whole, in lower case, with their marks, and drops what is beyond the BMP', () => {
    const letter = fc
      .integer({ min: 0x41, max: 0xffdc })
      .map((code) => String.fromCharCode(code))
      .filter((char) => /\p{L}/u.test(char));
    const mark = fc.constantFrom('', '', '\u0301', '\u0308', '\u064b');
    const astral = fc.constantFrom('', '', '\u{1f600}', '\u{20000}', '\ud83d', '\ufe0f', '\u00ad');
    const unit = fc.tuple(letter, mark, astral);
    fc.assert(
      fc.property(fc.array(unit, { minLength: 1, maxLength: 8 }), (units) => {
        const written = units.map((parts) => parts.join('')).join('');
        const kept = units.map(([char, accent]) => char + accent).join('');
        assert.deepEqual(ptbTokens(`7 ${written} 7`), ['7', kept.toLowerCase(), '7']);
      }),
      { seed: 6, numRuns: 1000 },
    );
    assert.deepEqual(ptbTokens('\u{1f600}\u{1f600}'), []);
  });

  it('the tokenizer leaves its own output as it is, but for smileys, lone apostrophes, fractions and the last token', () => {
    const part = fc.constantFrom(
      ...['a', 'dog', "it's", "don't", 'they\u2019re', 'cannot', 'gonna', '"no', 'way"', '(blue)', '[x]', '{y}', '3.5'],
      ...[
        '1,000',
        '10:30',
        'caf\u00e9',
        '-',
        '\u2014',
        '...',
        '.',
        ',',
        '!',
        '?!',
        ';',
        ':',
        '``',
        "''",
        '&',
        '$5',
        '50%',
      ],
      ...['\u00a3', '\u20ac', 't-shirt', 'a/b', '#tag', '@me', 'a.jpg', '\u65e5\u672c', '7th', '*', '+', '='],
    );
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 10 }), fc.constantFrom(' ', '  ', '\n'), (parts, blank) => {
        const once = tokenizeCaption([...parts, 'x'].join(blank)); // 're, 've and 'll are cut before another token only
        assert.equal(tokenizeCaption(once), once);
      }),
      { seed: 7, numRuns: 1000 },
    );
    for (const [text, once, twice] of [
      ["they're .", "they 're", 'they re'], // the last token now, which the original leaves uncut
      ['5  \u00bd', '5 1/2', '5\u00a01/2'],
      [':)', ':-rrb-', '-rrb-'],
      ["'tis so", "'t is so", 't is so'],
      ["y'all go", "y' all go", 'y all go'],
    ] as const)
      assert.deepEqual(
        [`a ${once}`, `a ${twice}`],
        [tokenizeCaption(`a ${text} `), tokenizeCaption(tokenizeCaption(`a ${text} `))],
      );
  });

  it('the tokenizer reads a caption of any kind in proportion to its length', () => {
    for (const unit of [
      '!a',
      'a.1',
      '<a ',
      '@',
      'a@',
      '1-',
      "n't",
      '(5',
      'a ',
      '"',
      'http://a',
      '\u00bd',
      '__$p',
      "a('<",
      "\u00bd'a",
    ]) {
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
