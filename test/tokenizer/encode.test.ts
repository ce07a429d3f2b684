import assert from 'node:assert/strict';
import { OptionError } from '../../src/errors.js';
import { createSegmenter } from '../../src/tokenizer/vocabulary.js';
import { demoTokenizer, tinyTokenizer, tokensOf } from './support.js';

describe('encode', () => {
  const demo = demoTokenizer();
  const ids = (...tokens: string[]) => tokens.map((token) => demo.idOf(token)!);

  it('splits words, punctuation and unknown words of the demo checkpoint', () => {
    assert.deepEqual(tokensOf(demo, "What does the Sign say?\tIt's GREEN!"), [
      ...['what', 'does', 'the', 'sign', 'say', '?', 'it', "'", 's', 'green', '!'],
    ]);
    assert.deepEqual(tokensOf(demo, 'signs'), ['sign', '##s']);
    assert.deepEqual(tokensOf(demo, 'x1y'), ['x', '##1', '##y']);
    assert.deepEqual(tokensOf(demo, 'naïve Café'), tokensOf(demo, 'naive cafe'));
    assert.deepEqual(tokensOf(demo, 'a東b'), ['a', '[UNK]', 'b']);
    assert.deepEqual(tokensOf(demo, ''), []);
    assert.equal(demo.modelMaxLength, 64);
  });

  it('puts [CLS] and [SEP] around, and cuts from the right to make room for them', () => {
    assert.deepEqual(demo.encode('red sign'), ids('[CLS]', 'red', 'sign', '[SEP]'));
    assert.deepEqual(demo.encode(''), ids('[CLS]', '[SEP]'));
    assert.deepEqual(demo.encode('red sign stop', { maxLength: 4 }), ids('[CLS]', 'red', 'sign', '[SEP]'));
    assert.deepEqual(demo.encode('red sign stop', { maxLength: 2 }), ids('[CLS]', '[SEP]'));
    assert.deepEqual(demo.encode('red sign stop', { maxLength: 2, addSpecialTokens: false }), ids('red', 'sign'));
    assert.deepEqual(demo.encode('red', { maxLength: 0, addSpecialTokens: false }), []);
  });

  it('fills batches on the right', () => {
    const texts = ['red', 'red sign stop'];
    const [cls, red, sign, stop, sep] = ids('[CLS]', 'red', 'sign', 'stop', '[SEP]') as [
      number,
      number,
      number,
      number,
      number,
    ];
    assert.deepEqual(demo.encodeBatch(texts), {
      inputIds: [
        [cls, red, sep, 0, 0],
        [cls, red, sign, stop, sep],
      ],
      attentionMask: [
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1],
      ],
    });
    assert.deepEqual(demo.encodeBatch(texts, { padding: 'none' }).attentionMask, [
      [1, 1, 1],
      [1, 1, 1, 1, 1],
    ]);
    const four = demo.encodeBatch(texts, { padding: 'max-length', maxLength: 4 });
    assert.deepEqual(four.inputIds, [
      [cls, red, sep, 0],
      [cls, red, sign, sep],
    ]);
    assert.deepEqual(demo.encodeBatch([]), { inputIds: [], attentionMask: [] });
  });

  it('refuses impossible options and arguments by name', () => {
    const refused = (body: () => unknown, path: string) =>
      assert.throws(body, (error) => error instanceof OptionError && error.path === path);
    for (const maxLength of [1, -1, 2.5, Number.NaN, '9' as never])
      refused(() => demo.encode('a', { maxLength }), 'maxLength');
    refused(() => demo.encode(undefined as never), 'text');
    refused(() => demo.encodeBatch('a' as never), 'texts');
    refused(() => demo.encodeBatch(['a'], { padding: 'max-length' }), 'padding');
    refused(() => demo.encodeBatch(['a'], { padding: 'max-length', maxLength: 2 ** 40 }), 'padding');
    refused(() => demo.encodeBatch(['a'], { padding: 'left' as never }), 'padding');
  });

  it('finds special tokens written in the text, case-sensitively', () => {
    assert.deepEqual(tokensOf(demo, 'a[SEP]b [CLS][MASK].'), ['a', '[SEP]', 'b', '[CLS]', '[MASK]', '.']);
    assert.deepEqual(tokensOf(demo, '[sep] [Sep]'), ['[', 's', '##e', '##p', ']', '[', 's', '##e', '##p', ']']);
    assert.deepEqual(tokensOf(demo, '[[SEP]] [SE'), ['[', '[SEP]', ']', '[', 's', '##e']);
    assert.deepEqual(tokensOf(demo, '[SEP\0]'), ['[', 's', '##e', '##p', ']'], 'not by way of the cleaner');
  });

  it('prefers the leftmost, then the longest special token', () => {
    const plain = (tokens: readonly string[]) => createSegmenter(new Map(tokens.map((token) => [token, {}])));
    const cut = plain(['ab', 'abcd', 'bc', 'b', 'x']);
    const marked = (text: string) =>
      [...cut(text)].map(({ text, token }) => (token === undefined ? text : `<${token}>`));
    assert.deepEqual(marked('abcabcdbcbxx'), ['<ab>', 'c', '<abcd>', '<bc>', '<b>', '<x>', '<x>']);
    assert.deepEqual(marked('aabc'), ['a', '<ab>', 'c']);
    assert.deepEqual(marked(''), []);
    assert.deepEqual([...plain([])('abc')], [{ text: 'abc', token: undefined }]);
  });

  it('takes the longest piece first and counts code points, not UTF-16 units', () => {
    const tiny = tinyTokenizer(['ab', 'abc', '##cd', '##d', '😀', '##😀', '##c']);
    assert.deepEqual(tokensOf(tiny, 'abcd abcc'), ['abc', '##d', 'abc', '##c']);
    assert.deepEqual(tokensOf(tiny, 'abx'), ['[UNK]'], 'no partial word');
    assert.equal(tokensOf(tiny, '😀'.repeat(100)).length, 100);
    assert.deepEqual(tokensOf(tiny, '😀'.repeat(101)), ['[UNK]']);
    const short = tinyTokenizer(['a', '##a'], { maxCharsPerWord: 3 });
    assert.deepEqual(tokensOf(short, 'aaa aaaa'), ['a', '##a', '##a', '[UNK]']);
  });

  it('obeys the switches of a cased checkpoint', () => {
    const words = ['É', 'E', 'é', 'e', '東西', '東'];
    assert.deepEqual(tokensOf(tinyTokenizer(words), 'É 東西'), ['e', '東', '[UNK]']);
    assert.deepEqual(tokensOf(tinyTokenizer(words, { lowerCase: false }), 'E\u0301 é'), ['É', 'é'], 'composed');
    assert.deepEqual(tokensOf(tinyTokenizer(words, { lowerCase: false, stripAccents: true }), 'É é'), ['E', 'e']);
    assert.deepEqual(tokensOf(tinyTokenizer(words, { stripAccents: false }), 'É'), ['é']);
    assert.deepEqual(tokensOf(tinyTokenizer(words, { tokenizeChineseChars: false }), '東西'), ['東西']);
    assert.deepEqual(
      tokensOf(tinyTokenizer(['a.b', 'a', '.', 'b'], { neverSplit: ['a.b', 'b.a'] }), 'a.b a.b. b.a á.b'),
      [...['a.b', 'a', '.', 'b', '.', '[UNK]', 'a.b']],
    );
  });

  it('matches words with the names of object internals as ordinary words', () => {
    const tiny = tinyTokenizer(['constructor', '__proto__', 'tostring', '_'], { neverSplit: ['__proto__'] });
    assert.deepEqual(tokensOf(tiny, 'constructor __proto__ toString hasOwnProperty'), [
      ...['constructor', '__proto__', 'tostring', '[UNK]'],
    ]);
    assert.equal(tiny.idOf('hasOwnProperty'), undefined);
  });

  it('gives added tokens ids and finds them whole', () => {
    const tiny = tinyTokenizer(['a'], {
      addedTokens: [
        { content: '<loc>', special: false },
        { content: '<img>', special: true, id: 6 },
      ],
    });
    assert.deepEqual([tiny.idOf('<img>'), tiny.idOf('<loc>'), tiny.vocabSize], [6, 7, 8]);
    assert.deepEqual(tokensOf(tiny, 'a<img>a<LOC>'), ['a', '<img>', 'a', '<loc>']);
    assert.deepEqual([...tiny.specialIds].sort(), [0, 1, 2, 3, 4, 6]);
  });
});
