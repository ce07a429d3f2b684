import assert from 'node:assert/strict';
import { orderLongMarkRuns } from '../../src/tokenizer/canonical-order.js';
import { createSegmenter } from '../../src/tokenizer/special-tokens.js';
import { wordPieces } from '../../src/tokenizer/word-piece.js';
import { demoTokenizer } from './support.js';

/** Shortest of three runs, in ms: what else the machine does only ever adds. */
function timeOf(body: () => unknown): number {
  let best = Number.POSITIVE_INFINITY;
  for (let run = 0; run < 3; run++) {
    const start = performance.now();
    body();
    best = Math.min(best, performance.now() - start);
  }
  return best;
}

/** Texts of about `n` characters, each made to be the worst for some step. */
const TEXTS: Readonly<Record<string, (n: number) => string>> = {
  'one word': (n) => 'x'.repeat(n),
  'words that fail at their last character': (n) => `${'ab'.repeat(49)}\u0e01 `.repeat(n / 100),
  spaces: (n) => ' '.repeat(n),
  'starts of special tokens': (n) => '[SEP[MASK[[['.repeat(n / 12),
  'marks out of order': (n) => `a${'\u0301\u0316'.repeat(n / 2)}`,
  'marks between starters': (n) => `a${'\u0301\u0316\u034f'.repeat(n / 3)}`,
  'decomposing marks': (n) => `a${'\u0344\u0316'.repeat(n / 2)}`,
  ideographs: (n) => '東\u{20000}'.repeat(n / 3),
  'lone surrogates': (n) => '\ud83d'.repeat(n),
};

describe('tokenizer takes time in proportion to the text', () => {
  const tokenizer = demoTokenizer();
  for (const [name, make] of Object.entries(TEXTS)) {
    it(`encode: ${name}`, () => {
      const [n, times8] = [make(12_000), make(96_000)];
      tokenizer.encode(n); // compiles the code
      const ratio =
        timeOf(() => tokenizer.encode(times8)) /
        Math.max(
          1,
          timeOf(() => tokenizer.encode(n)),
        );
      assert.ok(ratio < 32, `8 times the text took ${ratio.toFixed(1)} times as long (a square would be 64)`);
    });
  }

  it('decode: long rows, all text kept back or none', () => {
    for (const token of ["'", 'n', '##s', '.', '[SEP]']) {
      const id = tokenizer.idOf(token)!;
      const decode = (n: number) => tokenizer.decode(new Array<number>(n).fill(id));
      decode(2500);
      const ratio =
        timeOf(() => decode(20_000)) /
        Math.max(
          1,
          timeOf(() => decode(2500)),
        );
      assert.ok(ratio < 32, `${token}: 8 times the ids took ${ratio.toFixed(1)} times as long`);
    }
  });

  it('a million marks', () => {
    const start = performance.now();
    assert.equal(tokenizer.encode(`a${'\u0301\u0316'.repeat(500_000)}`).length, 3);
    const seconds = (performance.now() - start) / 1000;
    console.log(`      1,000,000 marks in ${seconds.toFixed(1)} s (V8's own NFD of 100,000: about 2 s, and quadratic)`);
    assert.ok(seconds < 60, `${seconds} s`);
  });

  it('puts marks in an order that the engine has nothing to move in', () => {
    const ordered = orderLongMarkRuns('\u0301\u0316'.repeat(1000));
    assert.equal(ordered, '\u0316'.repeat(1000) + '\u0301'.repeat(1000));
  });

  it('looks up at most words x length x longest token, and no word above the limit', () => {
    let lookUps = 0;
    const ids = new Map([
      ['a', 1],
      ['##a', 2],
    ]);
    const counting = {
      get(token: string) {
        lookUps++;
        return ids.get(token);
      },
    } as ReadonlyMap<string, number>;
    const model = { ids: counting, unkId: 0, maxCharsPerWord: 100, longestToken: 5 };
    const pieces: number[] = [];
    wordPieces('a'.repeat(100), model, pieces);
    assert.equal(pieces.length, 100);
    assert.ok(lookUps <= 500, `${lookUps}`);
    lookUps = 0;
    wordPieces('a'.repeat(200_000), model, pieces);
    assert.equal(lookUps, 0);
  });

  it('finds special tokens among many that begin alike', () => {
    const many = Array.from({ length: 2000 }, (_, i) => `${'['.repeat(100)}${i}`);
    const cut = createSegmenter(many);
    const ratio =
      timeOf(() => cut('['.repeat(16_000))) /
      Math.max(
        1,
        timeOf(() => cut('['.repeat(2000))),
      );
    assert.ok(ratio < 32, `8 times the text took ${ratio.toFixed(1)} times as long`);
    assert.equal(cut(`${'['.repeat(101)}1999`).length, 2);
  });
});
