import assert from 'node:assert/strict';
import { orderLongMarkRuns } from '../../src/tokenizer/normalize.js';
import { createSegmenter } from '../../src/tokenizer/vocabulary.js';
import { longestMatch, wordPieceModel, wordPieces } from '../../src/tokenizer/word-piece.js';
import { FULL } from '../support/full.js';
import { demoTokenizer, tinyTokenizer } from './support.js';

/** Methods of strings through which a text is read, and how many of its units each call reads at most. */
const READS: Readonly<Record<string, (text: string, args: readonly unknown[], result: unknown) => number>> = {
  charCodeAt: () => 1,
  codePointAt: () => 1,
  slice: (_, __, result) => (result as string).length,
  split: (text) => text.length,
  replace: (text) => text.length,
  toLowerCase: (text) => text.length,
  normalize: (text) => text.length,
};

/** How many units of strings `body` reads, iteration aside, and how many names it looks up: the same on every machine. */
function workOf(body: () => unknown): number {
  let work = 0;
  const strings = String.prototype as unknown as Record<string, (...args: unknown[]) => unknown>;
  const originals = Object.keys(READS).map((name) => [name, strings[name]!] as const);
  const { get } = Map.prototype;
  try {
    for (const [name, original] of originals) {
      strings[name] = function (this: string, ...args: unknown[]) {
        const result = original.apply(this, args);
        work += READS[name]!(this, args, result);
        return result;
      };
    }
    Map.prototype.get = function (key: unknown) {
      work++;
      return get.call(this, key);
    };
    body();
  } finally {
    for (const [name, original] of originals) strings[name] = original;
    Map.prototype.get = get;
  }
  return work;
}

/** Texts of about `n` characters, each made to be the worst for some step. */
const TEXTS: Readonly<Record<string, (n: number) => string>> = {
  'one word': (n) => 'x'.repeat(n),
  'words that fail at their last character': (n) => `${'ab'.repeat(49)}\u0e01 `.repeat(n / 100),
  spaces: (n) => ' '.repeat(n),
  punctuation: (n) => '?!'.repeat(n / 2),
  'starts of special tokens': (n) => '[SEP[MASK[[['.repeat(n / 12),
  'marks out of order': (n) => `a${'\u0301\u0316'.repeat(n / 2)}`,
  'marks between starters': (n) => `a${'\u0301\u0316\u034f'.repeat(n / 3)}`,
  'decomposing marks': (n) => `a${'\u0344\u0316'.repeat(n / 2)}`,
  ideographs: (n) => '東\u{20000}'.repeat(n / 3),
  'lone surrogates': (n) => '\ud83d'.repeat(n),
};

describe('tokenizer does work in proportion to the text', () => {
  const tokenizer = demoTokenizer();
  for (const [name, make] of Object.entries(TEXTS)) {
    it(`encode: ${name}`, () => {
      const [once, times8] = [4000, 32_000].map((n) => workOf(() => tokenizer.encode(make(n)))) as [number, number];
      assert.ok(once > 4000, `${once} steps: the count sees the work`);
      assert.ok(times8 < 9 * once, `${once} steps, ${times8} for 8 times the text`);
      assert.ok(times8 < 40 * 32_000, `${times8} steps for 32,000 characters`);
    });
  }

  it('decode: long rows, all text kept back or none', () => {
    for (const token of ["'", 'n', '##s', '.', '[SEP]']) {
      const id = tokenizer.idOf(token)!;
      const [once, times8] = [500, 4000].map((n) => workOf(() => tokenizer.decode(new Array<number>(n).fill(id)))) as [
        number,
        number,
      ];
      assert.ok(times8 < 9 * once, `${token}: ${once} steps, ${times8} for 8 times the ids`);
    }
  });

  it('millions of marks', () => {
    const marks = '\u0301\u0316'.repeat(FULL ? 2_000_000 : 500_000);
    assert.deepEqual(tokenizer.encode(`a${marks}`), tokenizer.encode('a'));
  });

  it('tokenizes no more of a long text than it is asked for', () => {
    for (const unit of ['what is this? ', '?!', '東', 'word ']) {
      const short = unit.repeat(4000 / unit.length);
      const long = unit.repeat(4_000_000 / unit.length);
      for (const truncationSide of ['right', 'left'] as const) {
        const options = { maxLength: 40, truncationSide };
        const whole = tokenizer.encode(short, { addSpecialTokens: false });
        const expected = truncationSide === 'right' ? whole.slice(0, 38) : whole.slice(-38);
        let ids: number[] = [];
        const work = workOf(() => {
          ids = tokenizer.encode(long, options);
        });
        assert.deepEqual(ids, [tokenizer.clsId, ...expected, tokenizer.sepId], `${unit} ${truncationSide}`);
        assert.ok(work < 200_000, `${unit} ${truncationSide}: ${work} steps of 4,000,000 characters`);
      }
    }
  });

  it('stops after the last token that it is asked for where a text has nothing but added tokens', () => {
    const work = workOf(() => tokenizer.encode('a[SEP]'.repeat(500_000), { maxLength: 40 }));
    assert.ok(work < 3_010_000, `${work} steps: the text is read once for a place to cut`);
  });

  it('puts marks in an order that the engine has nothing to move in', () => {
    const ordered = orderLongMarkRuns('\u0301\u0316'.repeat(1000));
    assert.equal(ordered, '\u0316'.repeat(1000) + '\u0301'.repeat(1000));
  });

  it('words of 1,000 characters and tokens as long: no more than 1,000 reads a character', () => {
    const long = 'a'.repeat(999);
    const tokens = [`${long}b`, `##${long}b`, 'a', '##a'];
    const tiny = tinyTokenizer(tokens, { maxCharsPerWord: 1000 });
    const text = `${'a'.repeat(1000)} `.repeat(4);
    let ids: number[] = [];
    const work = workOf(() => {
      ids = tiny.encode(text, { addSpecialTokens: false });
    });
    assert.equal(ids.length, 4000);
    assert.ok(work < 4000 * 1000 * 4, `${work} steps for ${text.length} characters`);
    const few = workOf(() => tinyTokenizer(['a', '##a'], { maxCharsPerWord: 1000 }).encode(text));
    assert.ok(few < 60 * text.length, `${few} steps where no token is long`);
  });

  it('looks at no word above the limit', () => {
    const model = wordPieceModel(
      new Map([
        ['a', 1],
        ['##a', 2],
      ]),
      0,
      100,
    );
    const pieces: number[] = [];
    wordPieces('a'.repeat(100), model, pieces);
    assert.equal(pieces.length, 100);
    const word = 'a'.repeat(200_000);
    assert.equal(
      workOf(() => wordPieces(word, model, pieces)),
      0,
    );
    assert.equal(pieces.at(-1), 0);
  });

  it('finds special tokens among many that begin alike', () => {
    const many = Array.from({ length: 2000 }, (_, i) => `${'['.repeat(100)}${i}`);
    const cut = createSegmenter(new Map(many.map((token) => [token, {}])));
    const work = workOf(() => [...cut('['.repeat(1000))]);
    assert.ok(work < 1000 * 101 * 2 * 12, `${work} steps: text x longest x 2 logarithms`);
    assert.equal([...cut(`${'['.repeat(101)}1999`)].length, 2);
  });

  it('stops at the first unit that no token has', () => {
    let reads = 0;
    const text = {
      length: 1_000_000,
      charCodeAt() {
        reads++;
        return 0x61;
      },
    };
    assert.equal(longestMatch(['a', 'aa', 'b'], text, 5), 7);
    assert.equal(reads, 3);
  });
});
