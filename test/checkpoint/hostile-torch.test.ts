import assert from 'node:assert/strict';
import { fromBytes } from '../../src/checkpoint/byte-source.js';
import { readPytorch } from '../../src/checkpoint/torch/torch-file.js';
import { TorchFileError } from '../../src/errors.js';
import { HOSTILE, hostileCases, readBin } from '../support/fixtures.js';
import { expectTensorsOf, failure } from './support.js';

/** The rule that each illegal file must be refused by: a look-alike refusal for another reason is no proof. */
const RULES: readonly (readonly [RegExp, string])[] = [
  [
    /^evil_(posix|builtins|subprocess|webbrowser|torch|numpy|operator|functools|codecs|collections)/,
    'forbidden-global',
  ],
  [/^evil_(plain|obj|build_setstate|hidden|legacy_obj|legacy_magic)/, 'forbidden-global'],
  [/^evil_(protocol0|before_valid)|^not_torch|^zip_(trunc_1\.|prefix)/, 'not-torch'],
  [/^evil_(stack_global|newobj_ex)|^(bomb_(bytes8|frame)|pickle_proto|edge_pickle_proto4)/, 'pickle-protocol'],
  [/^evil_(inst|ext|persid)|^bomb_(long4|dup)|^pickle_(unknown|underflow_pop)/, 'pickle-opcode'],
  [/^evil_build_on_dict|^bomb_(self|dict_self|deep|memo|long1)|^pickle_(root|value_not)/, 'no-tensors'],
  [/^evil_reduce/, 'pickle-call'],
  [/^evil_(setitem|append)|^bomb_laughs/, 'pickle-target'],
  [/^evil_after_stop/, 'pickle-trailing'],
  [/^evil_second/, 'torch-script'],
  [/^bomb_(billion|marks)|^pickle_(underflow|setitems)/, 'pickle-stack'],
  [/^bomb_string|^pickle_(empty|no_stop|trunc)|^legacy_trunc_header/, 'pickle-truncated'],
  [/^pickle_memo/, 'pickle-memo'],
  [/^pickle_(global_bad|string_bad)/, 'not-utf8'],
  [/^pickle_int_keys/, 'tensor-name'],
  [/^edge_dup_keys/, 'duplicate-key'],
  [/^edge_big_endian/, 'byte-order'],
  [/^tensor_(past|offset|stride|size_(neg|huge|stride))/, 'tensor-view'],
  [/^tensor_size_overflow/, 'expanded-view'],
  [/^tensor_(size_float|few|no_storage)/, 'tensor-arguments'],
  [/^tensor_(numel_neg|tag|pid|key)/, 'storage-id'],
  [/^tensor_dtype/, 'forbidden-global'],
  [/^tensor_(numel_lie|record)|^edge_record_long|^zip_bomb/, 'storage-record'],
  [/^unsupported_/, 'unsupported-global'],
  [/^zip_(trunc|cd_offset|multi)/, 'zip-end'],
  [/^zip_crc/, 'zip-crc'],
  [/^zip_local/, 'zip-local-header'],
  [/^zip_(encrypted|flag|method|usize|dotdot)/, 'zip-entry'],
  [/^zip_(offset_past|overlap)/, 'zip-overlap'],
  [/^zip_dup/, 'zip-duplicate'],
  [/^zip_(two_roots|no_pkl|empty)/, 'torch-archive'],
  [/^zip_count/, 'zip-directory'],
  [/^legacy_(bad|big)/, 'legacy-header'],
  [/^legacy_trunc_storage/, 'storage-past-end'],
  [/^legacy_numel/, 'storage-count'],
  [/^legacy_(key|no_keys)/, 'storage-keys'],
  [/^legacy_trailing/, 'trailing-bytes'],
];

/** Where trusted readers differ, these are the ones that we read. */
const LOADS = /^ok_|^edge_expand_stride0|^evil_legacy_sysinfo|^zip_(data_descriptor|many_entries)/;

describe('hostile torch files', () => {
  it('every file loads with its values or fails by its rule, quickly', async () => {
    const cases = hostileCases('torch');
    const rules = new Set<string>();
    let slowest = 0;
    for (const entry of cases) {
      const name = entry.file.split('/').at(-1)!;
      const start = performance.now();
      const load = async () =>
        expectTensorsOf(entry, (await readPytorch(fromBytes(readBin(HOSTILE + entry.file)), name)).tensors);
      if (entry.expect === 'load' || LOADS.test(name)) {
        assert.notEqual(entry.expect, 'error', entry.file);
        await load();
      } else {
        const error = await failure(entry.file, load);
        assert.ok(error instanceof TorchFileError && error.file === name, `${entry.file}: ${error.message}`);
        const code = RULES.find(([pattern]) => pattern.test(name))?.[1];
        assert.equal(error.code, code, `${entry.file}: ${entry.rule}: ${error.message}`);
        if (entry.expect.includes('unsupported')) assert.ok(error.unsupported, entry.file);
        rules.add(error.code);
      }
      slowest = Math.max(slowest, performance.now() - start);
    }
    assert.ok(cases.length >= 170 && slowest < 2000, `${slowest} ms`);
    assert.equal(rules.size, new Set(RULES.map(([, code]) => code)).size);
    console.log(`      ${cases.length} torch files, ${rules.size} rules, slowest ${slowest.toFixed(0)} ms`);
  });

  it('says what a file is instead', async () => {
    for (const [name, what] of [
      ['html', /web page/],
      ['lfs', /LFS pointer/],
      ['sevenzip', /7z/],
      ['tar', /tar archive/],
      ['hdf5', /HDF5/],
      ['onnx', /ONNX/],
      ['safetensors', /safetensors/],
      ['empty', /empty file/],
    ] as const) {
      const bytes = readBin(`${HOSTILE}torch/not_torch_${name}.bin`);
      assert.match((await failure(name, () => readPytorch(fromBytes(bytes), 'x.bin'))).message, what);
    }
  });
});
