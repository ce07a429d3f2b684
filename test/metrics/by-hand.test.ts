import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  anls,
  normalizeAnswer,
  normalizeTextVqaAnswer,
  scoreCaptions,
  scoreTokenized,
  stVqaAccuracy,
  textVqaAccuracy,
  tokenizeCaption,
  vqaAccuracy,
} from '../../src/metrics/index.js';
import { FULL } from '../support/full.js';
import { naiveBleu, naiveCider, naiveRouge } from './naive-metrics.js';

/** Equal to 1e-9 of the value. */
function close(found: number, expected: number, what = ''): void {
  const allowed = 1e-9 * Math.abs(expected) + 1e-30;
  assert.ok(Math.abs(found - expected) <= allowed, `${what}: ${found}, not ${expected}`);
}

describe('scores of captions by hand', () => {
  it('BLEU clips repeated words, and is short beside the closest reference, the shorter of two as close', () => {
    const { bleu1, bleu2 } = scoreCaptions([
      { id: 1, candidate: 'the the the the', references: ['the cat is on the mat', 'there is a cat'] },
    ]);
    close(bleu1, 2 / 4); // both references are two words away or none: four words
    assert.ok(bleu2 < 1e-7); // no bigram
    const short = scoreCaptions([{ id: 1, candidate: 'a dog runs', references: ['a dog', 'a dog runs far'] }]);
    close(short.bleu1, (3 / 3) * 1, 'the shorter one'); // else exp(1 - 4/3)
    close(short.bleu2, Math.sqrt((2 + 1e-15) / (2 + 1e-9)) * Math.sqrt((3 + 1e-15) / (3 + 1e-9)));
    const penalty = scoreCaptions([{ id: 1, candidate: 'a dog', references: ['a dog runs far'] }]);
    close(Math.round(penalty.bleu1 * 1e8) / 1e8, Math.round(Math.exp(1 - 4 / 2) * 1e8) / 1e8);
  });

  it('ROUGE-L takes the best precision and the best recall, of different references if need be', () => {
    const { rougeL } = scoreCaptions([
      { id: 1, candidate: 'a red dog runs', references: ['a dog', 'a red dog runs by the sea'] },
    ]);
    const [precision, recall] = [4 / 4, 2 / 2];
    close(rougeL, ((1 + 1.44) * precision * recall) / (recall + 1.44 * precision));
    const worse = scoreCaptions([{ id: 1, candidate: 'runs dog', references: ['a dog runs'] }]).rougeL;
    close(worse, (2.44 * (1 / 2) * (1 / 3)) / (1 / 3 + 1.44 * (1 / 2)));
  });

  it('CIDEr-D weighs by rarity, clips, and is less for another length', () => {
    const { perItem, cider } = scoreCaptions([
      { id: 1, candidate: 'red red dog', references: ['red dog'] },
      { id: 2, candidate: 'cat', references: ['cat'] },
    ]);
    // Image 1: idf is ln 2 for all, and falls out. Words: (2, 1) clipped to (1, 1) against (1, 1); bigrams: of "red red" and "red dog" one.
    const factor = Math.exp(-1 / 72);
    const words = 2 / (Math.sqrt(5) * Math.sqrt(2));
    const bigrams = 1 / (Math.sqrt(2) * 1);
    close(perItem[0]!.cider, 10 * factor * ((words + bigrams) / 4));
    close(perItem[1]!.cider, 10 / 4); // one word has no longer n-grams
    close(cider, (perItem[0]!.cider + perItem[1]!.cider) / 2);
  });

  it('captions of nothing, of punctuation, and of one image', () => {
    const found = scoreCaptions([
      { id: 1, candidate: '', references: ['...', '"!"'] },
      { id: 2, candidate: '?!.', references: ['a sign'] },
      { id: 3, candidate: 'a 東京 sign', references: ['a 東京 sign', 'é', '👍'] },
    ]);
    close(found.perItem[0]!.rougeL, 1); // empty against empty
    assert.equal(found.perItem[0]!.cider, 0);
    assert.equal(found.perItem[1]!.rougeL, 0);
    assert.equal(found.perItem[2]!.rougeL, 1);
    close(found.perItem[2]!.cider, (10 * (3 / 4)) / 3); // one reference of three is equal, and has no four words
    for (const scores of found.perItem)
      for (const value of Object.values(scores)) assert.ok(Number.isFinite(Number(value)));
    assert.equal(scoreCaptions([{ id: 1, candidate: 'a dog', references: ['a dog'] }]).cider, 0);
    assert.equal(tokenizeCaption('?!.'), '?!'); // one token that is not in the list of punctuation
    assert.equal(tokenizeCaption('?'), '');
  });

  it('a very long caption', () => {
    const long = Array.from({ length: 3000 }, (_, i) => `w${i % 700}`).join(' ');
    const found = scoreCaptions([
      { id: 1, candidate: long, references: [long, 'a dog'] },
      { id: 2, candidate: 'a dog', references: ['a dog'] },
    ]);
    assert.equal(found.perItem[0]!.rougeL, 1);
    assert.ok(found.perItem[0]!.bleu4 > 0.999999);
    close(found.perItem[0]!.cider, 10 / 2); // the other reference shares nothing
    const longest = { id: 'x', candidate: 'a dog', references: ['a '.repeat(20_001)] };
    assert.throws(() => scoreCaptions([longest]), /item "x": too-long: a caption of more than 20000 words/);
  });

  it('are what the definitions give, on corpora of few words with much repeated', () => {
    const caption = fc
      .array(fc.constantFrom('a', 'b', 'c', 'dog', 'é', '5\u00a01/2'), { maxLength: 9 })
      .map((list) => list.join(' '));
    const item = fc.record({ candidate: caption, references: fc.array(caption, { minLength: 1, maxLength: 6 }) });
    fc.assert(
      fc.property(fc.array(item, { minLength: 1, maxLength: 8 }), (items) => {
        const found = scoreTokenized(items.map((one, id) => ({ id, ...one })));
        for (const [key, n] of [
          ['bleu1', 1],
          ['bleu2', 2],
          ['bleu3', 3],
          ['bleu4', 4],
        ] as const) {
          close(found[key], naiveBleu(items, n), key);
          for (const [i, one] of items.entries()) close(found.perItem[i]![key], naiveBleu([one], n), key);
        }
        for (const [i, one] of items.entries()) {
          close(found.perItem[i]!.rougeL, naiveRouge(one), 'ROUGE-L');
          close(found.perItem[i]!.cider, naiveCider(items, i), 'CIDEr');
        }
      }),
      { seed: 5, numRuns: FULL ? 300 : 100 },
    );
  });
});

