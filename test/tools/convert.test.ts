import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { memory } from '@tensorflow/tfjs-core';
import { openCheckpoint, readWeights } from '../../src/checkpoint/open-checkpoint.js';
import { elementCount, QUANTIZATION_KEY } from '../../src/checkpoint/stored-tensor.js';
import { fromDirectory, Image2TextError, loadImage2Text, quietTensorflow, startBackend } from '../../src/node.js';
import { type ConvertDtype, type ConvertOptions, compareModels, convertCheckpoint } from '../../src/tools/index.js';
import { DEMO, ROOT } from '../support/fixtures.js';
import { withFolder } from '../support/folder.js';
import { FULL } from '../support/full.js';
import { VIEWS, viewedExamples } from './images.js';
import { CONTAINERS, inMemory, names, TINY, withTensor } from './support.js';

const convert = (
  from: Parameters<typeof convertCheckpoint>[0],
  to: string,
  dtype: ConvertDtype,
  more: Partial<ConvertOptions> = {},
) => convertCheckpoint(from, to, { dtype, ...more });

async function weightsOf(folder: string): Promise<Map<string, Float32Array>> {
  const { tensors } = await openCheckpoint(await fromDirectory(folder));
  const values = new Map<string, Float32Array>();
  for (const [name, stored] of tensors) {
    if (stored.dtype !== 'I64')
      values.set(name, await readWeights(stored, { kind: 'tensor', shape: stored.shape, layout: 'as-is' }));
  }
  return values;
}

const code = (expected: string) => (error: unknown) =>
  error instanceof Image2TextError && error.code === expected && !/\n/.test(error.message);

