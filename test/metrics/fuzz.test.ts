import assert from 'node:assert/strict';
import { MetricError } from '../../src/errors.js';
import { readPredictions, readReferences } from '../../src/metrics/formats.js';
import { below, changeJson, changeParts, FUZZ_CASES, FUZZ_SEED, pick, type Random, seeded } from '../support/fuzz.js';
import { expectNoPollution, expectTypedError } from '../support/typed-error.js';

const OUR_CAPTIONS = ['a.png', 'b.png', 'c.png'].map((file) => ({ file, text: `a sign of ${file}` }));
const OUR_ANSWERS = [1, 2, 3].map((question_id) => ({ question_id, answer: 'yes' }));
const OUR_REFERENCES = OUR_CAPTIONS.map(({ file, text }) => ({ file, references: [text, 'a sign'] }));
const COCO = {
  images: [1, 2].map((id) => ({ id, file_name: `${id}.jpg` })),
  annotations: [1, 2, 2].map((image_id) => ({ image_id, caption: 'a sign' })),
};
const VQA = {
  annotations: [1, 2].map((question_id) => ({
    question_id,
    image_id: 5,
    answers: [{ answer: 'yes' }, { answer: 'no' }],
  })),
};
const TEXT_VQA = {
  data: [1, 2].map((question_id) => ({ question_id, image_id: 'x', question: 'what?', answers: ['a'] })),
};

type Reader = (text: Uint8Array) => Promise<{ readonly ids: readonly unknown[] }>;
const predictions: Reader = async (bytes) => ({ ids: (await readPredictions(bytes, 'f')).map(({ id }) => id) });
const references: Reader = async (bytes) => ({ ids: (await readReferences(bytes, 'f')).items.map(({ id }) => id) });

/** Lines of JSON with changed objects in them, blank lines, other ends of line, and lines that are cut. */
function lines(random: Random, rows: readonly unknown[]): string {
  const changed = changeParts(random, rows, (row) => changeJson(random, row)).map((row) => JSON.stringify(row));
  const text = changeParts(random, random() < 0.5 ? [...changed, ''] : changed, (line = '') =>
    pick(random, [
      '',
      ' ',
      line.slice(0, below(random, line.length + 1)),
      `${line}${line}`,
      `x\t${line}`,
      `\ufeff${line}`,
    ]),
  );
  return (random() < 0.5 ? changed : text).join(pick(random, ['\n', '\n', '\r\n', '\n\n'])) + pick(random, ['', '\n']);
}

const KINDS: readonly [string, Reader, (random: Random) => string][] = [
  ['captions in JSONL', predictions, (random) => lines(random, OUR_CAPTIONS)],
  ['answers in JSONL', predictions, (random) => lines(random, OUR_ANSWERS)],
  [
    'captions in TSV',
    predictions,
    (random) =>
      changeParts(random, OUR_CAPTIONS, (row) => row)
        .map(
          ({ file, text }) =>
            `${file}\t${JSON.stringify(random() < 0.8 ? [{ caption: text }] : changeJson(random, [{ caption: text }]))}`,
        )
        .join('\n'),
  ],
  [
    'results in JSON',
    predictions,
    (random) => JSON.stringify(changeJson(random, [{ image_id: 1, caption: 'a' }]), null, below(random, 3)),
  ],
  ['references in JSONL', references, (random) => lines(random, OUR_REFERENCES)],
  [
    'COCO, VQAv2, TextVQA',
    references,
    (random) => JSON.stringify(changeJson(random, pick(random, [COCO, VQA, TEXT_VQA])), null, below(random, 3)),
  ],
];

describe('predictions and references whose structure was changed: items or a MetricError', () => {
  for (const [kind, read, make] of KINDS) {
    it(`${kind}: ${FUZZ_CASES} files, seed ${FUZZ_SEED}`, async () => {
      const random = seeded(FUZZ_SEED);
      const counts = { read: 0, refused: 0 };
      for (let n = 0; n < FUZZ_CASES; n++) {
        const text = make(random);
        const what = `${kind} case ${n} of seed ${FUZZ_SEED}`;
        try {
          const { ids } = await read(new TextEncoder().encode(text));
          assert.ok(ids.every((id) => typeof id === 'string') && ids.length <= text.length, what);
          // nothing is lost: of lines each that is not blank is an item; a list is a file of another kind
          if (kind.endsWith('JSONL') && !text.trimStart().startsWith('['))
            assert.equal(ids.length, text.split('\n').filter((line) => line.trim() !== '').length, `${what}: ${text}`);
          counts.read++;
        } catch (error) {
          expectTypedError(error, what, MetricError);
          counts.refused++;
        }
        expectNoPollution(what);
      }
      console.log(`      ${kind}, seed ${FUZZ_SEED}: ${counts.read} read, ${counts.refused} refused`);
      assert.ok(counts.read > FUZZ_CASES / 20 && counts.refused > FUZZ_CASES / 20, JSON.stringify(counts));
    });
  }
});
