import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  badWords,
  minLength,
  minP,
  noRepeatNgram,
  repetitionPenalty,
  sequenceBias,
  stopStrings,
  temperature,
  topK,
  topP,
} from '../../src/generation/logits-processors.js';
import type { LogitsProcessor } from '../../src/generation/session.js';
import { expectClose } from '../support/close.js';
import { REFERENCE, readJson } from '../support/fixtures.js';
import { peekSafetensors } from '../support/peek-safetensors.js';
import { logSoftmax } from './scripted-session.js';

type Step = readonly [name: string, value: any, extra?: string, extraValue?: any];

const EOS = [102];

/** A step of sampling.json as one of our processors. */
function processorOf([name, value, extra, extraValue]: Step): LogitsProcessor {
  const keep = extra === 'min_tokens_to_keep' ? extraValue : 1;
  switch (name) {
    case 'temperature':
      return temperature(value);
    case 'top_k':
      return topK(value, keep);
    case 'top_p':
      return topP(value, keep);
    case 'repetition_penalty':
      return repetitionPenalty(value);
    case 'no_repeat_ngram_size':
      return noRepeatNgram(value);
    case 'bad_words_ids':
      return badWords(value, EOS);
    case 'min_length':
      return minLength(value, EOS);
    case 'min_new_tokens':
      return minLength(extraValue + value, EOS);
    default:
      throw new Error(`unknown step ${name}`);
  }
}

describe('processors: sampling goldens', () => {
  const folder = `${REFERENCE}tiny-a/`;
  const { cases, atol } = readJson<{ cases: { name: string; order: Step[] }[]; atol: number }>(
    `${folder}sampling.json`,
  );
  const tensors = peekSafetensors(`${folder}sampling.safetensors`);
  const rowOf = (name: string, row: number): Float64Array => {
    const { shape, values } = tensors.get(name)!;
    return values.slice(row * shape[1]!, (row + 1) * shape[1]!);
  };

  for (const { name, order } of cases) {
    it(name, () => {
      for (let row = 0; row < 4; row++) {
        const scores = Float32Array.from(rowOf('raw_logits', row));
        const ids = [...rowOf('input_ids', row)];
        for (const step of order) processorOf(step)(scores, ids);
        let [logits, probs] = [Float64Array.from(scores), Float64Array.from(logSoftmax(scores), Math.exp)];
        let [expectedLogits, expectedProbs] = [rowOf(`${name}.logits`, row), rowOf(`${name}.probs`, row)];
        // Row 2 has four equal top logits; which of them top-p removes is open, so kept values are compared without their places.
        if (row === 2 && order.some(([step]) => step === 'top_p')) {
          [logits, probs, expectedLogits, expectedProbs] = [
            logits.sort(),
            probs.sort(),
            expectedLogits.sort(),
            expectedProbs.sort(),
          ];
        }
        expectClose(logits, expectedLogits, atol * 20, `${name}.logits, row ${row}`);
        expectClose(probs, expectedProbs, atol, `${name}.probs, row ${row}`);
      }
    });
  }
});

