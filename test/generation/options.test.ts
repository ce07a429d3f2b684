import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { OptionError } from '../../src/errors.js';
import { generate } from '../../src/generation/generate.js';
import {
  type BeamOptions,
  checkGenerateOptions,
  type GenerateOptions,
  type GreedyOptions,
  generationOptions,
  type OriginalOptions,
  type SampleOptions,
  STRATEGIES,
} from '../../src/generation/options.js';
import type { LogitsProcessor, VocabularyFacts } from '../../src/generation/session.js';
import { expectation, type OptionDeclaration, optionNames, takersOf } from '../../src/options.js';
import { ROOT } from '../support/fixtures.js';
import { optionTable } from '../support/option-table.js';
import { hashScript, scriptedSession } from './scripted-session.js';

const LETTERS: VocabularyFacts = {
  size: 9,
  bosId: 1,
  eosIds: [2],
  textOf: (id) => (id === 1 ? '' : ` ${'xyzabcdef'[id]}`),
};
const SMALL: VocabularyFacts = { size: 9, bosId: 1, eosIds: [2] };
const table: Readonly<Record<string, OptionDeclaration<never>>> = generationOptions;
const script = hashScript(SMALL, 3);
const open = () => scriptedSession(script, [0], 30);

/** A value that each option accepts. */
const GOOD: Readonly<Record<string, unknown>> = {
  maxLength: 9,
  maxNewTokens: 5,
  minLength: 3,
  minNewTokens: 2,
  numBeams: 3,
  perNode: 3,
  lengthPenalty: 0.5,
  earlyStopping: true,
  numReturnSequences: 2,
  temperature: 0.7,
  topK: 3,
  topP: 0.9,
  minP: 0.1,
  seed: 4,
  repetitionPenalty: 1.2,
  noRepeatNgramSize: 2,
  badWords: [[3, 4]],
  sequenceBias: [[[3], -2]],
  stopStrings: [' a b'],
  logitsProcessors: [() => {}],
  stoppingCriteria: [() => false],
  onToken: () => true,
  signal: new AbortController().signal,
};

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const proves = <T extends true>(_: T | undefined): void => {};

describe('generation options: one declaration', () => {
  it('types follow the table', () => {
    proves<Equal<BeamOptions['earlyStopping'], boolean | 'never' | undefined>>(undefined);
    proves<Equal<SampleOptions['minP'], number | undefined>>(undefined);
    proves<Equal<GreedyOptions['logitsProcessors'], readonly LogitsProcessor[] | undefined>>(undefined);
    proves<Equal<'temperature' extends keyof GreedyOptions ? true : false, false>>(undefined);
    proves<Equal<'perNode' extends keyof OriginalOptions ? true : false, true>>(undefined);
    // @ts-expect-error: greedy search has no beams
    const beams: GenerateOptions = { strategy: 'greedy', numBeams: 4 };
    // @ts-expect-error: one length or the other
    const lengths: GenerateOptions = { maxLength: 4, maxNewTokens: 4 };
    assert.throws(() => checkGenerateOptions(beams, SMALL), { path: 'numBeams' });
    assert.throws(() => checkGenerateOptions(lengths, SMALL), { path: 'maxNewTokens' });
  });

  it('every strategy takes its options and refuses every other', async () => {
    let cells = 0;
    for (const strategy of STRATEGIES) {
      const own = optionNames(generationOptions, strategy);
      for (const name of Object.keys(table)) {
        if (name === 'strategy') continue;
        const given = { strategy, [name]: GOOD[name] };
        assert.ok(name in GOOD, `no value for ${name}: add one to this test`);
        if (name === 'numReturnSequences' || !own.includes(name)) cells++;
        if (own.includes(name)) checkGenerateOptions(given, LETTERS);
        else {
          assert.throws(() => checkGenerateOptions(given, LETTERS), {
            name: 'OptionError',
            path: name,
            code: 'unused-option',
          });
        }
      }
      await assert.rejects(generate(open, SMALL, { strategy, lengthPenality: 1 } as GenerateOptions), {
        path: 'lengthPenality',
        code: 'unknown-option',
      });
    }
    assert.ok(cells > 30);
  });

  it('every number is held within its range, and the message says which', () => {
    let bounds = 0;
    for (const [name, declaration] of Object.entries(table)) {
      const { least, most, above } = declaration;
      for (const value of [least === undefined ? above : least - 1, most === undefined ? undefined : most + 1]) {
        if (value === undefined) continue;
        const [strategy] = takersOf(declaration);
        assert.throws(
          () => checkGenerateOptions({ strategy, [name]: value }, LETTERS),
          (error: OptionError) =>
            error.code === 'out-of-range' && error.path === name && error.detail.includes(expectation(declaration)),
        );
        bounds++;
      }
    }
    assert.ok(bounds > 20, `${bounds} bounds`);
  });

  it('flags and Hugging Face names are unique, and help is one sentence', () => {
    for (const key of ['flag', 'huggingFace'] as const) {
      const names = Object.values(table).flatMap((declaration) => declaration[key] ?? []);
      assert.equal(new Set(names).size, names.length, key);
    }
    for (const [name, { help }] of Object.entries(table)) assert.match(help, /^[A-Z].*[^.]\.$/, name);
  });

  it('docs/tasks.md has the table', () => {
    const page = readFileSync(`${ROOT}docs/tasks.md`, 'utf8');
    const expected = optionTable(generationOptions);
    assert.ok(page.includes(expected), `docs/tasks.md should contain\n${expected}`);
  });

  const wrong: [options: unknown, path: string, code: string][] = [
    [{ sequenceBias: [[3, -1]] }, 'sequenceBias[0]', 'wrong-type'],
    [{ sequenceBias: [[[3], Number.POSITIVE_INFINITY]] }, 'sequenceBias[0]', 'wrong-type'],
    [{ sequenceBias: [[[99], 1]] }, 'sequenceBias[0][0]', 'not-a-token'],
    [{ stopStrings: ['a', ''] }, 'stopStrings[1]', 'empty'],
    [{ stopStrings: 'a' }, 'stopStrings', 'wrong-type'],
    [{ logitsProcessors: [3] }, 'logitsProcessors[0]', 'wrong-type'],
    [{ stoppingCriteria: () => true }, 'stoppingCriteria', 'wrong-type'],
    [{ numBeams: 1024, perNode: 5 }, 'perNode', 'too-many-candidates'],
    [{ strategy: 'sample', minP: 1.5 }, 'minP', 'out-of-range'],
  ];
  for (const [options, path, code] of wrong) {
    it(`${JSON.stringify(options)}: ${code}`, () => {
      assert.throws(() => checkGenerateOptions(options, LETTERS), { name: 'OptionError', path, code });
    });
  }

  it('stop strings need a vocabulary with texts', () => {
    assert.throws(() => checkGenerateOptions({ stopStrings: ['a'] }, SMALL), { path: 'stopStrings', code: 'no-text' });
  });
});

