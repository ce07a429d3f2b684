import assert from 'node:assert/strict';
import fc from 'fast-check';
import { readJson as readCheckedJson } from '../../src/checkpoint/json.js';
import { parseGenerationConfig } from '../../src/generation/generation-config.js';
import { parseImageConfig, parseProcessorConfig } from '../../src/image/image-config.js';
import { parseGitConfig } from '../../src/model/git-config.js';
import { parseTokenizerConfig } from '../../src/tokenizer/tokenizer-config.js';
import { DEMO, REFERENCE, readBin, readJson } from '../support/fixtures.js';
import { changeJsonText, FUZZ_CASES, FUZZ_SEED, seeded } from '../support/fuzz.js';
import { expectNoPollution, expectTypedError } from '../support/typed-error.js';

/** Every outcome is a config or a typed one-line error; nothing is polluted. */
function outcome(run: () => unknown): 'accepted' | 'refused' {
  try {
    run();
    return 'accepted';
  } catch (error) {
    expectTypedError(error, 'config');
    return 'refused';
  } finally {
    expectNoPollution();
  }
}

const READERS = [
  [`${REFERENCE}full-b16/config.json`, parseGitConfig],
  [`${DEMO}config.json`, parseGitConfig],
  [`${DEMO}preprocessor_config.json`, parseImageConfig],
  [`${DEMO}preprocessor_config.json`, parseProcessorConfig],
  [`${DEMO}tokenizer_config.json`, parseTokenizerConfig],
  [`${DEMO}generation_config.json`, (json: unknown, name: string) => parseGenerationConfig(json, name, 30_522)],
] as const;

const odd = fc.oneof(
  fc.constantFrom(
    null,
    true,
    false,
    '',
    'gelu',
    '__proto__',
    'constructor',
    [],
    {},
    -1,
    0,
    0.5,
    1e308,
    2 ** 53,
    [[[]]],
    { polluted: 1 },
  ),
  fc.integer(),
  fc.double(),
  fc.string(),
  fc.jsonValue(),
);

describe('mutated configs', () => {
  before(() => console.log(`      fuzzing configs: seed ${FUZZ_SEED}, ${FUZZ_CASES} runs of each kind`));

  for (const [file, parse] of READERS) {
    const name = file.slice(file.lastIndexOf('/', file.lastIndexOf('/') - 1) + 1);

    it(`${name}: byte mutations give a config or a typed error`, () => {
      const bytes = readBin(file);
      const counts = { accepted: 0, refused: 0 };
      const edit = fc.record({ at: fc.nat(bytes.length - 1), byte: fc.nat(255), cut: fc.boolean() });
      fc.assert(
        fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
          let changed = bytes.slice();
          for (const { at, byte, cut } of edits) {
            if (cut && byte < 40) changed = changed.slice(0, at);
            else if (at < changed.length) changed[at] = byte;
          }
          counts[outcome(() => parse(readCheckedJson(changed, name), name))]++;
        }),
        { numRuns: FUZZ_CASES, seed: FUZZ_SEED },
      );
      assert.ok(counts.accepted > 0 && counts.refused > FUZZ_CASES / 4, JSON.stringify(counts));
    });

    it(`${name}: odd values under every key give a config or a typed error`, () => {
      const whole = readJson<Record<string, unknown>>(file);
      const keys = [
        ...Object.keys(whole),
        'vision_config',
        'size',
        'crop_size',
        'num_image_with_embedding',
        'added_tokens_decoder',
      ];
      fc.assert(
        fc.property(fc.dictionary(fc.constantFrom(...keys), odd, { maxKeys: 3 }), (changes) => {
          const text = new TextEncoder().encode(JSON.stringify({ ...whole, ...changes }));
          outcome(() => parse(readCheckedJson(text, name), name));
        }),
        { numRuns: FUZZ_CASES, seed: FUZZ_SEED },
      );
    });

    it(`${name}: ${FUZZ_CASES} changes of its structure give a config or a typed error`, () => {
      const random = seeded(FUZZ_SEED);
      const whole = readJson<Record<string, unknown>>(file);
      const counts = { accepted: 0, refused: 0 };
      for (let n = 0; n < FUZZ_CASES; n++) {
        const text = changeJsonText(random, n % 2 === 0 ? whole : { image_processor: whole, ...whole });
        counts[outcome(() => parse(readCheckedJson(text, name), name))]++;
      }
      console.log(`      ${name}, seed ${FUZZ_SEED}: ${counts.accepted} accepted, ${counts.refused} refused`);
      assert.ok(counts.accepted > 0 && counts.refused > FUZZ_CASES / 20, JSON.stringify(counts));
    });
  }
});