describe('processors: definitions', () => {
  const scores = fc.array(fc.integer({ min: -8, max: 8 }), { minLength: 3, maxLength: 12 });
  const ids = fc.array(fc.nat(2), { minLength: 1, maxLength: 12 });

  it('no-repeat n-gram: a token is forbidden exactly if appending it repeats an n-gram', () => {
    fc.assert(
      fc.property(scores, ids, fc.integer({ min: 1, max: 4 }), (values, row, size) => {
        const got = Float32Array.from(values);
        noRepeatNgram(size)(got, row);
        values.forEach((value, id) => {
          const grown = [...row, id];
          const grams = grown
            .slice(0, Math.max(0, grown.length - size + 1))
            .map((_, i) => grown.slice(i, i + size).join());
          const repeats = grams.length > 1 && grams.slice(0, -1).includes(grams.at(-1)!);
          assert.equal(got[id], repeats ? Number.NEGATIVE_INFINITY : value);
        });
      }),
      { seed: 1, numRuns: 500 },
    );
  });

  it('bad words: a token is forbidden exactly if it completes a sequence that fits into the row', () => {
    const sequences = fc.array(fc.array(fc.nat(2), { minLength: 1, maxLength: 4 }), { maxLength: 5 });
    fc.assert(
      fc.property(scores, ids, sequences, (values, row, words) => {
        const got = Float32Array.from(values);
        badWords(words, [2])(got, row);
        values.forEach((value, id) => {
          const completes = words.some((word) => {
            const fits = word.length === 1 || word.length <= row.length;
            return word.join() !== '2' && fits && [...row, id].slice(-word.length).join() === word.join();
          });
          assert.equal(got[id], completes ? Number.NEGATIVE_INFINITY : value);
        });
      }),
      { seed: 2, numRuns: 500 },
    );
  });

  it('top-k keeps what is at least the k-th largest, for every k', () => {
    fc.assert(
      fc.property(scores, fc.integer({ min: 1, max: 14 }), (values, k) => {
        const got = Float32Array.from(values);
        topK(k)(got, []);
        const edge = [...values].sort((a, b) => b - a)[Math.min(k, values.length) - 1]!;
        assert.deepEqual(
          [...got],
          values.map((x) => (x >= edge ? x : Number.NEGATIVE_INFINITY)),
        );
      }),
      { seed: 3, numRuns: 500 },
    );
  });

  it('top-p keeps the shortest list of most likely tokens that reaches p', () => {
    fc.assert(
      fc.property(scores, fc.double({ min: 0.01, max: 0.99, noNaN: true }), (values, p) => {
        const got = Float32Array.from(values);
        topP(p)(got, []);
        const probabilities = logSoftmax(values).map(Math.exp);
        const order = values.map((_, id) => id).sort((a, b) => values[b]! - values[a]! || a - b);
        let mass = 0;
        for (const id of order) {
          if (Math.abs(mass - p) < 1e-9) return; // on the edge rounding decides
          assert.equal(got[id], mass < p ? values[id] : Number.NEGATIVE_INFINITY);
          mass += probabilities[id]!;
        }
      }),
      { seed: 4, numRuns: 500 },
    );
  });

  it('min-p keeps what is at least p times as likely as the likeliest', () => {
    fc.assert(
      fc.property(
        scores,
        fc.double({ min: 0.001, max: 1, noNaN: true }),
        fc.integer({ min: 1, max: 4 }),
        (values, p, keep) => {
          const got = Float32Array.from(values);
          minP(p, keep)(got, []);
          const probabilities = logSoftmax(values).map(Math.exp);
          const best = Math.max(...probabilities);
          const edge = [...values].sort((a, b) => b - a)[Math.min(keep, values.length) - 1]!;
          values.forEach((value, id) => {
            if (Math.abs(probabilities[id]! - p * best) < 1e-9) return; // on the edge rounding decides
            const stays = probabilities[id]! >= p * best || value >= edge;
            assert.equal(got[id], stays ? value : Number.NEGATIVE_INFINITY);
          });
        },
      ),
      { seed: 5, numRuns: 500 },
    );
  });

  it('sequence bias: as the oracle that looks at every sequence and token', () => {
    const biases = fc.array(
      fc.tuple(fc.array(fc.nat(2), { minLength: 1, maxLength: 4 }), fc.integer({ min: -9, max: 9 })),
      {
        maxLength: 5,
      },
    );
    fc.assert(
      fc.property(scores, ids, biases, (values, row, pairs) => {
        const got = Float32Array.from(values);
        sequenceBias(pairs)(got, row);
        values.forEach((value, id) => {
          const applying = pairs.filter(
            ([sequence]) =>
              (sequence.length === 1 || sequence.length <= row.length) &&
              [...row, id].slice(-sequence.length).join() === sequence.join(),
          );
          assert.equal(
            got[id],
            applying.reduce((sum, [, bias]) => sum + bias, value),
          );
        });
      }),
      { seed: 6, numRuns: 500 },
    );
  });

  it('stop strings: only where one ends within the last token, as Hugging Face documents it', () => {
    const pieces = ['st', 'op', 'stop', 'opped', 'opper', 'sto', 's', 't', 'o', 'p', 'un', ' '];
    const stops = stopStrings(['stop'], (id) => pieces[id]!);
    const row = (...texts: string[]) => texts.map((text) => pieces.indexOf(text));
    for (const yes of [['st', 'op'], ['stop'], ['st', 'opper'], ['sto', 'p'], ['s', 't', 'op'], ['un', 'stop']]) {
      assert.equal(stops(row(...yes), 0), true, yes.join('+'));
    }
    for (const no of [['st', 'op', 's'], ['stop', 'un'], ['st', ' ', 'op'], ['s', 't', 'o'], ['un']]) {
      assert.equal(stops(row(...no), 0), false, no.join('+'));
    }
    fc.assert(
      fc.property(fc.array(fc.nat(pieces.length - 1), { minLength: 1, maxLength: 8 }), (row) => {
        const text = row.map((id) => pieces[id]).join('');
        const before = text.length - pieces[row.at(-1)!]!.length;
        const ends = [...text.matchAll(/(?=stop)/g)].map((match) => match.index + 4);
        assert.equal(
          stops(row, 0),
          ends.some((end) => end > before),
        );
      }),
      { seed: 7, numRuns: 1000 },
    );
  });

  it('processors keep their scratch memory apart from the scores: the same input twice gives the same output', () => {
    for (const process of [topK(3), topP(0.7), temperature(0.5), repetitionPenalty(1.4)]) {
      const runs = [0, 1].map(() => {
        const values = Float32Array.of(1, 5, -2, 5, 0.5, 3);
        process(values, [1, 2]);
        return [...values];
      });
      assert.deepEqual(runs[0], runs[1]);
    }
  });
});
