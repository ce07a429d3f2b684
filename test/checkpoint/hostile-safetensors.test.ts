import assert from 'node:assert/strict';
import { fromBytes } from '../../src/checkpoint/byte-source.js';
import { openCheckpoint } from '../../src/checkpoint/open-checkpoint.js';
import { readSafetensors } from '../../src/checkpoint/safetensors.js';
import { SafetensorsError } from '../../src/errors.js';
import { HOSTILE, type HostileCase, hostileCases, ROOT, readBin } from '../support/fixtures.js';
import { expectTensorsOf, failure, folder, runNode, safetensorsBytes } from './support.js';

/** The rule that each illegal file must be refused by: a look-alike refusal for another reason is no proof. */
const RULES: readonly (readonly [RegExp, string])[] = [
  [/^trunc_[017]\./, 'file-too-short|not-safetensors'],
  [/^(trunc_8|trunc_mid|trunc_header_last|hlen_past)/, 'header-past-end'],
  [/^(trunc_header_only|trunc_one|trunc_last|offsets_past)/, 'data-past-end'],
  [/^hlen_(max|two|over|wraps|big)/, 'header-too-large'],
  [/^hlen_(zero|short)|^not_json|^json_(trailing|comment|nan|garbage|nul_|control)/, 'json-syntax'],
  [/^utf8_/, 'not-utf8'],
  [/^lone_surrogate/, 'json-surrogate'],
  [/^bom/, 'byte-order-mark'],
  [/^json_(array|string|null|number)/, 'header'],
  [/^json_deep/, 'json-depth'],
  [/^dup_/, 'duplicate-key'],
  [/^meta_/, 'metadata'],
  [/^(entry|no)_/, 'entry'],
  [/^dtype_/, 'dtype'],
  [/^shape_/, 'shape'],
  [/^offsets_(three|one|float|string|negative|over)/, 'offsets'],
  [/^offsets_reversed/, 'offsets-reversed'],
  [/^offsets_(two53|u64)/, 'data-past-end|byte-count|too-large'],
  [/^(offsets_hole|hole)/, 'offsets-hole'],
  [/^size_/, 'byte-count'],
  [/^overflow_(1e400)/, 'json-number'],
  [/^overflow_double/, 'byte-count'],
  [/^overflow_/, 'overflow'],
  [/^f4_odd/, 'byte-boundary'],
  [/^rank_bomb/, 'rank'],
  [/^overlap_/, 'offsets-overlap'],
  [/^trailing_/, 'trailing-bytes'],
  [/^(lfs|html|gzip|zip)/, 'not-safetensors'],
  [/^random/, 'header-too-large'],
];

async function check(entry: HostileCase): Promise<void> {
  const name = entry.file.split('/').at(-1)!;
  const read = () => readSafetensors(fromBytes(readBin(HOSTILE + entry.file)), name);
  const mayLoad = entry.expect.startsWith('load') && !/rank_bomb|zip_torch/.test(name);
  if (mayLoad) {
    await expectTensorsOf(entry, (await read()).tensors);
    return;
  }
  const error = await failure(entry.file, async () => expectTensorsOf(entry, (await read()).tensors));
  if (entry.expect === 'unsupported') {
    assert.deepEqual([error.code, error.unsupported], ['unsupported-dtype', true], entry.file);
    return;
  }
  assert.ok(error instanceof SafetensorsError, entry.file);
  assert.equal(error.file, name);
  assert.ok(error.offset !== undefined, `${entry.file}: no offset`);
  const code = RULES.find(([pattern]) => pattern.test(name))?.[1] ?? '(no rule listed)';
  assert.match(error.code, new RegExp(`^(${code})$`), `${entry.file}: ${entry.rule}: ${error.message}`);
}