describe('scores of answers by hand', () => {
  it('normalization for VQA', () => {
    const cases: Readonly<Record<string, string>> = {
      'The Two dogs': '2 dogs',
      'one, two': '1 2',
      '1,000': '1000',
      'red,white': 'red white',
      'red, white': 'red white',
      'a/b 1,5': 'ab 15', // a comma between digits deletes all marks
      dont: "don't",
      'youre an idiot': "you're idiot",
      "couldn'tve": "couldn't've",
      '3.14.': '3.14',
      'U.S.A.': 'usa',
      'none of ten': '0 of 10',
      'what?!': 'what',
      'black-white': 'black white',
      'black - white': 'black white',
      '\n a\tcat \n': 'cat',
      Ünïted: 'ünïted',
      '٣,٤': '٣٤',
      "Id've": "id've",
      'a the an': '',
    };
    for (const [answer, expected] of Object.entries(cases))
      assert.equal(normalizeAnswer(answer), expected, JSON.stringify(answer));
  });

  it('normalization for TextVQA', () => {
    const cases: Readonly<Record<string, string>> = {
      "McDonald's": "mcdonald 's",
      '1,000?': '1000',
      'A, B': 'b',
      whats: "what's",
      "'s": "'s",
    };
    for (const [answer, expected] of Object.entries(cases))
      assert.equal(normalizeTextVqaAnswer(answer), expected, JSON.stringify(answer));
  });

  it('white space is what Python takes for it', () => {
    for (const space of ['\x1c', '\x1f', '\x85', '\u00a0', '\u2009', '\u3000']) {
      assert.equal(normalizeAnswer(`${space}two${space}dogs${space}`), '2 dogs', JSON.stringify(space));
      assert.equal(anls(`${space}stop`, ['stop']), 1, JSON.stringify(space));
    }
    for (const other of ['\ufeff', '\u200b']) {
      assert.equal(normalizeAnswer(`two${other}dogs`), `two${other}dogs`, JSON.stringify(other));
      assert.ok(anls(`${other}stop`, ['stop']) < 1, JSON.stringify(other));
    }
  });

  it('accuracy of VQAv2 leaves each person out in turn', () => {
    const answers = (...counts: [string, number][]) => counts.flatMap(([text, count]) => Array(count).fill(text));
    close(vqaAccuracy('red', answers(['red', 2], ['blue', 8])), (2 * (1 / 3) + 8 * (2 / 3)) / 10);
    close(vqaAccuracy('red', answers(['red', 3], ['blue', 7])), (3 * (2 / 3) + 7 * 1) / 10);
    assert.equal(vqaAccuracy('Two', answers(['2', 5], ['two', 5])), 1);
    assert.equal(vqaAccuracy('Red', answers(['red', 10])), 0); // all the same: nothing is normalized
    assert.equal(vqaAccuracy(' red\n', answers(['red', 10])), 1);
    assert.equal(textVqaAccuracy('Red.', answers(['red', 10])), 1); // there it always is
  });

  it('ANLS is 0 below one half and counts at it, over code points', () => {
    close(anls('abcd', ['abxy']), 0.5);
    assert.equal(anls('abcde', ['abxyz']), 0);
    close(anls('ABC', ['abcd', 'xyz']), 0.75);
    close(anls('👍👍', ['👍']), 0.5);
    assert.equal(anls('', ['']), 1);
    assert.equal(anls('', ['a']), 0);
    assert.equal(anls('a b', ['a b']), 1);
    close(anls('a b', ['a  b']), 0.75); // only the ends are stripped
    assert.equal(anls('x'.repeat(1_000_000), ['stop']), 0); // by its length alone
    assert.throws(() => anls('x'.repeat(20_001), ['y'.repeat(20_001)]), /too-long/);
    assert.equal(stVqaAccuracy('the Stop.', ['stop', 'go']), 1);
    assert.equal(stVqaAccuracy('stops', ['stop', 'go']), 0);
  });
});
