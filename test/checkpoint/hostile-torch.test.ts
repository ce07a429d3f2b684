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
  [/^evil_(plain|obj|hidden|legacy_obj|legacy_magic)/, 'forbidden-global'],
  [/^evil_(protocol0|before_valid)|^not_torch|^zip_(trunc_1\.|prefix)/, 'not-torch'],
  [/^pickle_proto_255/, 'pickle-protocol'],
  [/^evil_stack_global|^bomb_(bytes8|frame)/, 'pickle-truncated'],
  [
    /^evil_(inst|ext|persid|newobj_ex)|^bomb_(long4|dup)|^pickle_(unknown|underflow_pop|proto_5_buffer)/,
    'pickle-opcode',
  ],
  [
    /^evil_build_on_dict|^bomb_(self|dict_self|deep|memo|long1)|^pickle_(root|value_not|proto_5_bytearray)|^edge_pickle_proto4/,
    'no-tensors',
  ],
  [/^evil_(reduce|build_setstate)/, 'pickle-call'],
  [/^evil_(setitem|append)|^bomb_laughs/, 'pickle-target'],
  [/^evil_after_stop/, 'pickle-trailing'],
  [/^evil_second/, 'torch-script'],
  [/^bomb_(billion|marks)|^pickle_(underflow|setitems)/, 'pickle-stack'],
  [/^bomb_string|^pickle_(empty|no_stop|trunc)|^legacy_trunc_header/, 'pickle-truncated'],
  [/^pickle_memo/, 'pickle-memo'],
  [/^pickle_(global_bad|string_bad)/, 'not-utf8'],
  [/^pickle_int_keys/, 'tensor-name'],
  [/^edge_dup_keys/, 'duplicate-key'],
  [/^tensor_(past|offset|stride|size_(neg|huge|stride))/, 'tensor-view'],
  [/^tensor_size_overflow/, 'expanded-view'],
  [/^tensor_(size_float|few|no_storage)/, 'tensor-arguments'],
  [/^tensor_(numel_neg|tag|pid|key)/, 'storage-id'],
  [/^tensor_dtype/, 'forbidden-global'],
  [/^tensor_(numel_lie|record)|^edge_record_long|^zip_bomb/, 'storage-record'],
  [/^unsupported_(sparse|quantized)/, 'no-tensors'],
  [/^unsupported_numpy/, 'unsupported-global'],
  [/^zip_(trunc|cd_offset|multi)/, 'zip-end'],
  [/^zip_crc/, 'zip-crc'],
  [/^zip_local/, 'zip-local-header'],
  [/^zip_(encrypted|flag|method|usize|dotdot)/, 'zip-entry'],
  [/^zip_(offset_past|overlap)/, 'zip-overlap'],
  [/^zip_dup/, 'zip-duplicate'],
  [/^zip_(two_roots|no_pkl|empty)/, 'torch-archive'],
  [/^zip_count/, 'zip-directory'],
  [/^legacy_bad/, 'legacy-header'],
  [/^legacy_trunc_storage/, 'storage-past-end'],
  [/^legacy_numel/, 'storage-count'],
  [/^legacy_(key|no_keys)/, 'storage-keys'],
  [/^legacy_trailing/, 'trailing-bytes'],
];

/** Where trusted readers differ, these are the ones that we read. */
const LOADS =
  /^ok_|^edge_(expand_stride0|big_endian)|^evil_(legacy_sysinfo|torch.serialization._get_layout)|^legacy_big_endian|^zip_(data_descriptor|many_entries)/;

describe('hostile torch files', () => {
  const cases = hostileCases('torch');
  const codes = new Set<string>();

  for (const entry of cases) {
    const name = entry.file.split('/').at(-1)!;
    const load = async () =>
      expectTensorsOf(entry, (await readPytorch(fromBytes(readBin(HOSTILE + entry.file)), name)).tensors);
    if (entry.expect === 'load' || LOADS.test(name)) {
      it(`${name} loads: ${entry.rule}`, async () => {
        assert.notEqual(entry.expect, 'error');
        await load();
      });
      continue;
    }
    const code = RULES.find(([pattern]) => pattern.test(name))?.[1] ?? '(no code listed)';
    it(`${name} is refused (${code}): ${entry.rule}`, async () => {
      const error = await failure(entry.file, load);
      assert.ok(error instanceof TorchFileError && error.file === name, error.message);
      assert.equal(error.code, code, error.message);
      codes.add(error.code);
    });
  }

  it('there are as many as there were, and every code listed here is met', () => {
    assert.equal(cases.length, 170);
    assert.deepEqual([...codes].sort(), [...new Set(RULES.map(([, code]) => code))].sort());
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
