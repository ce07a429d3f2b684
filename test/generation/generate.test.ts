import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Image2TextError } from '../../src/errors.js';
import { generate } from '../../src/generation/generate.js';
import type { GenerateOptions } from '../../src/generation/options.js';
import type { DecoderSession, VocabularyFacts } from '../../src/generation/session.js';
import { padRows } from '../../src/generation/session.js';
import { hashScript, newLog, type SessionLog, scriptedSession } from './scripted-session.js';

const SMALL: VocabularyFacts = { size: 9, bosId: 1, eosIds: [2] };
const STRATEGIES = ['greedy', 'sample', 'beam', 'original', 'original-autoregressive'] as const;
const script = hashScript(SMALL, 3);

/** A session in whose step number `at` (from 0) `act` happens first. */
function disturbed(log: SessionLog, at: number, act: (logits: Float32Array[]) => void): () => DecoderSession {
  return () => {
    const inner = scriptedSession(script, [0, 1], 30, log);
    let steps = 0;
    return {
      get rows() {
        return inner.rows;
      },
      maxLength: inner.maxLength,
      reorder: inner.reorder,
      dispose: inner.dispose,
      async step(ids) {
        const logits = await inner.step(ids);
        if (steps++ === at) act(logits);
        return logits;
      },
    };
  };
}

describe('generate: the session', () => {
  it('is disposed of on success, on a failing step, on NaN and on abort, at every step of every strategy', async () => {
    let runs = 0;
    for (const strategy of STRATEGIES) {
      const options = { strategy, minLength: 7, maxLength: 12 } as GenerateOptions;
      const log = newLog();
      await generate(
        disturbed(log, -1, () => {}),
        SMALL,
        options,
      );
      assert.equal(log.open, 0, strategy);
      for (let at = 0; at < 6; at++) {
        const reason = new Error('enough');
        const control = new AbortController();
        const signal = control.signal;
        const before = log.steps;
        await assert.rejects(
          generate(
            disturbed(log, at, () => control.abort(reason)),
            SMALL,
            { ...options, signal },
          ),
          reason,
        );
        assert.equal(log.steps - before, at + 1, 'an abort stops within the step');
        const fail = () => {
          throw new Error('device lost');
        };
        await assert.rejects(generate(disturbed(log, at, fail), SMALL, options), /device lost/);
        for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
          const poison = (logits: Float32Array[]) => {
            logits.at(-1)![3] = bad;
          };
          await assert.rejects(generate(disturbed(log, at, poison), SMALL, options), {
            name: 'BackendError',
            code: 'logits-not-finite',
          });
        }
        assert.equal(log.open, 0, `${strategy}, step ${at}`);
        runs += 5;
      }
    }
    console.log(`      ${runs} disturbed runs`);
  });

  it('is not opened for wrong options or an aborted signal', async () => {
    const log = newLog();
    const open = () => scriptedSession(script, [0], 30, log);
    await assert.rejects(generate(open, SMALL, { strategy: 'beam', numBeams: 0 }), { path: 'numBeams' });
    await assert.rejects(generate(open, SMALL, { signal: AbortSignal.abort(new Error('before')) }), /before/);
    assert.equal(log.opened, 0);
  });

  it('an answer of the wrong shape is a typed error', async () => {
    const log = newLog();
    const short = disturbed(log, 1, (logits) => logits.pop());
    await assert.rejects(generate(short, SMALL, {}), { name: 'BackendError', code: 'logits-shape' });
    await assert.rejects(
      generate(
        disturbed(log, -1, () => {}),
        { ...SMALL, size: 10 },
        {},
      ),
      { code: 'logits-shape' },
    );
    assert.equal(log.open, 0);
  });
});

