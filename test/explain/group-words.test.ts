import assert from 'node:assert/strict';
import { attentionOf, attentionSpread, EVEN_SPREAD, groupWords, type TokenAttention } from '../../src/index.js';

const PIECES = ['dog', '##s', 'play', '##ing', '.', "'", 's', '[SEP]', 'the'];
const vocabulary = { tokenOf: (id: number) => PIECES[id]!, vocabSize: PIECES.length, specialIds: new Set([7]) };

/** A token whose one patch, class token and text shares tell which it was. */
function token(id: number, place: number): TokenAttention {
  const look = { patches: Float32Array.of(0.1 * place), classToken: 0.5 - 0.1 * place, text: 0.5 };
  const decoder = Float32Array.of(0.5 - 0.1 * place, 0.1 * place);
  return { id, logProb: Math.log(0.5), evidence: 1, decoder, toText: Float32Array.of(0.5), mean: look, rollout: look };
}

const words = (ids: readonly number[], text: string) => groupWords(ids.map(token), vocabulary, text);

describe('words of pieces', () => {
  it('join what goes on from a word, with the mean of their maps and the product of the probabilities', () => {
    const [dogs, playing, end] = words([0, 1, 2, 3, 7], 'dogs playing');
    assert.deepEqual([dogs!.text, dogs!.first, dogs!.count, dogs!.probability.toFixed(6)], ['dogs', 0, 2, '0.250000']);
    assert.deepEqual([playing!.text, playing!.first, playing!.count], ['playing', 2, 2]);
    assert.ok(Math.abs(playing!.mean.patches[0]! - 0.25) < 1e-7);
    assert.ok(Math.abs(playing!.decoder[1]! - 0.25) < 1e-7);
    assert.ok(
      Math.abs(
        attentionOf(playing!, { layer: 0, head: 0 }, { grid: { frames: 1, rows: 1, columns: 1 }, heads: 1 })
          .classToken - 0.25,
      ) < 1e-7,
    );
    assert.deepEqual([end!.text, end!.special, end!.count], ['[SEP]', true, 1]);
  });

  it('put spaces where the text has them: the words make the text again', () => {
    for (const [ids, text] of [
      [[0, 5, 6, 2, 4], "dog's play."],
      [[8, 0, 1, 4, 8], 'the dogs. the'],
      [[0, 4, 4], 'dog..'],
      [[0, 0], 'dog dog'],
    ] as const) {
      const made = words(ids, text).map((word) => (word.spaceBefore ? ' ' : '') + word.text);
      assert.equal(made.join(''), text);
    }
  });

  it('separate the words where the text is another one', () => {
    assert.deepEqual(
      words([0, 8], 'something else').map(({ spaceBefore }) => spaceBefore),
      [false, true],
    );
  });

  it('begin with a piece that goes on from the prompt, and know ids without a word', () => {
    const [first] = words([3, 8], 'ing the');
    assert.deepEqual([first!.text, first!.count], ['ing', 1]);
    assert.equal(words([99], '')[0]!.text, '[unused 99]');
    assert.deepEqual(
      words([7, 1], 's').map(({ text, special }) => [text, special]),
      [
        ['[SEP]', true],
        ['s', false],
      ],
    );
  });
});

describe('how evenly attention is spread', () => {
  const spread = (...shares: number[]): number => attentionSpread({ patches: Float32Array.from(shares) });

  it('is the entropy of the patches’ shares against that of equal ones, whatever else had a share', () => {
    assert.equal(spread(0, 0.4, 0, 0), 0);
    assert.ok(Math.abs(spread(0.25, 0.25, 0.25, 0.25) - 1) < 1e-7);
    assert.ok(Math.abs(spread(0.01, 0.01, 0.01, 0.01) - 1) < 1e-7);
    assert.ok(Math.abs(spread(0.3, 0.3, 0, 0) - 0.5) < 1e-7);
    assert.ok(Math.abs(spread(0.2, 0.1, 0.1) - 1.0397207708 / Math.log(3)) < 1e-6); // H(1/2, 1/4, 1/4) by hand
    assert.deepEqual([spread(0, 0, 0), spread(0.7)], [1, 1]);
  });

  it('one patch of many that stands out is a place, noise is none', () => {
    const noise = Array.from({ length: 196 }, (_, i) => 1 + 0.3 * Math.sin(i * i));
    assert.ok(spread(...noise) >= EVEN_SPREAD);
    assert.ok(spread(...noise.map((share, i) => (i === 90 ? 60 : share))) < EVEN_SPREAD);
  });
});