describe('convertCheckpoint', () => {
  it('every container of the reference becomes the same float32 file, byte for byte', async () => {
    await withFolder(async (folder) => {
      const bytes = new Map<string, string>();
      for (const name of [
        'hf-bin',
        'hf-bin-legacy',
        'hf-bin-views',
        'original',
        'original-module',
        'sharded-bin',
        'sharded-safetensors',
      ]) {
        const { from } = await convert(CONTAINERS + name, join(folder, name), 'f32');
        assert.equal(from.layout, name.startsWith('original') ? 'original' : 'hugging-face');
        bytes.set(readFileSync(join(folder, name, 'model.safetensors'), 'latin1'), name);
      }
      assert.equal(bytes.size, 1, `they differ: ${[...bytes.values()]}`);
      const header = [...bytes.keys()][0]!;
      const length = Number(Buffer.from(header.slice(0, 8), 'latin1').readBigUInt64LE());
      const described = JSON.parse(header.slice(8, 8 + length)) as Record<string, unknown>;
      assert.deepEqual([length % 8, described['__metadata__']], [0, { format: 'pt' }]);
      const [, ...listed] = Object.keys(described);
      assert.deepEqual(listed, [...listed].sort());
    });
  });

  it("Microsoft's model.pt alone: the config comes from its shapes, and what is missing is said", async () => {
    await withFolder(async (folder) => {
      mkdirSync(join(folder, 'from'));
      cpSync(`${CONTAINERS}original/model.pt`, join(folder, 'from/model.pt'));
      const { warnings } = await convert(join(folder, 'from'), join(folder, 'to'), 'f32');
      assert.match(warnings.join(), /no vocabulary/);
      const config = JSON.parse(readFileSync(join(folder, 'to/config.json'), 'utf8')) as Record<string, unknown>;
      assert.deepEqual([config['model_type'], config['vocab_size'], config['torch_dtype']], ['git', 211, 'float32']);
      assert.deepEqual(config['architectures'], ['GitForCausalLM']);
      assert.deepEqual(await weightsOf(join(folder, 'to')), await weightsOf(TINY));
    });
  });

  it('f16, bf16 and int8 are as near as they can be, and int8 converts to itself', async () => {
    await withFolder(async (folder) => {
      const before = await weightsOf(DEMO);
      const step = { f16: 2 ** -11, bf16: 2 ** -8, int8: 1 / 254 };
      for (const dtype of FULL ? (['f16', 'bf16', 'int8'] as const) : (['int8'] as const)) {
        const made = await convert(DEMO, join(folder, dtype), dtype);
        assert.equal(made.bytes < made.from.bytes / (dtype === 'int8' ? 3.4 : 1.99), true);
        const after = await weightsOf(join(folder, dtype));
        assert.deepEqual([...after.keys()].sort(), [...before.keys()].sort());
        let worst = 0;
        for (const [name, values] of before) {
          const most = values.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
          const now = after.get(name)!;
          for (let i = 0; i < values.length; i++) worst = Math.max(worst, Math.abs(now[i]! - values[i]!) / most);
        }
        assert.ok(worst <= step[dtype] * 1.001, `${dtype}: ${worst}`);
      }
      await convert(join(folder, 'int8'), join(folder, 'again'), 'int8');
      const [once, twice] = [await weightsOf(join(folder, 'int8')), await weightsOf(join(folder, 'again'))];
      for (const [name, values] of once) {
        const again = twice.get(name)!;
        const moved = values.findIndex((value, i) => Math.abs(value - again[i]!) > 1e-6 * Math.abs(value));
        assert.equal(moved, -1, name);
      }
      const { metadata, tensors } = await openCheckpoint(await fromDirectory(join(folder, 'int8')));
      assert.equal(metadata[QUANTIZATION_KEY], 'int8 per output channel symmetric v1');
      const kinds = (dtype: string) => [...tensors.values()].filter((stored) => stored.dtype === dtype);
      assert.ok(kinds('I8').every(({ shape, scales }) => shape.length === 2 && scales?.shape[0] === shape[0]));
      assert.ok(kinds('I8').some(({ name }) => name === 'output.weight'));
      assert.ok(kinds('F32').length > 0);
      assert.ok(
        kinds('F32').every(({ shape, name }) => shape.length !== 2 || /position_embeddings?\.weight$/.test(name)),
      );
    });
  });

  it('shards: none larger than asked, index complete, the same weights', async () => {
    await withFolder(async (folder) => {
      for (const dtype of ['f32', 'int8'] as const) {
        const to = join(folder, dtype);
        const { files } = await convert(TINY, to, dtype, { maxShardBytes: 60_000 });
        assert.ok(files.length > 3);
        const { tensors, format, warnings } = await openCheckpoint(await fromDirectory(to));
        assert.deepEqual([format, warnings], ['safetensors-sharded', []]);
        assert.ok([...tensors.values()].every(({ scales, file }) => scales === undefined || scales.file === file));
        assert.equal(
          [...tensors.values()].some(({ scales }) => scales !== undefined),
          dtype === 'int8',
        );
        const largest = Math.max(...[...tensors.values()].map(({ shape }) => 4 * elementCount(shape)));
        for (const { name, bytes } of files)
          if (/-of-/.test(name)) assert.ok(bytes <= Math.max(60_000, largest) + 12_000, `${name}: ${bytes}`);
      }
      assert.deepEqual(await weightsOf(join(folder, 'f32')), await weightsOf(TINY));
    });
  });

  it('vocabulary and the other small files come along; tied and 5.x names become the usual ones', async () => {
    await withFolder(async (folder) => {
      await convert(DEMO, join(folder, 'demo'), 'f16');
      const small = [
        'config.json',
        'generation_config.json',
        'model.safetensors',
        'preprocessor_config.json',
        'tokenizer_config.json',
        'vocab.txt',
      ];
      assert.deepEqual(names(join(folder, 'demo')), small);
      assert.equal(readFileSync(join(folder, 'demo/vocab.txt'), 'utf8'), readFileSync(`${DEMO}vocab.txt`, 'utf8'));
      await convert(`${CONTAINERS}video-names-5x`, join(folder, 'video'), 'f32');
      const { tensors } = await openCheckpoint(await fromDirectory(join(folder, 'video')));
      assert.ok(tensors.has('git.img_temperal_embedding.0') && !tensors.has('git.img_temporal_embedding.0'));
    });
  });

  it('never overwrites unasked; asked, it leaves other files and removes older weights', async () => {
    await withFolder(async (folder) => {
      const to = join(folder, 'to');
      await convert(TINY, to, 'f32');
      const before = statSync(join(to, 'model.safetensors')).mtimeMs;
      await assert.rejects(convert(TINY, to, 'f16'), code('destination-exists'));
      await assert.rejects(convert(TINY, join(to, 'config.json'), 'f16'), code('destination-exists'));
      assert.equal(statSync(join(to, 'model.safetensors')).mtimeMs, before);
      writeFileSync(join(to, 'notes.txt'), 'mine');
      await convert(to, to, 'f16', { overwrite: true, maxShardBytes: 50_000 }); // in place
      assert.ok(names(to).includes('notes.txt') && !names(to).includes('model.safetensors'));
      await convert(TINY, to, 'f32', { overwrite: true });
      assert.deepEqual(names(to), ['config.json', 'model.safetensors', 'notes.txt']);
      assert.deepEqual(names(folder), ['to']);
      mkdirSync(join(folder, 'empty'));
      await convert(TINY, join(folder, 'empty'), 'f32');
    });
  });

  it('after a failure or an abort nothing is left', async () => {
    await withFolder(async (folder) => {
      const config = readFileSync(`${TINY}/config.json`);
      const weight = 'git.encoder.layer.1.output.dense.weight';
      const broken = async (value: number, rest = 0.5) =>
        inMemory({
          'config.json': config,
          'model.safetensors': await withTensor(
            `${TINY}/model.safetensors`,
            weight,
            new Float32Array(40 * 92).fill(rest).fill(value, 7, 8),
          ),
        });
      const to = join(folder, 'to');
      const fails = async (value: number, rest: number, dtype: ConvertDtype, expected: string) =>
        assert.rejects(
          convert(await broken(value, rest), to, dtype),
          (error: Image2TextError) => code(expected)(error) && error.path === weight,
        );
      await fails(1e5, 0.5, 'f16', 'f16-overflow');
      await fails(3.4e38, 0.5, 'bf16', 'bf16-overflow');
      await fails(1e-6, 1e-7, 'f16', 'f16-underflow');
      await fails(Number.NaN, 0.5, 'int8', 'non-finite');
      const { flushed } = await convert(await broken(1e-9), join(folder, 'flushed'), 'f16');
      assert.equal(flushed >= 1, true);

      const abort = new AbortController();
      const reason = new Error('enough');
      const onProgress = ({ loaded, total }: { loaded: number; total: number }) => {
        if (loaded > total / 2) abort.abort(reason);
      };
      await assert.rejects(convert(TINY, to, 'f32', { signal: abort.signal, onProgress }), reason);
      await assert.rejects(convert(TINY, to, 'f8' as ConvertDtype), code('unknown-dtype'));
      await assert.rejects(convert(TINY, to, 'f32', { maxShardBytes: 0 }), code('shard-size'));
      await assert.rejects(convert(join(folder, 'nowhere'), to, 'f32'), code('not-a-folder'));
      await assert.rejects(convert(folder, to, 'f32'), code('missing-file'));
      await assert.rejects(convert(TINY, join(folder, 'flushed/config.json/to'), 'f32'), code('cannot-write'));
      assert.deepEqual(names(folder), ['flushed']);
    });
  });
});