describe('hostile safetensors', () => {
  const cases = hostileCases('safetensors');
  for (const entry of cases) it(`${entry.file} (${entry.expect}): ${entry.rule}`, () => check(entry));

  it('there are as many as there were', () => assert.equal(cases.length, 129));

  it('gives metadata', async () => {
    for (const entry of hostileCases('safetensors')) {
      const { metadata } = entry as HostileCase & { metadata?: Record<string, string> };
      if (metadata === undefined) continue;
      const read = await readSafetensors(fromBytes(readBin(HOSTILE + entry.file)), entry.file);
      assert.deepEqual({ ...read.metadata }, metadata);
    }
  });

  const indexes = hostileCases('sharded-index');
  for (const entry of indexes) {
    const loads = entry.expect === 'load' || /total_size_wrong|tensor_not_in_map/.test(entry.file);
    it(`${entry.file} ${loads ? 'opens all its shards' : 'opens nothing'}: ${entry.rule}`, async () => {
      const files = folder(`${HOSTILE}${entry.file.replace(/\/[^/]+$/, '')}`);
      const read = async () => {
        const { tensors, format } = await openCheckpoint(files);
        assert.equal(format, 'safetensors-sharded');
        await expectTensorsOf(entry, tensors);
      };
      if (loads) await read();
      else assert.ok((await failure(entry.file, read)) instanceof SafetensorsError);
    });
  }

  it('there are as many indexes as there were', () => assert.ok(indexes.length >= 20));

  it('warns of a wrong total_size', async () => {
    const { warnings } = await openCheckpoint(folder(`${HOSTILE}sharded/total_size_wrong`));
    assert.deepEqual(warnings, ['model.safetensors.index.json: total_size says 17 bytes, the tensors have 16']);
  });

  it('reads a header of a hundred thousand tensors, and refuses one more', async () => {
    const header = (count: number) => {
      const entries = Array.from(
        { length: count },
        (_, i) => `"layer.${i}":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}`,
      );
      return safetensorsBytes(`{${entries.join(',')}}`);
    };
    assert.equal((await readSafetensors(fromBytes(header(100_000)), 'x')).tensors.size, 100_000);
    const error = await failure('many', () => readSafetensors(fromBytes(header(100_001)), 'x'));
    assert.deepEqual([error.code, error.unsupported], ['tensor-count', true]);
  });

  it('looks for offsets only where there is an error: one letter that is no ASCII costs nothing', async () => {
    const count = 2000;
    const entry = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}';
    const good = Array.from({ length: count }, (_, i) => `"gewürz.${i}":${entry}`);
    const { encode } = TextEncoder.prototype;
    let characters = 0;
    TextEncoder.prototype.encode = function (text = '') {
      characters += text.length;
      return encode.call(this, text) as Uint8Array<ArrayBuffer>;
    };
    try {
      const fine = safetensorsBytes(`{${good.join(',')}}`);
      const broken = safetensorsBytes(`{${good.join(',')},"last":{}}`);
      characters = 0;
      assert.equal((await readSafetensors(fromBytes(fine), 'x')).tensors.size, count);
      assert.equal(characters, 0);
      const error = await failure('broken', () => readSafetensors(fromBytes(broken), 'x'));
      assert.ok(characters <= broken.length, `${characters} characters encoded for one error`);
      assert.equal(error.offset, Buffer.from(broken).indexOf('"last"'));
    } finally {
      TextEncoder.prototype.encode = encode;
    }
  });

  it('bounds the header by what it holds, in a heap of 200 MB', async () => {
    const entry = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}';
    const cases: Record<string, [start: string, middle: string, times: number, end: string, code: string]> = {
      shape: ['{"w":{"dtype":"F32","shape":[', '0,', 15_000_000, '0],"data_offsets":[0,0]}}', 'json-size'],
      rank: ['{"w":{"dtype":"F32","shape":[', '0,', 60_000, '0],"data_offsets":[0,0]}}', 'rank'],
      extra: ['{"w":{"x":[', '[0,0,0,0],', 3_000_000, '0]}}', 'json-size'],
      digits: ['{"w":{"dtype":"F32","shape":[', '9', 30_000_000, '],"data_offsets":[0,0]}}', 'json-number'],
      escapes: ['{"__metadata__":{"x":"', '\\u0061', 5_000_000, `"},"w":${entry.replace('F32', 'F99')}}`, 'dtype'],
      brackets: ['', '[', 33_000_000, '', 'json-depth'],
      large: ['{"__metadata__":{"x":"', 'x', 34_000_000, '"}}', 'header-too-large'],
    };
    const program = `
      import { readSafetensors } from ${JSON.stringify(`${ROOT}src/checkpoint/safetensors.ts`)};
      for (const [name, [start, middle, times, end]] of Object.entries(${JSON.stringify(cases)})) {
        const text = Buffer.from(start + middle.repeat(times) + end, 'latin1');
        const head = Buffer.alloc(8);
        head.writeBigUInt64LE(BigInt(text.length));
        const blob = new Blob([head, text]);
        const code = await readSafetensors(blob, 'x').then(() => 'loads', (error) => error.code);
        console.log(name + ' ' + code);
      }`;
    const outcome = await runNode(program, { heapMegabytes: 200 });
    const expected = Object.entries(cases).map(([name, [, , , , code]]) => `${name} ${code}`);
    assert.deepEqual(outcome.trim().split('\n'), expected);
  });

  it('keeps the rule where a file shrinks while it is read', async () => {
    const bytes = readBin(`${HOSTILE}safetensors/ok_f32.safetensors`);
    const source = { size: bytes.length, slice: (a: number, b: number) => fromBytes(bytes.slice(0, 100)).slice(a, b) };
    const { tensors } = await readSafetensors(source, 'x');
    assert.equal((await failure('short', () => [...tensors.values()][0]!.read())).code, 'short-read');
  });
});
