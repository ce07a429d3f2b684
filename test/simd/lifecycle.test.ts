import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import * as tf from '@tensorflow/tfjs-core';
import { registerSimdBackend, type SimdBackend, setThreads } from 'tfjs-backend-simd';
import { loadImage2Text } from '../../src/node.js';
import { DEMO, ROOT, readJson } from '../support/fixtures.js';
import { untilAllWork, useVariant } from './support.js';

/** What a program says and how it ends. */
function program(code: string, flags: readonly string[] = []): Promise<{ code: number; said: string }> {
  const args = [...flags, '--no-warnings', '--import', 'tsx', '--input-type=module', '-e', code];
  return new Promise((resolve) => {
    execFile(process.execPath, args, { cwd: ROOT, timeout: 110_000 }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), said: stdout + stderr }),
    );
  });
}

/** Three threads at work, and `work`, the sum of a thousand ones. */
const START = `
  import { registerSimdBackend } from 'tfjs-backend-simd';
  import * as tf from '@tensorflow/tfjs-core';
  registerSimdBackend({ threads: 3 });
  await tf.setBackend('simd');
  const work = async () => {
    for (let i = 0; i < 20; i++) tf.tidy(() => { tf.exp(tf.ones([300_000])); });
    return 'sum ' + (await tf.sum(tf.ones([1000])).data())[0];
  };`;

async function sine(): Promise<Float32Array> {
  const [x, w] = [tf.tidy(() => tf.sin(tf.reshape(tf.range(0, 90 * 200), [90, 200]))), tf.ones([200, 1500])];
  const y = tf.engine().runKernel('GitLinear', { x, weight: w }, { activation: 'quick_gelu' }) as tf.Tensor;
  const values = (await y.data()) as Float32Array;
  tf.dispose([x, w, y]);
  return values;
}

describe('simd: programs and their threads', () => {
  it('a process with workers ends by itself', async () => {
    const { code, said } = await program(`${START} console.log(await work());`);
    assert.deepEqual([code, said.trim()], [0, 'sum 1000']);
  });

  it('a process ends with its error, and by process.exit', async () => {
    const failing = await program(`${START} await work(); throw new Error('on purpose');`);
    assert.equal(failing.code, 1);
    assert.match(failing.said, /on purpose/);
    assert.equal((await program(`${START} await work(); process.exit(7);`)).code, 7);
  });

  it('inside a worker, which ends by itself too', async () => {
    const inner = `import('tsx/esm/api').then(({ register }) => { register(); return import('${ROOT}test/support/worker-program.ts'); })`;
    const { code, said } = await program(`
      import { Worker } from 'node:worker_threads';
      const worker = new Worker(${JSON.stringify(inner)}, { eval: true });
      worker.on('message', (text) => console.log(text));
      await new Promise((resolve) => worker.on('exit', resolve));
      console.log('over');`);
    assert.deepEqual([code, said.trim()], [0, 'sum 1000 with 3 threads\nover']);
  });

  it('without WebAssembly it says so by name', async () => {
    const { code, said } = await program(`
      import { startBackend } from '${ROOT}src/node.ts';
      globalThis.WebAssembly = undefined;
      try { await startBackend('simd'); } catch (error) { console.log(error.name, error.code); }`);
    assert.equal(code, 0);
    assert.match(said, /BackendError backend-failed/);
  });

  it('from 8 threads to 1 and back a hundred times, with work in between, more threads than cores', async () => {
    await useVariant('simd-threads');
    setThreads(1, 'simd-threads');
    const expected = await sine();
    for (let round = 0; round < 100; round++) {
      for (const threads of [8, 1]) {
        assert.equal(setThreads(threads, 'simd-threads'), threads);
        assert.deepEqual(await sine(), expected, `round ${round}, ${threads} threads`);
      }
    }
    setThreads(3, 'simd-threads');
  });

  it('workers that are terminated from outside lose no result, and are replaced', async () => {
    const threads = createRequire(import.meta.url)('node:worker_threads') as { Worker: typeof Worker };
    const started: Worker[] = [];
    class Watched extends Worker {
      constructor(...args: ConstructorParameters<typeof Worker>) {
        super(...args);
        started.push(this);
      }
    }
    const original = threads.Worker;
    threads.Worker = Watched;
    try {
      registerSimdBackend({ name: 'simd-mortal', threads: 3 });
      assert.ok(await tf.setBackend('simd-mortal'));
      const expected = await sine();
      assert.equal(started.length, 2);
      await untilAllWork(2, async () => assert.deepEqual(await sine(), expected));
      const ends = started.map((worker) => worker.terminate()); // they may be at a chunk when it reaches them
      for (let i = 0; i < 20; i++) assert.deepEqual(await sine(), expected);
      await Promise.all(ends);
      assert.deepEqual(await sine(), expected);
      assert.equal(setThreads(3, 'simd-mortal'), 3);
      assert.equal(started.length, 4, 'two new ones');
      assert.deepEqual(await sine(), expected);
    } finally {
      threads.Worker = original;
      tf.removeBackend('simd-mortal');
      await useVariant('simd');
    }
  });

  it('one that the program registered stays as it is; another copy of the package replaces it, kernels and all, in silence', async () => {
    const { code, said } = await program(`${START}
      import { startBackend } from '${ROOT}src/node.ts';
      const mine = tf.backend();
      const kept = tf.ones([3]);
      await startBackend('simd');
      console.log(tf.backend() === mine, (await tf.sum(kept).data())[0]);
      const copy = await import(import.meta.resolve('tfjs-backend-simd') + '?copy');
      copy.registerSimdBackend();
      await tf.setBackend('simd');
      console.log(tf.backend() instanceof copy.SimdBackend, await work());`);
    assert.deepEqual([code, said.trim()], [0, 'true 3\ntrue sum 1000']);
  });

  it('two backends in one process, in turns', async () => {
    const used = async (name: string) => {
      await useVariant(name);
      return ((tf.backend() as SimdBackend).heap.stats() as { used: number }).used;
    };
    const before = [await used('simd'), await used('simd-threads')];
    await useVariant('simd');
    const mine = tf.ones([1000]);
    await useVariant('simd-threads');
    const other = tf.add(mine, 1); // moves its operand over
    const values = await sine();
    await useVariant('simd');
    assert.deepEqual(await sine(), values);
    assert.deepEqual([(await other.data())[7], (await mine.data())[7]], [2, 1]);
    tf.dispose([mine, other]);
    assert.deepEqual([await used('simd'), await used('simd-threads')], before);
    await useVariant('simd');
  });

  it('two models at once say what each says alone', async () => {
    const { images } = readJson<{ images: { file: string; greedy: { text: string } }[] }>(`${DEMO}expected.json`);
    const before = tf.memory().numTensors;
    const models = await Promise.all([loadImage2Text(DEMO), loadImage2Text(DEMO, { weights: 'bf16' })]);
    setThreads(2);
    const said = await Promise.all(
      images
        .slice(0, 4)
        .flatMap(({ file }) =>
          models.map(
            async (model) => (await model.caption(`${ROOT}${file}`, { strategy: 'greedy', maxLength: 20 })).text,
          ),
        ),
    );
    setThreads(1);
    assert.deepEqual(
      said,
      images.slice(0, 4).flatMap(({ greedy }) => [greedy.text, greedy.text]),
    );
    for (const model of models) model.dispose();
    assert.equal(tf.memory().numTensors, before);
  });
});
