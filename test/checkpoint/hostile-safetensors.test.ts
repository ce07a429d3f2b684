import assert from 'node:assert/strict';
import { fromBytes } from '../../src/checkpoint/byte-source.js';
import { openCheckpoint } from '../../src/checkpoint/open-checkpoint.js';
import { readSafetensors } from '../../src/checkpoint/safetensors.js';
import { SafetensorsError } from '../../src/errors.js';
import { HOSTILE, type HostileCase, hostileCases, readBin } from '../support/fixtures.js';
import { expectTensorsOf, failure, folder, safetensorsBytes } from './support.js';

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

async function check(entry: HostileCase): Promise<string | undefined> {
  const name = entry.file.split('/').at(-1)!;
  const read = () => readSafetensors(fromBytes(readBin(HOSTILE + entry.file)), name);
  const mayLoad = entry.expect.startsWith('load') && !/rank_bomb|zip_torch/.test(name);
  if (mayLoad) {
    await expectTensorsOf(entry, (await read()).tensors);
    return undefined;
  }
  const error = await failure(entry.file, async () => expectTensorsOf(entry, (await read()).tensors));
  if (entry.expect === 'unsupported') {
    assert.deepEqual([error.code, error.unsupported], ['unsupported-dtype', true], entry.file);
    return error.code;
  }
  assert.ok(error instanceof SafetensorsError, entry.file);
  assert.equal(error.file, name);
  assert.ok(error.offset !== undefined, `${entry.file}: no offset`);
  const code = RULES.find(([pattern]) => pattern.test(name))?.[1] ?? '(no rule listed)';
  assert.match(error.code, new RegExp(`^(${code})$`), `${entry.file}: ${entry.rule}: ${error.message}`);
  return error.code;
}

describe('hostile safetensors', () => {
  it('every file loads with its values or fails by its rule', async () => {
    const cases = hostileCases('safetensors');
    const rules = new Set<string | undefined>();
    for (const entry of cases) rules.add(await check(entry));
    assert.ok(cases.length >= 100);
    console.log(`      ${cases.length} safetensors files, ${rules.size} distinct outcomes`);
  });

  it('gives metadata', async () => {
    for (const entry of hostileCases('safetensors')) {
      const { metadata } = entry as HostileCase & { metadata?: Record<string, string> };
      if (metadata === undefined) continue;
      const read = await readSafetensors(fromBytes(readBin(HOSTILE + entry.file)), entry.file);
      assert.deepEqual({ ...read.metadata }, metadata);
    }
  });

  it('every index opens all its shards or nothing', async () => {
    const cases = hostileCases('sharded-index');
    for (const entry of cases) {
      const files = folder(`${HOSTILE}${entry.file.replace(/\/[^/]+$/, '')}`);
      const read = async () => {
        const { tensors, format } = await openCheckpoint(files);
        assert.equal(format, 'safetensors-sharded');
        await expectTensorsOf(entry, tensors);
      };
      const loads = entry.expect === 'load' || entry.file.includes('total_size_wrong');
      if (loads) await read();
      else assert.ok((await failure(entry.file, read)) instanceof SafetensorsError, entry.file);
    }
    assert.ok(cases.length >= 20);
  });

  it('warns of a wrong total_size', async () => {
    const { warnings } = await openCheckpoint(folder(`${HOSTILE}sharded/total_size_wrong`));
    assert.deepEqual(warnings, ['model.safetensors.index.json: total_size says 17 bytes, the tensors have 16']);
  });

  it('reads a header of a hundred thousand tensors in linear time, and refuses one more', async () => {
    const header = (count: number) => {
      const entries = Array.from(
        { length: count },
        (_, i) => `"layer.${i}":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}`,
      );
      return safetensorsBytes(`{${entries.join(',')}}`);
    };
    const start = performance.now();
    assert.equal((await readSafetensors(fromBytes(header(100_000)), 'x')).tensors.size, 100_000);
    console.log(`      a header of 100,000 tensors: ${(performance.now() - start).toFixed(0)} ms`);
    const error = await failure('many', () => readSafetensors(fromBytes(header(100_001)), 'x'));
    assert.deepEqual([error.code, error.unsupported], ['tensor-count', true]);
  });

  it('keeps the rule where a file shrinks while it is read', async () => {
    const bytes = readBin(`${HOSTILE}safetensors/ok_f32.safetensors`);
    const source = { size: bytes.length, slice: (a: number, b: number) => fromBytes(bytes.slice(0, 100)).slice(a, b) };
    const { tensors } = await readSafetensors(source, 'x');
    assert.equal((await failure('short', () => [...tensors.values()][0]!.read())).code, 'short-read');
  });
});
