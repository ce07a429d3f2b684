import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { fromBytes } from '../../src/checkpoint/byte-source.js';
import { readValues } from '../../src/checkpoint/stored-tensor.js';
import { unpickle } from '../../src/checkpoint/torch/pickle.js';
import { readPytorch } from '../../src/checkpoint/torch/torch-file.js';
import { openZip } from '../../src/checkpoint/torch/zip.js';
import { crc32 } from '../../src/crc32.js';
import { TorchFileError } from '../../src/errors.js';
import { HOSTILE, ROOT, readBin } from '../support/fixtures.js';
import { counting, failure } from './support.js';
import { bytesOf, torchPickle, torchZip, zipBytes } from './torch-writer.js';

const run = (...parts: Parameters<typeof bytesOf>) => unpickle(bytesOf(0x80, 2, ...parts), 0, { file: 'x', base: 0 });

describe('pickle', () => {
  it('knows 43 opcodes and refuses the other 213 at their offset', async () => {
    const known: number[] = [];
    for (let code = 0; code < 256; code++) {
      const error = await failure(`opcode ${code}`, async () => run(code, 'N'.repeat(9)));
      assert.ok(error instanceof TorchFileError && error.offset !== undefined);
      if (error.code !== 'pickle-opcode') known.push(code);
      else assert.equal(error.offset, 2);
    }
    const letters = known.map((code) => (code < 127 ? String.fromCharCode(code) : code.toString(16))).join(' ');
    assert.equal(
      letters,
      '( ) . B C G J K M N Q R T U X ] a b c e h j q r s t u } 81 85 86 87 88 89 8a 8c 8d 8e 8f 90 91 93 94 95 96',
    );
  });

  it('reads numbers as Python writes them', () => {
    const value = (...parts: Parameters<typeof bytesOf>) => run(...parts, '.').value;
    assert.equal(value('J', [255, 255, 255, 255]), -1);
    assert.equal(value('M', [0, 128]), 32768);
    assert.equal(value(0x8a, 0), 0);
    assert.equal(value(0x8a, [1, 0x80]), -128);
    assert.equal(value(0x8a, [8, 255, 255, 255, 255, 255, 255, 255, 127]), 2n ** 63n - 1n);
    assert.deepEqual(value('G', [0x3f, 0xf8, 0, 0, 0, 0, 0, 0]), { kind: 'float', value: 1.5 });
  });

  it('is bounded: many values, marks, memo entries and lists cost an error and little memory', async () => {
    const cases: [string, Uint8Array<ArrayBuffer>][] = [
      ['lists', bytesOf(0x80, 2, ']'.repeat(300_000))],
      ['dicts', bytesOf(0x80, 2, '}'.repeat(300_000))],
      ['tuples', bytesOf(0x80, 2, ')'.repeat(300_000))],
      ['ordered dicts', bytesOf(0x80, 2, 'ccollections\nOrderedDict\nq\x01', 'h\x01)R'.repeat(130_000))],
      ['marks', bytesOf(0x80, 2, '('.repeat(1_100_000))],
      ['values', bytesOf(0x80, 2, 'N'.repeat(1_100_000))],
    ];
    const memo = new Uint8Array(3 + 5 * 600_000).fill(0x4e);
    memo.set([0x80, 2]);
    for (let i = 0; i < 600_000; i++) {
      memo[3 + 5 * i] = 0x72;
      new DataView(memo.buffer).setUint32(4 + 5 * i, i * 7, true);
    }
    cases.push(['memo', memo]);
    for (const [what, bytes] of cases) {
      const error = await failure(what, async () => unpickle(bytes, 0, { file: 'x', base: 0 }));
      assert.equal(error.code, 'pickle-size', what);
    }
  });

  it('has no way to run anything: no eval, Function or import() in the whole module, but for its own reader by its address', () => {
    const reader = "import('./torch/torch-file.js')"; // comes when there is a file of PyTorch; no file can change the address
    const folder = `${ROOT}src/checkpoint/`;
    for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
      if (!name.endsWith('.ts')) continue;
      const code = readFileSync(folder + name, 'utf8');
      const others = name === 'open-checkpoint.ts' ? code.replace(reader, '') : code;
      assert.doesNotMatch(others, /\beval\s*\(|\bFunction\s*\(|\bimport\s*\(|\brequire\s*\(|node:/, name);
    }
  });
});

describe('zip', () => {
  const data = Uint8Array.from({ length: 5000 }, (_, i) => i * 7);
  const file = zipBytes([
    ['a/b', data],
    ['a/c', new Uint8Array([1])],
  ]);

  it('has the checksum of the standard', () => {
    assert.equal(crc32(new TextEncoder().encode('123456789')), 0xcbf43926);
    assert.equal(crc32(data.subarray(700), crc32(data.subarray(0, 700))), crc32(data));
  });

  it('reads a range of a member, and proves the checksum once', async () => {
    const { source, read } = counting(file);
    const member = (await openZip(source, 'x')).find('a/b')!;
    const opened = read();
    assert.deepEqual(await member.read(100, 200), data.slice(100, 200));
    assert.ok(read() - opened < 5000 + 200);
    const before = read();
    assert.deepEqual(await member.read(4000, 5000), data.slice(4000));
    assert.equal(read() - before, 1000);
    const bad = file.slice();
    bad[60] = bad[60]! ^ 1;
    const broken = (await openZip(fromBytes(bad), 'x')).find('a/b')!;
    assert.equal((await failure('part', () => broken.read(3000, 3001))).code, 'zip-crc');
    assert.equal((await failure('whole', () => broken.read())).code, 'zip-crc');
  });

  it('refuses a comment in which another end record fits', async () => {
    const end = file.slice(file.length - 22);
    const hidden = String.fromCharCode(...end);
    const twice = zipBytes([['a/b', data]], 'x');
    assert.equal((await openZip(fromBytes(twice), 'x')).names.length, 1);
    const glued = bytesOf(file.slice(0, file.length - 2), [22, 0], end);
    assert.equal(hidden.length, 22);
    assert.equal((await failure('two ends', () => openZip(fromBytes(glued), 'x'))).code, 'zip-end');
  });

  it('gives each deflated member, and no more than it says', async () => {
    const member = (await openZip(fromBytes(readBin(`${HOSTILE}torch/ok_deflated.bin`)), 'x')).find('archive/data/0')!;
    assert.equal((await member.read()).length, 24);
    assert.deepEqual(await member.read(4, 12), (await member.read()).slice(4, 12));
    const bomb = (await openZip(fromBytes(readBin(`${HOSTILE}torch/zip_bomb_deflate.bin`)), 'x')).find(
      'archive/data/0',
    )!;
    assert.equal((await bomb.read()).length, bomb.size);
  });
});

type Part = Parameters<typeof bytesOf>[number];

describe('torch tensors', () => {
  it('gives any strided view row by row, whole and by parts', async () => {
    const axis = fc.record({ size: fc.integer({ min: 1, max: 4 }), stride: fc.nat(9) });
    await fc.assert(
      fc.asyncProperty(fc.array(axis, { maxLength: 4 }), fc.nat(5), fc.boolean(), async (axes, offset, wide) => {
        const reach = axes.reduce((sum, { size, stride }) => sum + (size - 1) * stride, offset);
        const numbers = Float64Array.from({ length: reach + 1 }, (_, i) => i * 1.25 - 3);
        const storage = wide ? numbers : Float32Array.from(numbers);
        const shape = axes.map(({ size }) => size);
        const strides = axes.map(({ stride }) => stride);
        const view = { name: 'w', key: '0', count: reach + 1, offset, shape, strides };
        const kind = wide ? 'DoubleStorage' : 'FloatStorage';
        const bytes = torchZip([{ ...view, storage: kind }], { 0: new Uint8Array(storage.buffer) });
        const stored = (await readPytorch(fromBytes(bytes), 'x')).tensors.get('w')!;
        let expected = [offset];
        for (const { size, stride } of axes) {
          expected = expected.flatMap((at) => Array.from({ length: size }, (_, i) => at + i * stride));
        }
        assert.deepEqual(
          [...(await readValues(stored))],
          expected.map((at) => at * 1.25 - 3),
        );
        const item = wide ? 8 : 4;
        const half = item * Math.floor(expected.length / 2);
        const parts = [...(await stored.read(0, half)), ...(await stored.read(half))];
        assert.deepEqual(parts, [...(await stored.read())]);
      }),
      { numRuns: 300, seed: 3 },
    );
  });

  it('copies bits, not numbers: NaNs and 64-bit integers come through a view unchanged', async () => {
    const bits = new BigUint64Array([0x7ff0000000000001n, 0xfff7ffffffffffffn, 2n ** 63n, 5n]);
    const view = { name: 'i', key: '0', count: 4, offset: 0, shape: [2, 2], strides: [1, 2], storage: 'LongStorage' };
    const { tensors } = await readPytorch(fromBytes(torchZip([view], { 0: new Uint8Array(bits.buffer) })), 'x');
    const got = new BigUint64Array((await tensors.get('i')!.read()).buffer);
    assert.deepEqual([...got], [bits[0], bits[2], bits[1], bits[3]]);
  });

  /** A state dict of one tensor `w` = [1, -2, 3] whose rebuilding is written out. */
  const oneTensor = (rebuild: readonly Part[], protocol = 2) => {
    const storage = ['(', 'X', [7, 0, 0, 0], 'storage', 'ctorch\nFloatStorage\n', 'X', [1, 0, 0, 0], '0'] as const;
    const id = [...storage, 'X', [3, 0, 0, 0], 'cpu', 'K', 3, 't', 'Q', 'K', 0, 'K', 3, 0x85, 'K', 1, 0x85] as const;
    const view: Part[] = [...id, 0x89, 'ccollections\nOrderedDict\n', ')', 'R'];
    const parts = rebuild.flatMap((part): Part[] => (part === 'VIEW' ? view : [part]));
    return bytesOf(0x80, protocol, '}', '(', 'X', [1, 0, 0, 0], 'w', ...parts, 'u.');
  };
  const valuesOf = async (pickle: Uint8Array<ArrayBuffer>, order?: string) => {
    const data = new DataView(new ArrayBuffer(12));
    for (const [n, value] of [1, -2, 3].entries()) data.setFloat32(4 * n, value, order !== 'big');
    const files: [string, Uint8Array][] = [
      ['x/data.pkl', pickle],
      ['x/data/0', new Uint8Array(data.buffer)],
    ];
    if (order !== undefined) files.push(['x/byteorder', new TextEncoder().encode(order)]);
    const { tensors } = await readPytorch(fromBytes(zipBytes(files)), 'x');
    assert.deepEqual([...tensors.keys()], ['w']);
    const whole = [...(await readValues(tensors.get('w')!))];
    assert.deepEqual([...(await tensors.get('w')!.read(4, 12))], [...(await tensors.get('w')!.read()).slice(4)]);
    return whole;
  };
  const V2 = ['ctorch._utils\n_rebuild_tensor_v2\n', '('] as const;

  it('applies the negative bit, and the byte order of the archive', async () => {
    const plain = oneTensor([...V2, 'VIEW', 't', 'R']);
    const negative = oneTensor([...V2, 'VIEW', '}', 'X', [3, 0, 0, 0], 'neg', 0x88, 's', 't', 'R']);
    assert.deepEqual(await valuesOf(plain), [1, -2, 3]);
    assert.deepEqual(await valuesOf(negative), [-1, 2, -3]);
    for (const pickle of [plain, negative]) {
      assert.deepEqual(await valuesOf(pickle, 'big'), await valuesOf(pickle, 'little'));
    }
    await assert.rejects(valuesOf(plain, 'middle'), (error: TorchFileError) => error.code === 'byte-order');
  });

  it('negates integers and complex numbers as torch does', async () => {
    const open = async (kind: string, count: number, bytes: Uint8Array, bit: string) => {
      const view = ['(', 'X', [7, 0, 0, 0], 'storage', `ctorch\n${kind}\n`, 'X', [1, 0, 0, 0], '0'] as const;
      const rest = ['X', [3, 0, 0, 0], 'cpu', 'K', count, 't', 'Q', 'K', 0, 'K', count, 0x85, 'K', 1, 0x85, 0x89, 'N'];
      const bits = ['}', 'X', [bit.length, 0, 0, 0], bit, 0x88, 's'];
      const body = [...V2, ...view, ...rest, ...bits, 't', 'R'];
      const pickle = bytesOf(0x80, 2, '}', '(', 'X', [1, 0, 0, 0], 'w', ...body, 'u.');
      const archive = zipBytes([
        ['x/data.pkl', pickle],
        ['x/data/0', bytes],
      ]);
      return (await readPytorch(fromBytes(archive), 'x')).tensors.get('w')!.read();
    };
    const integers = new Int16Array([1, -5, 0, 256]);
    const negated = await open('ShortStorage', 4, new Uint8Array(integers.buffer), 'neg');
    assert.deepEqual([...new Int16Array(negated.buffer)], [-1, 5, 0, -256]);
    const complex = new Float32Array([1, 2, 3, -4]);
    const conjugate = await open('ComplexFloatStorage', 2, new Uint8Array(complex.buffer), 'conj');
    assert.deepEqual([...new Float32Array(conjugate.buffer)], [1, -2, 3, 4]);
  });

  it('reads protocols 3 to 5: names from the stack, memo without numbers, frames, bytes, sets', async () => {
    const short = (text: string) => [0x8c, text.length, text] as const;
    const global = (module: string, name: string) =>
      [...short(module), 0x94, ...short(name), 0x94, 0x93, 0x94] as const;
    for (const protocol of [3, 4, 5]) {
      const inert = [
        ...[...short('raw'), 'C', 2, [0xff, 0xfe]],
        ...[...short('seen'), 0x8f, '(', 'K', 1, 0x90],
        ...[...short('fixed'), '(', 'K', 1, 0x91],
        ...[...short('array'), 0x96, [1, 0, 0, 0, 0, 0, 0, 0], 7],
        ...[...short('long'), 0x8d, [2, 0, 0, 0, 0, 0, 0, 0], 'ab'],
        ...[...short('z'), ...global('builtins', 'complex'), 'G', [0, 0, 0, 0, 0, 0, 0, 0], 0x85, 'R'],
      ];
      const body = oneTensor(
        [...global('torch._utils', '_rebuild_tensor_v2'), '(', 'VIEW', 't', 'R', ...inert],
        protocol,
      );
      const frame = bytesOf(
        0x95,
        [body.length - 2, 0, 0, 0, 0, 0, 0, 0].map((n) => n & 255),
      );
      new DataView(frame.buffer).setBigUint64(1, BigInt(body.length - 2), true);
      assert.deepEqual(await valuesOf(bytesOf(body.slice(0, 2), frame, body.slice(2))), [1, -2, 3], `${protocol}`);
    }
    const evil = bytesOf(0x80, 4, ...short('posix'), ...short('system'), 0x93, '.');
    const error = await failure('evil', async () => unpickle(evil, 0, { file: 'x', base: 0 }));
    assert.equal(error.code, 'forbidden-global');
  });

  it('finds the weights beside a tensor of training code, and two levels down', async () => {
    const two = ['a', 'b'].map((name) => ({ name, key: '0', count: 1, offset: 0, shape: [1], strides: [1] }));
    const state = torchPickle(two).slice(2, -1);
    const key = (name: string) => ['X', [name.length, 0, 0, 0], name] as const;
    const step = torchPickle([{ ...two[0]!, name: 'rng_state' }]).slice(2, -1);
    const inner = bytesOf('}(', ...key('model_state_dict'), state, 'u');
    for (const [name, pickle] of [
      ['beside', bytesOf(0x80, 2, step, '(', ...key('model'), state, 'u.')],
      ['deep', bytesOf(0x80, 2, '}(', ...key('state_dict'), inner, 'u.')],
    ] as const) {
      const archive = zipBytes([
        ['x/data.pkl', pickle],
        ['x/data/0', new Uint8Array(4)],
      ]);
      const { tensors } = await readPytorch(fromBytes(archive), 'x');
      assert.deepEqual([...tensors.keys()], ['a', 'b'], name);
    }
  });

  it('bounds views that repeat elements', async () => {
    const view = { name: 'w', key: '0', count: 1, offset: 0, shape: [2 ** 24], strides: [0] };
    const open = (shape: number[]) =>
      readPytorch(fromBytes(torchZip([{ ...view, shape }], { 0: new Uint8Array(4) })), 'x');
    assert.equal((await open([2 ** 24])).tensors.size, 1);
    const error = await failure('expanded', () => open([2 ** 24 + 5]));
    assert.deepEqual([error.code, error.unsupported], ['expanded-view', false]);
    // Many small ones are bounded together, and so are views that share a storage.
    const many = Array.from({ length: 300 }, (_, i) => ({ ...view, name: `w${i}`, shape: [2 ** 16] }));
    const shared = many.map((one) => ({ ...one, count: 2 ** 16, strides: [1] }));
    const half = { 0: new Uint8Array(4 * 2 ** 16) };
    const together = [torchZip(many, { 0: new Uint8Array(4) }), torchZip(shared, half)];
    for (const bytes of together) {
      const { source, read } = counting(bytes);
      assert.equal((await failure('together', () => readPytorch(source, 'x'))).code, 'expanded-view');
      assert.ok(read() < 400_000, `${read()} bytes read before it was refused`);
    }
  });

  it('refuses a storage that is named twice, with another type or size', async () => {
    const view = { name: 'a', key: '0', count: 2, offset: 0, shape: [2], strides: [1] };
    for (const other of [{ count: 1, shape: [1] }, { storage: 'IntStorage' }]) {
      const bytes = torchZip([view, { ...view, name: 'b', ...other }], { 0: new Uint8Array(8) });
      assert.equal((await failure('twice', () => readPytorch(fromBytes(bytes), 'x'))).code, 'storage-id');
    }
  });

  it('reads headers and pickle alone until a tensor is asked for', async () => {
    const big = new Uint8Array(4 << 20);
    const view = { name: 'w', key: '0', count: 1 << 20, offset: 0, shape: [1 << 20], strides: [1] };
    const { source, read } = counting(torchZip([view], { 0: big }));
    const { tensors } = await readPytorch(source, 'x');
    assert.ok(read() < 100_000, `${read()} bytes to open a file of ${source.size}`);
    await tensors.get('w')!.read();
    assert.ok(read() < big.length + 100_000);
  });

  it('reads a legacy file whose pickles are longer than the first window', async () => {
    const count = 9000;
    const views = Array.from({ length: count }, (_, i) => ({
      name: `layer.${i}.${'x'.repeat(60)}`,
      key: '0',
      count: 1,
      offset: 0,
      shape: [1],
      strides: [1],
    }));
    const head = readBin(`${HOSTILE}torch/ok_legacy.bin`);
    const third = String.fromCharCode(...head).indexOf(
      '\x80\x02',
      String.fromCharCode(...head).indexOf('little_endian'),
    );
    const list = bytesOf(0x80, 2, ']X', [1, 0, 0, 0], '0a.');
    const bytes = new Uint8Array(
      await new Blob([
        head.slice(0, third),
        torchPickle(views),
        list,
        new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 128, 63]),
      ]).arrayBuffer(),
    );
    assert.ok(bytes.length > 2 ** 20);
    const { tensors } = await readPytorch(fromBytes(bytes), 'x');
    assert.equal(tensors.size, count);
    assert.deepEqual([...(await readValues(tensors.get(views[7]!.name)!))], [1]);
  });
});
