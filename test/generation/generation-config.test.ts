import assert from 'node:assert/strict';
import { parseGenerationConfig, withGenerationConfig, withSource } from '../../src/generation/generation-config.js';
import { checkGenerateOptions } from '../../src/generation/options.js';

const SMALL = { size: 9, bosId: 1, eosIds: [2] };
const apply = (file: object, given: object = {}) =>
  withGenerationConfig({ ...given }, parseGenerationConfig(file), 'original');

describe('generation_config.json', () => {
  const cases: [what: string, file: object, given: object, expected: object][] = [
    [
      'what published GIT checkpoints have changes nothing',
      { _from_model_config: true, bos_token_id: 101, eos_token_id: 102, pad_token_id: 0 },
      {},
      { strategy: 'original' },
    ],
    [
      "num_beams is Hugging Face's beam search",
      { num_beams: 3, length_penalty: 2 },
      {},
      { strategy: 'beam', numBeams: 3, lengthPenalty: 2 },
    ],
    [
      'do_sample samples, settings of beams have no effect',
      { do_sample: true, temperature: 0.5, length_penalty: 2 },
      {},
      { strategy: 'sample', temperature: 0.5 },
    ],
    [
      'do_sample false, or one beam, is greedy search',
      { do_sample: false, temperature: 0.5 },
      {},
      { strategy: 'greedy' },
    ],
    ["the caller's strategy wins", { num_beams: 3, do_sample: false }, { strategy: 'greedy' }, { strategy: 'greedy' }],
    [
      'the original takes lengths and rules, not the settings of other searches',
      { num_beams: 3, length_penalty: 2, max_length: 9, repetition_penalty: 2 },
      { strategy: 'original' },
      { strategy: 'original', maxLength: 9, repetitionPenalty: 2 },
    ],
    [
      'an explicit option wins',
      { num_beams: 3, repetition_penalty: 2 },
      { numBeams: 2, repetitionPenalty: 1 },
      { strategy: 'beam', numBeams: 2, repetitionPenalty: 1 },
    ],
    [
      'max_new_tokens wins over max_length',
      { max_length: 9, max_new_tokens: 4 },
      {},
      { strategy: 'original', maxNewTokens: 4 },
    ],
    [
      'a length of the caller replaces both of the file',
      { max_length: 9, max_new_tokens: 4 },
      { maxLength: 7 },
      { strategy: 'original', maxLength: 7 },
    ],
    [
      "a minimum of the file is fitted to the caller's maximum",
      { min_length: 9, min_new_tokens: 8 },
      { maxLength: 5 },
      { strategy: 'original', maxLength: 5, minLength: 5, minNewTokens: 5 },
    ],
    [
      'null is none',
      { num_beams: null, do_sample: null, top_k: null, typical_p: 1, suppress_tokens: [] },
      {},
      { strategy: 'original' },
    ],
    [
      'bad words and biases by their names',
      { bad_words_ids: [[3]], sequence_bias: [[[3, 4], -2]], stop_strings: 'x' },
      {},
      { strategy: 'original', badWords: [[3]], sequenceBias: [[[3, 4], -2]], stopStrings: ['x'] },
    ],
  ];
  for (const [what, file, given, expected] of cases) {
    it(what, () => {
      const all = apply(file, given);
      assert.deepEqual(all, expected);
      checkGenerateOptions(all, { ...SMALL, textOf: String });
    });
  }

  const wrong: [file: unknown, path: string | undefined, code: string][] = [
    [[], undefined, 'wrong-type'],
    [{ num_beams: 0 }, 'num_beams', 'wrong-type'],
    [{ do_sample: 'yes' }, 'do_sample', 'wrong-type'],
    [{ do_sample: true, num_beams: 2 }, 'do_sample', 'unsupported-generation'],
    [{ num_beam_groups: 2 }, 'num_beam_groups', 'unsupported-generation'],
    [{ suppress_tokens: [3] }, 'suppress_tokens', 'unsupported-generation'],
    [{ eos_token_id: [2, 9] }, 'eos_token_id', 'token-outside-vocabulary'],
    [{ eos_token_id: ['2'] }, 'eos_token_id', 'wrong-type'],
  ];
  for (const [file, path, code] of wrong) {
    it(`${JSON.stringify(file)}: ${code}`, () =>
      assert.throws(() => parseGenerationConfig(file, undefined, SMALL.size), {
        name: 'ConfigError',
        file: 'generation_config.json',
        path,
        code,
      }));
  }

  it('a value that is out of range when it is used is named by its key in the file, one of the caller by its option', () => {
    const refusal = (file: object, given: Record<string, unknown>): unknown => {
      const config = parseGenerationConfig(file);
      try {
        checkGenerateOptions(withGenerationConfig(given, config, 'original'), SMALL);
      } catch (error) {
        return withSource(error, given, config);
      }
      return assert.fail('it was accepted');
    };
    for (const [file, given, name, path] of [
      [{ num_beams: 1e9 }, {}, 'ConfigError', 'num_beams'],
      [{ bad_words_ids: [[3], [9]] }, {}, 'ConfigError', 'bad_words_ids'],
      [{ num_beams: 3 }, { numBeams: 0 }, 'OptionError', 'numBeams'],
      [{ num_beams: 3 }, { badWords: [[9]] }, 'OptionError', 'badWords[0][0]'],
    ] as const) {
      const error = refusal(file, given) as Error & { path: string };
      assert.deepEqual([error.name, error.path], [name, path]);
    }
  });

  it('names one end token, several, or none', () => {
    assert.deepEqual(parseGenerationConfig({ eos_token_id: 5 }).eosTokenIds, [5]);
    assert.deepEqual(parseGenerationConfig({ eos_token_id: [5, 7] }).eosTokenIds, [5, 7]);
    for (const file of [{}, { eos_token_id: null }, { eos_token_id: [] }])
      assert.equal(parseGenerationConfig(file).eosTokenIds, undefined);
  });
});
