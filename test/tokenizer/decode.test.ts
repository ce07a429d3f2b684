import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { DecodeOptions, Tokenizer } from '../../src/tokenizer/tokenizer.js';
import { demoTokenizer, expectFault, tinyTokenizer } from './support.js';

/** The definition, in a few lines without any streaming: groups between added tokens, joined; then the clean-up. */
function plainDecode(tokenizer: Tokenizer, ids: number[], alone: Set<number>, options: DecodeOptions): string {
  const parts: string[] = [];
  let group: string[] = [];
  const textOf = () => group.join(' ').replaceAll(' ##', '').trim();
  for (const id of ids) {
    if (options.skipSpecialTokens && tokenizer.specialIds.has(id)) continue;
    if (!alone.has(id)) {
      group.push(tokenizer.tokenOf(id));
      continue;
    }
    if (textOf() !== '') parts.push(textOf());
    group = [];
    parts.push(tokenizer.tokenOf(id));
  }
  if (group.length > 0) parts.push(textOf());
  let text = parts.join(' ');
  if (!options.cleanUpTokenizationSpaces) return text;
  for (const mark of ['.', '?', '!', ',']) text = text.replaceAll(` ${mark}`, mark);
  text = text.replaceAll(" ' ", "'");
  for (const ending of ["n't", "'m", "'s", "'ve", "'re"]) text = text.replaceAll(` ${ending}`, ending);
  return text;
}

function streamed(tokenizer: Tokenizer, ids: number[], options: DecodeOptions): string[] {
  const stream = tokenizer.detokenizer(options);
  return [...ids.map((id) => stream.push(id)), stream.flush()];
}

describe('decode', () => {
  const demo = demoTokenizer();
  const idsOf = (tokens: string) => tokens.split(' ').map((token) => demo.idOf(token)!);

  it('joins word pieces and cleans up, or leaves it', () => {
    const ids = idsOf("[CLS] the sign ##s say ' stop ' ! it ' s red , right ? [SEP] [PAD]");
    assert.equal(demo.decode(ids, { skipSpecialTokens: true }), "the signs say'stop '! it's red, right?");
    assert.equal(
      demo.decode(ids, { cleanUpTokenizationSpaces: false }),
      "[CLS] the signs say ' stop ' ! it ' s red , right ? [SEP] [PAD]",
    );
    assert.equal(demo.decode([]), '');
    assert.equal(demo.decode(idsOf('[SEP]'), { skipSpecialTokens: true }), '');
    assert.equal(demo.decode(idsOf('##s sign')), '##s sign', 'nothing to join with');
  });

  it('obeys the default of the checkpoint', () => {
    const raw = tinyTokenizer(['a', '.'], { cleanUpTokenizationSpaces: false });
    assert.equal(raw.decode([5, 6]), 'a .');
    assert.equal(raw.decode([5, 6], { cleanUpTokenizationSpaces: true }), 'a.');
  });

  it('refuses ids that do not exist', () => {
    for (const id of [-1, demo.vocabSize, 1.5, Number.NaN, 'length' as never, undefined as never]) {
      expectFault(() => demo.decode([5, id]), { code: 'unknown-id' });
      expectFault(() => demo.tokenOf(id), { code: 'unknown-id', file: 'vocab.txt' });
    }
  });

  it('streams a piece as soon as it is certain', () => {
    const options = { skipSpecialTokens: true };
    assert.deepEqual(streamed(demo, idsOf('[CLS] the sign ##s . [SEP]'), options), [
      '',
      'the',
      ' sign',
      's',
      '.',
      '',
      '',
    ]);
    assert.deepEqual(streamed(demo, idsOf("it ' s ' o"), options), ['it', '', "'s", '', "'o", '']);
    assert.deepEqual(streamed(demo, idsOf('a n o'), options), ['a', '', ' n o', '']);
  });

  it('streams exactly what it decodes, for any ids', () => {
    const tokens = [
      '',
      ' ',
      ' ##',
      '##',
      '####',
      '#',
      '##n',
      "n't",
      "'",
      '.',
      '?',
      'a',
      '##a',
      's',
      've',
      '\u2028',
      'x ##y ',
      'é',
      '😀',
      '##😀',
    ];
    const addedTokens = [
      { content: '<x>', special: false },
      { content: '<y>', special: true },
      { content: 's', special: false },
    ];
    const tiny = tinyTokenizer(tokens, { addedTokens });
    const alone = new Set(['<x>', '<y>', 's'].map((token) => tiny.idOf(token)!));
    const ids = fc.array(fc.nat({ max: tiny.vocabSize - 1 }), { maxLength: 30, size: 'max' });
    fc.assert(
      fc.property(ids, fc.boolean(), fc.boolean(), (row, skipSpecialTokens, cleanUpTokenizationSpaces) => {
        const options = { skipSpecialTokens, cleanUpTokenizationSpaces };
        const expected = plainDecode(tiny, row, alone, options);
        assert.equal(tiny.decode(row, options), expected);
        const pieces = streamed(tiny, row, options);
        assert.equal(pieces.join(''), expected);
        for (const piece of pieces) assert.ok(!/[\ud800-\udfff]/u.test(piece), 'half a character');
      }),
      { seed: 3, numRuns: 3000 },
    );
  });

  it('gives back what it encoded, for words of the vocabulary', () => {
    const words = ['the', 'red', 'sign', 'says', 'stop', 'signs', 'x1'];
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...words), { minLength: 1 }), (chosen) => {
        const text = chosen.join(' ');
        assert.equal(demo.decode(demo.encode(text), { skipSpecialTokens: true }), text);
      }),
      { seed: 4, numRuns: 200 },
    );
  });
});