describe('converted models', () => {
  it('write the captions that the original writes', async () => {
    quietTensorflow();
    await startBackend('simd');
    await withFolder(async (folder) => {
      const tensors = memory().numTensors;
      const all = await viewedExamples();
      const before = await loadImage2Text(DEMO);
      for (const [dtype, share, logits] of [
        ['f16', 1, 0.02],
        ['bf16', 0.95, 0.2],
        ['int8', 0.95, 0.5],
      ] as const) {
        const images = dtype === 'int8' ? all : all.filter((_, n) => n % VIEWS.length === 0);
        const { bytes, from } = await convert(DEMO, join(folder, dtype), dtype);
        const after = await loadImage2Text(join(folder, dtype));
        const moved = await compareModels(before, after, images, { caption: { strategy: 'greedy' } });
        console.log(
          `      ${dtype}: ${((100 * bytes) / from.bytes).toFixed(0)} % of the size, ${(100 * moved.equalCaptions).toFixed(1)} % of ` +
            `${images.length} captions equal, logits move by ${moved.largestLogitDifference.toFixed(4)}`,
        );
        assert.ok(
          moved.equalCaptions >= share && moved.largestLogitDifference <= logits && moved.largestLogitDifference > 0,
        );
        after.dispose();
      }
      const same = await compareModels(before, before, all.slice(0, 2));
      assert.deepEqual([same.equalCaptions, same.largestLogitDifference], [1, 0]);
      before.dispose();
      assert.equal(memory().numTensors, tensors);
    });
  });

  it('a signal leaves nothing behind, and what a killed conversion left is swept by the next', async () => {
    await withFolder(async (folder) => {
      const killed = join(folder, '..', `${basename(folder)}-killed`);
      const program = `
        import { existsSync } from 'node:fs';
        import { convertCheckpoint } from ${JSON.stringify(`${ROOT}src/tools/index.ts`)};
        import { fromDirectory } from ${JSON.stringify(`${ROOT}src/node.ts`)};
        const files = await fromDirectory(${JSON.stringify(TINY)});
        await convertCheckpoint(files, ${JSON.stringify(join(folder, 'out'))}, {
          dtype: 'f32',
          onProgress() {
            process.stdout.write('writing');
            // writes no more before the signal is sent; it arrives when this returns
            while (!existsSync(${JSON.stringify(killed)})) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
          },
        });`;
      const kill = async (signal: NodeJS.Signals) => {
        const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', program], {
          cwd: ROOT,
          stdio: ['ignore', 'pipe', 'inherit'],
        });
        await once(child.stdout, 'data');
        assert.equal(names(folder).filter((name) => name.endsWith('.part')).length, 1, signal);
        const ended = once(child, 'exit');
        child.kill(signal);
        writeFileSync(killed, '');
        const [, by] = (await ended) as [unknown, string];
        rmSync(killed);
        assert.equal(by, signal);
      };
      for (const signal of ['SIGTERM', 'SIGHUP', 'SIGINT'] as const) {
        await kill(signal);
        assert.deepEqual(names(folder), [], signal);
      }
      await kill('SIGKILL');
      const [left] = names(folder);
      mkdirSync(join(folder, left!.replace(/-\d+-/, `-${process.pid}-`))); // of a process that lives
      mkdirSync(join(folder, '.out.unfinished')); // not ours
      await convert(TINY, join(folder, 'out'), 'f32');
      assert.deepEqual(names(folder), ['.out.unfinished', left!.replace(/-\d+-/, `-${process.pid}-`), 'out'].sort());
    });
  });
});
