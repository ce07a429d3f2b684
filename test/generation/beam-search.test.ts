import assert from 'node:assert/strict';
import { generate } from '../../src/generation/generate.js';
import type { GenerateOptions } from '../../src/generation/options.js';
import type { GeneratedSequence, VocabularyFacts } from '../../src/generation/session.js';
import { allSentences, naiveBeam, naiveOriginal } from './naive-search.js';
import { hashScript, logSoftmax, near, newLog, type Script, scriptedSession, total } from './scripted-session.js';

const SMALL: VocabularyFacts = { size: 9, bosId: 1, eosIds: [2] };
/** Ends with any of three tokens. */
const MANY_ENDS: VocabularyFacts = { ...SMALL, eosIds: [2, 5, 7] };
const PROMPTS = [[1], [1, 5, 3]];

const run = (
  script: Script,
  options: GenerateOptions,
  prompts: number[][],
  maxLength = 14,
  log = newLog(),
  vocabulary = SMALL,
) =>
  generate(
    () =>
      scriptedSession(
        script,
        prompts.map((_, i) => i),
        maxLength,
        log,
      ),
    vocabulary,
    options,
    prompts,
  );

/** Token log-probabilities, sums and new ids must fit the row itself. */
function checkRow(script: Script, image: number, prompt: number[], row: GeneratedSequence): void {
  assert.deepEqual(row.ids.slice(prompt.length), row.newIds);
  row.newIds.forEach((id, i) => {
    const expected = logSoftmax(script(image, row.ids.slice(0, prompt.length + i)))[id]!;
    near(row.tokenLogProbs[i]!, expected, 1e-5, `log-probability ${i}`);
  });
  assert.equal(row.tokenLogProbs.length, row.newIds.length);
  near(row.logProb, total(row.tokenLogProbs), 1e-9, 'logProb');
}

describe('beam search (Hugging Face)', () => {
  it('equals a plain restatement for 80 random models and settings, in a batch, with true token log-probabilities', async () => {
    let count = 0;
    for (let seed = 0; seed < 40; seed++) {
      const script = hashScript(SMALL, seed, 3, (seed % 4) - 1);
      const earlyStopping = ([false, true, 'never'] as const)[seed % 3]!;
      const lengthPenalty = [1, 0.6, 2, 0, -1][seed % 5]!;
      const numBeams = 2 + (seed % 4);
      const maxLength = 6 + (seed % 7);
      const options = {
        strategy: 'beam',
        numBeams,
        numReturnSequences: 2,
        lengthPenalty,
        earlyStopping,
        maxLength,
      } as const;
      const vocabulary = seed % 3 === 1 ? MANY_ENDS : SMALL;
      const rows = await run(script, options, PROMPTS, 14, newLog(), vocabulary);
      PROMPTS.forEach((prompt, image) => {
        const settings = { beams: numBeams, eos: vocabulary.eosIds, maxLength, lengthPenalty, earlyStopping, keep: 2 };
        const expected = naiveBeam((ids) => script(image, ids), prompt, settings);
        assert.deepEqual(
          rows[image]!.map((row) => row.ids),
          expected.map((row) => row.ids),
          `seed ${seed}`,
        );
        rows[image]!.forEach((row, rank) => {
          near(row.score, expected[rank]!.score, 1e-5, `score of seed ${seed}`);
          checkRow(script, image, prompt, row);
          assert.equal(row.finish, vocabulary.eosIds.includes(row.ids.at(-1)!) ? 'eos' : 'length');
          count++;
        });
      });
    }
    console.log(`      ${count} rows`);
  });

  it('is exhaustive when the beams hold everything: the best of all sentences', async () => {
    const tiny: VocabularyFacts = { size: 4, bosId: 1, eosIds: [2] };
    for (let seed = 0; seed < 12; seed++) {
      const script = hashScript(tiny, seed);
      const options = {
        strategy: 'beam',
        numBeams: 300,
        lengthPenalty: 1.3,
        earlyStopping: 'never',
        maxLength: 6,
      } as const;
      const [rows] = await generate(() => scriptedSession(script, [0], 6), tiny, options);
      const scored = allSentences((ids) => script(0, ids), [1], 2, 6).map(({ ids, sum }) => ({
        ids,
        score: sum / (ids.length - 1) ** 1.3,
      }));
      const best = scored.reduce((a, b) => (b.score > a.score ? b : a));
      assert.deepEqual(rows![0]!.ids, best.ids, `seed ${seed}`);
      near(rows![0]!.score, best.score, 1e-5, 'score');
    }
  });

  it('with one beam is greedy search', async () => {
    for (let seed = 0; seed < 30; seed++) {
      const script = hashScript(SMALL, seed, 3, 1);
      const beam = await run(script, { strategy: 'beam', numBeams: 1, lengthPenalty: 0.7 }, PROMPTS);
      const greedy = await run(script, { strategy: 'greedy' }, PROMPTS);
      assert.deepEqual(
        beam.flat().map((row) => row.ids),
        greedy.flat().map((row) => row.ids),
      );
    }
  });

  it('reads each prompt once, keeps 4 rows an image, and lets finished images go', async () => {
    const log = newLog();
    const script: Script = (image, ids) =>
      Float32Array.from({ length: 9 }, (_, id) => (id === 2 && ids.length >= 2 + 4 * image ? 9 : id / 10));
    await run(script, { strategy: 'beam', numBeams: 4, maxLength: 12, earlyStopping: true }, [[1, 4, 5], [1]], 14, log);
    assert.equal(log.tokens - (log.rowSteps - 2), 4, 'prompt tokens fed');
    assert.equal(log.mostRows, 8);
    assert.ok(log.rowSteps < 2 + 8 * (log.steps - 1), `${log.rowSteps} row-steps in ${log.steps} steps`);
  });

  it('drops forbidden tokens for good, and says so when nothing is left', async () => {
    const script = hashScript(SMALL, 5);
    const all = Array.from({ length: 9 }, (_, id) => [id]).filter(([id]) => id !== 2);
    const [rows] = await run(script, { strategy: 'beam', badWords: all.slice(1), maxLength: 5 }, [[1]]);
    assert.ok(rows!.every((row) => row.newIds.every((id) => id === 0 || id === 2)));
    for (const strategy of ['beam', 'original', 'original-autoregressive', 'greedy', 'sample'] as const) {
      const options = { strategy, badWords: all, minLength: 4, maxLength: 5 };
      await assert.rejects(run(script, options, [[1]]), { name: 'OptionError', code: 'all-forbidden' }, strategy);
    }
  });
});

