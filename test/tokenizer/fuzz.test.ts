import assert from 'node:assert/strict';
import { TokenizerError } from '../../src/errors.js';
import { loadTokenizer, type Tokenizer, type TokenizerFiles } from '../../src/tokenizer/tokenizer.js';
import { HOSTILE, readBin, readJson } from '../support/fixtures.js';
import {
  below,
  changeBytes,
  changeJsonText,
  changeParts,
  FUZZ_CASES,
  FUZZ_SEED,
  pick,
  type Random,
  seeded,
} from '../support/fuzz.js';
import { expectNoPollution, expectTypedError } from '../support/typed-error.js';
import { configFile, utf8 } from './support.js';

/** Texts that meet every rule of the tokenizer, in any order. */
const PIECES = [
  'the sign',
  '[CLS]',
  '##s',
  ' ',
  'É\u0301',
  '\ud800',
  '東京',
  '!?',
  'plaing',
  '\u0000',
  'x'.repeat(120),
];

/** A tokenizer that can be used, or a TokenizerError of one line. What a text costs is seen in the tokens that come out. */
function use(random: Random, files: () => TokenizerFiles, what: string): string {
  let tokenizer: Tokenizer;
  try {
    tokenizer = loadTokenizer(files());
  } catch (error) {
    expectTypedError(error, what, TokenizerError);
    return error.code;
  } finally {
    expectNoPollution(what);
  }
  const text = Array.from({ length: below(random, 12) }, () => pick(random, PIECES)).join('');
  const ids = tokenizer.encode(text);
  assert.ok(ids.length <= text.length + 2, `${what}: ${ids.length} tokens of ${text.length} characters`);
  assert.ok(
    ids.every((id) => Number.isInteger(id) && id >= 0 && id < tokenizer.vocabSize),
    what,
  );
  const cut = tokenizer.encode(text, { maxLength: 5, truncationSide: 'right' });
  assert.ok(cut.length <= 5, `${what}: ${cut.length} tokens`);
  const longest = ids.reduce((sum, id) => sum + tokenizer.tokenOf(id).length + 1, 0);
  assert.ok(tokenizer.decode(ids).length <= longest, what);
  return 'loaded';
}

function run(kind: string, make: (random: Random, n: number) => TokenizerFiles): void {
  it(`${kind}: ${FUZZ_CASES} files, seed ${FUZZ_SEED}`, () => {
    const random = seeded(FUZZ_SEED);
    const codes = new Map<string, number>();
    for (let n = 0; n < FUZZ_CASES; n++) {
      const code = use(random, () => make(random, n), `${kind} case ${n} of seed ${FUZZ_SEED}`);
      codes.set(code, 1 + (codes.get(code) ?? 0));
    }
    const sorted = [...codes].sort((a, b) => b[1] - a[1]).map(([code, count]) => `${count} ${code}`);
    console.log(`      ${kind}, seed ${FUZZ_SEED}: ${sorted.join(', ')}`);
    assert.ok((codes.get('loaded') ?? 0) > FUZZ_CASES / 20 && codes.size > 4, sorted.join(', '));
  });
}

interface WordPieceJson {
  readonly added_tokens: readonly Record<string, unknown>[];
  readonly model: { readonly vocab: Readonly<Record<string, number>> };
}

describe('tokenizer files whose structure was changed: a tokenizer or a TokenizerError', () => {
  const json = readJson<WordPieceJson>(`${HOSTILE}vocab/tokenizer_ok.json`);
  const words = new TextDecoder()
    .decode(readBin(`${HOSTILE}vocab/ok.txt`))
    .trimEnd()
    .split('\n');

  run('tokenizer.json', (random) => ({
    tokenizerJson: { bytes: changeJsonText(random, json), file: 'tokenizer.json' },
  }));

  run('vocabulary and added tokens of tokenizer.json', (random) => {
    const tokens = changeParts(random, Object.keys(json.model.vocab), (token) =>
      pick(random, [`${token}x`, '', '\u0000', '\ud800', '__proto__', ' ', '##', 'x'.repeat(300), token.slice(1)]),
    );
    const vocab = Object.fromEntries(tokens.map((token, id) => [token, random() < 0.002 ? below(random, 40) : id]));
    const added = changeParts(random, json.added_tokens, (token) => ({
      ...token,
      content: pick(random, ['the', 's', '[CLS]', '', 'É', '##s', 'x'.repeat(300), ' the ', '<|new|>']),
      id: random() < 0.5 ? token['id'] : below(random, 30),
      ...{ normalized: random() < 0.5, lstrip: random() < 0.5, rstrip: random() < 0.5, single_word: random() < 0.5 },
    }));
    const changed = { ...json, added_tokens: random() < 0.5 ? json.added_tokens : added };
    const model = { ...json.model, vocab: random() < 0.5 ? json.model.vocab : vocab };
    return { tokenizerJson: { bytes: utf8(JSON.stringify({ ...changed, model })), file: 'tokenizer.json' } };
  });

  run('vocab.txt', (random) => {
    const lines = changeParts(random, words, (word) =>
      pick(random, [`${word}x`, '', ' ', `${word}\r`, '\u0000', '##', 'É', 'x'.repeat(300), pick(random, words)]),
    );
    const bytes = utf8(lines.join(pick(random, ['\n', '\n', '\n', '\r\n', '\r'])) + pick(random, ['\n', '', '\n\n']));
    const config = { do_lower_case: random() < 0.5, never_split: pick(random, [null, ['the'], ['É\u0301', ' ']]) };
    const changed = random() < 0.2 ? changeBytes(random, bytes) : bytes;
    return { vocabTxt: { bytes: changed, file: 'vocab.txt' }, ...configFile(random() < 0.5 ? undefined : config) };
  });
});
