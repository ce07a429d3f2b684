import assert from 'node:assert/strict';
import fc from 'fast-check';
import { parseJson, parseJsonFile, readJson } from '../../src/checkpoint/json.js';
import { ConfigError, SafetensorsError } from '../../src/errors.js';
import { HOSTILE, hostileCases, readBin } from '../support/fixtures.js';
import { failure } from './support.js';

const bytes = (text: string) => new TextEncoder().encode(text);
const parse = (text: string, exactIntegers = false) =>
  parseJson(bytes(text), { file: 'x.json', ErrorClass: ConfigError, exactIntegers }).value;
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

/** What the file's own text breaks, in the `config` part of the hostile collection. */
const SYNTAX: Readonly<Record<string, string>> = {
  empty: 'not-json',
  spaces: 'not-json',
  not_json: 'json-syntax',
  nan: 'json-syntax',
  utf16: 'not-utf8',
  bad_utf8: 'not-utf8',
  deep: 'json-depth',
  html: 'not-json',
  lfs: 'not-json',
  bom: 'byte-order-mark',
  edge_duplicate_key: 'duplicate-key',
};

describe('json', () => {
  it('agrees with JSON.parse on every text that JSON.stringify writes', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 6 }), fc.constantFrom(0, 1, 3), (value, indent) => {
        const text = JSON.stringify(value, undefined, indent);
        assert.deepEqual(plain(parse(text)), JSON.parse(text));
      }),
      { numRuns: 500, seed: 11 },
    );
  });

  it('fails with a typed error exactly where JSON.parse fails, on mutated texts', () => {
    const start = '{"a":[1,-0.5e+3,{"b":null,"c":"x\\u00e9\\n"}],"d":true}';
    const mutation = fc.tuple(
      fc.nat(start.length),
      fc.nat(3),
      fc.constantFrom(...'{}[]",:\\01-+.eEu tfn\u0001\ud800é'),
    );
    const mutate = (changes: [number, number, string][]) =>
      changes.reduce((text, [at, cut, put]) => text.slice(0, at) + put + text.slice(at + cut), start);
    const counts = { read: 0, refused: 0 };
    fc.assert(
      fc.property(fc.array(mutation, { minLength: 1, maxLength: 3 }), (changes) => {
        const text = new TextDecoder().decode(bytes(mutate(changes)));
        let expected: unknown;
        try {
          expected = JSON.parse(text);
        } catch {
          assert.throws(() => parse(text), ConfigError, text);
          counts.refused++;
          return;
        }
        try {
          assert.deepEqual(plain(parse(text)), plain(expected));
          counts.read++;
        } catch (error) {
          const stricter =
            error instanceof ConfigError && /^(duplicate-key|json-surrogate|json-number)$/.test(error.code);
          assert.ok(stricter, `${text}: ${error}`);
        }
      }),
      { numRuns: 3000, seed: 12 },
    );
    assert.ok(counts.read > 100 && counts.refused > 1000, JSON.stringify(counts));
  });

  it('keeps every digit of an integer and tells it from a float', () => {
    assert.deepEqual(parse('[9007199254740993,18446744073709551616,-1,0]', true), [
      9007199254740993n,
      18446744073709551616n,
      -1n,
      0n,
    ]);
    for (const text of ['1.0', '1e0', '-0', '1E5', '0.5']) assert.equal(typeof parse(text, true), 'number', text);
    assert.ok(Object.is(parse('-0'), -0));
  });

  it('refuses what JSON.parse lets pass, by rule and offset', async () => {
    const cases: [string, string, number][] = [
      ['{"a":1,"a":2}', 'duplicate-key', 7],
      ['{"a":1,"\\u0061":2}', 'duplicate-key', 7],
      ['{"x":{"é":1,"é":1}}', 'duplicate-key', 13],
      ['"\\ud800"', 'json-surrogate', 0],
      ['[1e400]', 'json-number', 1],
      ['['.repeat(65), 'json-depth', 64],
      ['\ufeff{}', 'byte-order-mark', 0],
    ];
    for (const [text, code, offset] of cases) {
      const error = await failure(text, async () => parse(text));
      assert.deepEqual([error.code, error.offset], [code, offset], text);
    }
  });

  it('is total over size: long numbers, many containers, wide strings', async () => {
    assert.equal((await failure('digits', async () => parse('1'.repeat(5_000_000), true))).code, 'json-number');
    assert.equal((await failure('arrays', async () => parse(`[${'[],'.repeat(400_000)}[]]`))).code, 'json-size');
    assert.equal((await failure('objects', async () => parse(`[${'{},'.repeat(110_000)}{}]`))).code, 'json-size');
    assert.equal((parse(`"${'x\\n'.repeat(500_000)}"`) as string).length, 1_000_000);
    const options = { file: 'x', ErrorClass: ConfigError, maxBytes: 3 };
    assert.equal((await failure('bytes', async () => parseJson(bytes('[1, 2]'), options))).code, 'json-size');
  });

  it('treats __proto__ as a name', () => {
    const value = parse('{"__proto__":{"polluted":1},"constructor":2}') as Record<string, unknown>;
    assert.deepEqual(Object.keys(value), ['__proto__', 'constructor']);
    assert.equal(Object.getPrototypeOf(value), null);
    assert.equal(({} as Record<string, unknown>)['polluted'], undefined);
  });

  it('throws the class it is given', () => {
    assert.throws(() => parseJsonFile(bytes('{'), 'index', SafetensorsError), SafetensorsError);
  });

  it('refuses by rule the hostile configs whose text is broken, and reads the others', async () => {
    let broken = 0;
    for (const entry of hostileCases('config', 'preprocessor')) {
      const name = entry.file.replace(/^.*\/|\.json$/g, '');
      const data = readBin(HOSTILE + entry.file);
      let error: unknown;
      try {
        readJson(data, entry.file);
      } catch (thrown) {
        error = thrown;
      }
      if (error === undefined) continue;
      broken++;
      assert.ok(error instanceof ConfigError && entry.expect !== 'load', `${entry.file}: ${error}`);
      if (entry.kind === 'config') assert.equal(error.code, SYNTAX[name], `${entry.file}: ${error.message}`);
    }
    assert.ok(broken >= Object.keys(SYNTAX).length, `${broken}`);
  });

  it('says what a file is instead', async () => {
    const texts: [string, RegExp][] = [
      ['version https://git-lfs.github.com/spec/v1\noid sha256:00', /Git LFS pointer/],
      ['<!DOCTYPE html><title>404</title>', /web page/],
      ['PK\x03\x04', /zip/],
      ['', /empty file/],
    ];
    for (const [text, pattern] of texts) {
      assert.match((await failure(text, async () => readJson(bytes(text), 'config.json'))).message, pattern);
    }
    const gzip = new Uint8Array([0x1f, 0x8b, 8, 0]);
    assert.match((await failure('gzip', async () => readJson(gzip, 'config.json'))).message, /gzip/);
  });
});