describe('beam search (original)', () => {
  it('equals a plain restatement for 80 random models and settings, in a batch', async () => {
    let cut = 0;
    for (let seed = 0; seed < 40; seed++) {
      const script = hashScript(SMALL, seed + 100, 3, (seed % 4) - 1);
      const s = {
        beams: 2 + (seed % 4),
        perNode: 2 + (seed % 3),
        lengthPenalty: [0.6, 1, 2, 0][seed % 4]!,
        keep: 1 + (seed % 3),
      };
      const maxLength = 5 + (seed % 8);
      const { beams: numBeams, perNode, lengthPenalty, keep } = s;
      const options = {
        strategy: 'original',
        numBeams,
        perNode,
        lengthPenalty,
        numReturnSequences: keep,
        maxLength,
      } as const;
      const vocabulary = seed % 3 === 1 ? MANY_ENDS : SMALL;
      const rows = await run(script, options, PROMPTS, 14, newLog(), vocabulary);
      PROMPTS.forEach((prompt, image) => {
        const expected = naiveOriginal((ids) => script(image, ids), prompt, {
          ...s,
          eos: vocabulary.eosIds,
          maxLength,
        });
        assert.deepEqual(
          rows[image]!.map((row) => row.ids),
          expected.map((row) => row.ids),
          `seed ${seed}`,
        );
        rows[image]!.forEach((row, rank) => {
          near(row.score, expected[rank]!.score, 1e-5, `score of seed ${seed}`);
          checkRow(script, image, prompt, row);
          assert.ok(vocabulary.eosIds.includes(row.ids.at(-1)!), 'an end token is always written');
          if (row.finish === 'length') cut++;
        });
      });
    }
    assert.ok(cut > 5, `only ${cut} cut sentences`);
  });

  it('is the default, bounded by the positions of the model', async () => {
    const never: Script = (_, ids) =>
      Float32Array.from({ length: 9 }, (_, id) => (id === 2 ? -50 : (id * ids.length) % 7));
    const byDefault = await run(never, {}, [[1]], 30);
    const spelled = { strategy: 'original', numBeams: 4, perNode: 2, lengthPenalty: 0.6, maxLength: 1024 } as const;
    assert.deepEqual(byDefault, await run(never, spelled, [[1]], 30));
    assert.equal(byDefault[0]![0]!.ids.length, 30);
    assert.equal(byDefault[0]![0]!.finish, 'length');
  });

  it('its greedy decoder never doubles a token and divides by the number of new tokens', async () => {
    for (let seed = 0; seed < 30; seed++) {
      const script = hashScript(SMALL, seed, 3, 1);
      const [rows] = await run(script, { strategy: 'original-autoregressive', maxLength: 10 }, [[1]]);
      const ids = [1];
      let sum = 0;
      while (ids.length < 10 && ids.at(-1) !== SMALL.eosIds[0]!) {
        const logits = Array.from(script(0, ids));
        if (ids.length > 1) logits[ids.at(-1)!] = -10000;
        const id = logits.indexOf(Math.max(...logits));
        sum += logSoftmax(logits)[id]!;
        ids.push(id);
      }
      assert.deepEqual(rows![0]!.ids, ids);
      near(rows![0]!.score, sum / (ids.length - 1), 1e-5, 'score');
    }
  });
});

describe('all strategies', () => {
  it('a batch of images with prompts of different lengths equals the single runs', async () => {
    const prompts = [[1], [1, 5, 3], [1, 4], [1, 4]];
    const rules = {
      repetitionPenalty: 1.2,
      noRepeatNgramSize: 3,
      badWords: [[6], [3, 4]],
      minNewTokens: 2,
      maxNewTokens: 7,
    };
    for (const strategy of ['greedy', 'sample', 'beam', 'original', 'original-autoregressive'] as const) {
      for (let seed = 0; seed < 8; seed++) {
        const script = hashScript(SMALL, seed, 3, 1);
        const options = { strategy, ...rules } as GenerateOptions;
        const batch = await run(script, options, prompts);
        for (const [image, prompt] of prompts.entries()) {
          const single = await generate(() => scriptedSession(script, [image], 14), SMALL, options, [prompt]);
          assert.deepEqual(batch[image], single[0], `${strategy}, seed ${seed}, image ${image}`);
        }
      }
    }
  });
});
