import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  cleanText,
  combiningClassOf,
  compose,
  kindOf,
  lowerCase,
  orderLongMarkRuns,
  spaceIdeographs,
  stripAccents,
} from '../../src/tokenizer/normalize.js';

/** Marks of many combining classes, some that decompose, and starters among them (U+034F, U+0903, U+20DD). */
const MARKS = [
  ...'\u0301\u0316\u0334\u0345\u0344\u034f\u0323\u0308\u0903\u20dd\u05b0\u064b\u093c\u3099\u{1d165}\u302e\u0f73\u0fb7',
];

describe('normalize', () => {
  it('knows the categories of every code point that Unicode 14 assigns, whatever the engine', () => {
    const tests = { M: /\p{Mn}/u, P: /\p{P}/u, Z: /\p{Z}/u };
    let later = 0;
    for (let codePoint = 0; codePoint <= 0x10ffff; codePoint++) {
      const char = String.fromCodePoint(codePoint);
      const kind = kindOf(codePoint);
      if (/\p{C}/u.test(char)) assert.equal(kind, 'C', codePoint.toString(16));
      else if (kind === 'C') later++;
      else if (codePoint !== 0x1171e) {
        // U+1171E became a spacing mark in Unicode 15
        const expected = Object.entries(tests).find(([, test]) => test.test(char))?.[0] ?? 'L';
        assert.equal(kind, expected, codePoint.toString(16));
      }
    }
    console.log(`      Unicode ${process.versions['unicode']} assigns ${later} code points that 14.0.0 does not`);
  });

  it('knows the combining classes: the engine orders any two marks the same way', () => {
    const marks: string[] = [];
    for (let codePoint = 0; codePoint <= 0x10ffff; codePoint++) {
      if (combiningClassOf(codePoint) > 0) marks.push(String.fromCodePoint(codePoint));
    }
    assert.equal(marks.length, 912);
    const fixed = marks.filter((mark) => mark.normalize('NFD') === mark);
    const classOf = (mark: string) => combiningClassOf(mark.codePointAt(0)!);
    const probes = new Map(fixed.map((mark) => [classOf(mark), mark]));
    assert.equal(probes.size, 55);
    for (const [probeClass, probe] of probes) {
      for (const mark of fixed) {
        const swaps = (probe + mark).normalize('NFD') !== probe + mark;
        assert.equal(swaps, classOf(mark) < probeClass, `${classOf(mark)} after ${probeClass}`);
      }
    }
    for (const other of 'a\u034f\u0903\u20dd\uac00') assert.equal(combiningClassOf(other.codePointAt(0)!), 0);
  });

  it('cleans: controls, formats, private use, lone surrogates and unassigned go, white space becomes a space', () => {
    assert.equal(cleanText('a\0b\u0001c\u007fd\u0085e'), 'abcde');
    assert.equal(cleanText('a\tb\nc\rd\u00a0e\u3000f\u2028g\u2029h'), 'a b c d e f g h');
    assert.equal(cleanText('\u200b\u200d\ufeff\u202e\ufffd\ue000\udbff\udfff'), '');
    assert.equal(cleanText('a\ud800b\udc00c\ude00\ud83d'), 'abc');
    assert.equal(cleanText('x\u{1fae8}y\u0378z'), 'xyz', 'U+1FAE8 came with Unicode 15');
    assert.equal(cleanText('😀é'), '😀é');
    assert.equal(cleanText('\u200bé\t\u200bé\ud83d'), 'é é');
  });

  it('lower-cases as Python does character by character', () => {
    assert.equal(lowerCase('ΟΔΟΣ ΣΑΣ'), 'οδοσ σασ', 'no final sigma');
    assert.equal(lowerCase('\u0130Iı'), 'i\u0307iı');
    assert.equal(lowerCase('STRASSE ẞ'), 'strasse ß');
    assert.equal(lowerCase('\ua7cb'), '\ua7cb', 'a letter of Unicode 16 stays');
    for (let codePoint = 0; codePoint <= 0x10ffff; codePoint++) {
      if (kindOf(codePoint) === 'C') continue;
      const char = String.fromCodePoint(codePoint);
      assert.equal(lowerCase(`${char}é`), `${char.toLowerCase()}é`); // of every kind, though only letters are looked up
    }
  });

  it('spaces out ideographs of all planes, not kana or hangul', () => {
    assert.equal(spaceIdeographs('a東b'), 'a 東 b');
    assert.equal(spaceIdeographs('\u{20000}\uf900'), ' \u{20000}  \uf900 ');
    assert.equal(spaceIdeographs('ひ가ㄱ々'), 'ひ가ㄱ々');
  });

  it('strips accents', () => {
    assert.equal(stripAccents('crème brûlée Việt'), 'creme brulee Viet');
    assert.equal(stripAccents('øłđ'), 'øłđ', 'strokes are part of the letter');
    assert.equal(stripAccents('가'), '\u1100\u1161');
    assert.equal(stripAccents('\u0903'), '\u0903', 'a spacing mark stays');
  });

  it('orders long runs of marks without changing what they mean', () => {
    const char = fc.oneof(
      { weight: 60, arbitrary: fc.constantFrom(...MARKS) },
      { weight: 1, arbitrary: fc.constantFrom('a', 'é') },
    );
    const text = fc.array(char, { minLength: 30, maxLength: 120, size: 'max' }).map((chars) => chars.join(''));
    let reordered = 0;
    fc.assert(
      fc.property(text, (value) => {
        const ordered = orderLongMarkRuns(value);
        if (ordered !== value) reordered++;
        assert.equal(ordered.normalize('NFD'), value.normalize('NFD'));
        assert.equal(compose(value), value.normalize('NFC'));
      }),
      { seed: 14, numRuns: 500 },
    );
    assert.ok(reordered > 100, `${reordered} of 500 texts had a run to order`);
  });
});