describe("generation options: the caller's own rules", () => {
  const text = (ids: readonly number[]): string => ids.map((id) => LETTERS.textOf!(id)).join('');

  for (const strategy of STRATEGIES) {
    it(`${strategy}: a stop string ends a text with the token that completes it`, async () => {
      let stopped = 0;
      for (let seed = 0; seed < 60; seed++) {
        const session = () => scriptedSession(hashScript(LETTERS, seed), [0], 30);
        const options = { strategy, maxLength: 14 } as GenerateOptions;
        const free = (await generate(session, LETTERS, options))[0]![0]!;
        const words = free.newIds.slice(1, 3);
        if (words.includes(2) || words.length < 2) continue;
        const stop = text(words);
        const cut = (await generate(session, LETTERS, { ...options, stopStrings: [stop] } as GenerateOptions))[0]![0]!;
        const first = text(cut.newIds).indexOf(stop);
        if (first < 0) continue; // a beam search may prefer another text now
        assert.equal(first + stop.length, text(cut.newIds).length, 'nothing comes after it');
        assert.equal(cut.finish, 'stopped');
        stopped++;
      }
      assert.ok(stopped > 10, `${stopped} stopped`);
    });

    it(`${strategy}: stopping criteria see prompt and new tokens and end every text`, async () => {
      const criterion = (ids: readonly number[], promptLength: number): boolean => {
        assert.deepEqual(ids.slice(0, promptLength), [1, 3]);
        return ids.length - promptLength === 3;
      };
      const options = { strategy, stoppingCriteria: [criterion], minLength: 8, maxLength: 12 } as GenerateOptions;
      const only = (await generate(open, LETTERS, options, [[1, 3]]))[0]![0]!;
      assert.deepEqual([only.newIds.length, only.finish], [3, 'stopped']);
      assert.equal(only.tokenLogProbs.length, 3);
    });

    it(`${strategy}: a processor of the caller's own acts after the others`, async () => {
      const seen: number[] = [];
      const only: LogitsProcessor = (scores, ids) => {
        seen.push(scores[5]!);
        scores.fill(Number.NEGATIVE_INFINITY);
        scores[ids.length < 4 ? 5 : 6] = 0;
      };
      const options = { strategy, badWords: [[5]], logitsProcessors: [only], maxLength: 6 } as GenerateOptions;
      const found = (await generate(open, SMALL, options))[0]![0]!;
      assert.deepEqual(found.newIds.slice(0, 4), [5, 5, 5, 6]);
      assert.ok(
        seen.every((score) => score === Number.NEGATIVE_INFINITY),
        'bad words came first',
      );
    });
  }

  it('a search observes an abort within 32 rows of scores, whatever the number of beams', async () => {
    for (const strategy of ['beam', 'original', 'original-autoregressive'] as const) {
      const control = new AbortController();
      let [rows, after] = [0, 0];
      const count: LogitsProcessor = () => {
        if (control.signal.aborted) after++;
        if (++rows === 40) setImmediate(() => control.abort(new Error('enough')));
      };
      const wide = hashScript({ ...SMALL, size: 600 }, 1);
      const session = () => scriptedSession(wide, [0], 30);
      const options = { strategy, numBeams: 500, logitsProcessors: [count], signal: control.signal } as GenerateOptions;
      await assert.rejects(generate(session, { ...SMALL, size: 600 }, options), /enough/);
      assert.ok(after === 0 && rows <= 40 + 32, `${strategy}: ${rows} rows, ${after} after the abort`);
    }
  });

  it('rows of all images together are bounded', async () => {
    const many = () => scriptedSession(script, [0, 1, 2], 30);
    await assert.rejects(generate(many, SMALL, { strategy: 'beam', numBeams: 400 }), {
      path: 'numBeams',
      code: 'too-many-rows',
    });
    const samples = { strategy: 'sample', numReturnSequences: 400 } as const;
    await assert.rejects(generate(many, SMALL, samples), { path: 'numReturnSequences', code: 'too-many-rows' });
  });
});