describe('generate: options', () => {
  const open = () => scriptedSession(script, [0], 30);
  const wrong: [options: unknown, place: string, rule: string][] = [
    [{ strategy: 'best' }, 'strategy', 'unknown-strategy'],
    [{ strategy: 'constructor' }, 'strategy', 'unknown-strategy'],
    [{ numbeams: 4 }, 'numbeams', 'unknown-option'],
    [{ strategy: 'greedy', numBeams: 4 }, 'numBeams', 'unused-option'],
    [{ strategy: 'beam', temperature: 0.5 }, 'temperature', 'unused-option'],
    [{ strategy: 'beam', onToken: () => true }, 'onToken', 'unused-option'],
    [{ maxLength: 9, maxNewTokens: 9 }, 'maxNewTokens', 'contradiction'],
    [{ maxLength: 9, minLength: 10 }, 'minLength', 'contradiction'],
    [{ maxNewTokens: 3, minNewTokens: 4 }, 'minNewTokens', 'contradiction'],
    [{ strategy: 'beam', numBeams: 2, numReturnSequences: 3 }, 'numReturnSequences', 'contradiction'],
    [{ strategy: 'beam', earlyStopping: 'soon' }, 'earlyStopping', 'unknown-choice'],
    [{ strategy: 'sample', temperature: 0 }, 'temperature', 'out-of-range'],
    [{ strategy: 'sample', temperature: Number.NaN }, 'temperature', 'not-a-number'],
    [{ strategy: 'sample', topP: 0 }, 'topP', 'out-of-range'],
    [{ strategy: 'sample', topP: 1.01 }, 'topP', 'out-of-range'],
    [{ strategy: 'sample', topK: 2.5 }, 'topK', 'not-an-integer'],
    [{ strategy: 'sample', seed: -1 }, 'seed', 'out-of-range'],
    [{ repetitionPenalty: 0 }, 'repetitionPenalty', 'out-of-range'],
    [{ maxNewTokens: 0 }, 'maxNewTokens', 'out-of-range'],
    [{ maxLength: '20' }, 'maxLength', 'not-a-number'],
    [{ numBeams: 1e9 }, 'numBeams', 'out-of-range'],
    [{ perNode: 1 }, 'perNode', 'out-of-range'],
    [{ badWords: [[3], []] }, 'badWords[1]', 'empty'],
    [{ badWords: [[3, 9]] }, 'badWords[0][1]', 'not-a-token'],
    [{ badWords: 3 }, 'badWords', 'wrong-type'],
    [{ signal: {} }, 'signal', 'wrong-type'],
    [null, 'options', 'not-an-object'],
  ];
  for (const [options, path, code] of wrong) {
    it(`${JSON.stringify(options)}: ${code}`, async () => {
      await assert.rejects(generate(open, SMALL, options as GenerateOptions), { name: 'OptionError', path, code });
    });
  }

  it('prompts and vocabulary are checked by name', async () => {
    const cases: [unknown, string, string][] = [
      [[[1], [1]], 'prompts', 'row-count'],
      [[], 'prompts', 'row-count'],
      [[[]], 'prompts[0]', 'empty'],
      [[[1, 99]], 'prompts[0][1]', 'not-a-token'],
      [['1'], 'prompts[0]', 'wrong-type'],
      [[new Array(30).fill(1)], 'prompts[0]', 'prompt-too-long'],
    ];
    for (const [prompts, path, code] of cases) {
      await assert.rejects(generate(open, SMALL, {}, prompts as number[][]), { name: 'OptionError', path, code });
    }
    await assert.rejects(generate(open, { ...SMALL, eosIds: [9] }), { name: 'OptionError', path: 'eosIds[0]' });
    await assert.rejects(generate(open, null as never), { name: 'OptionError', path: 'vocabulary' });
  });

  it('whatever the options are, there is a result or a typed one-line error, within the positions', async () => {
    const odd = fc.oneof(
      fc.constantFrom(undefined, null, -1, 0, 1, 2, 3.5, 1e300, Number.NaN, 'never', true, Symbol('s'), [[3]]),
      fc.integer(),
      fc.double(),
      fc.object(),
    );
    const names =
      'maxLength maxNewTokens repetitionPenalty noRepeatNgramSize badWords minLength minNewTokens temperature topK topP seed numReturnSequences numBeams perNode lengthPenalty earlyStopping signal'.split(
        ' ',
      );
    const options = fc.tuple(
      fc.constantFrom(...STRATEGIES),
      fc.dictionary(fc.constantFrom(...names), odd, { maxKeys: 3 }),
    );
    let results = 0;
    await fc.assert(
      fc.asyncProperty(options, async ([strategy, rest]) => {
        try {
          const rows = await generate(open, SMALL, { strategy, ...rest } as GenerateOptions);
          for (const row of rows.flat()) {
            assert.ok(
              row.ids.length <= 30 && Number.isFinite(row.logProb) && row.tokenLogProbs.length === row.newIds.length,
            );
          }
          results++;
        } catch (error) {
          assert.ok(error instanceof Image2TextError, String(error));
          assert.ok(!error.message.includes('\n'));
        }
      }),
      { seed: 7, numRuns: 2000 },
    );
    console.log(`      ${results} of 2000 ran`);
    assert.ok(results > 200 && results < 1800, `${results}`);
  });

  it('pads rows to a matrix', () => {
    assert.deepEqual(padRows([[1, 2], [3]], 0), [
      [1, 2],
      [3, 0],
    ]);
    assert.deepEqual(padRows([[1]], 7, 3), [[1, 7, 7]]);
    assert.deepEqual(padRows([], 0, 3), []);
  });
});
