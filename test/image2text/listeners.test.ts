import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createWorkQueue } from '../../src/image2text/queue.js';
import { loadGit } from '../../src/model/load-git.js';
import { fromDirectory, type Image2Text, type LoadEvent, loadImage2Text, type ModelFiles } from '../../src/node.js';
import { TextStreamer } from '../../src/pipeline/index.js';
import { convertCheckpoint } from '../../src/tools/index.js';
import { train } from '../../src/training/index.js';
import { useBackend } from '../support/backends.js';
import { expectTensors } from '../support/close.js';
import { DEMO, EXAMPLES } from '../support/fixtures.js';

const MUG = `${EXAMPLES}blue-mug-juice.png`;
const GREEDY = { strategy: 'greedy', maxLength: 20 } as const;
const failure = new Error('a listener of the caller failed');
const isFailure = (error: unknown): boolean => error === failure;

/** Promises that nobody handled while `body` ran; one of them would end a process. */
async function unhandled(body: () => Promise<unknown>): Promise<unknown[]> {
  const found: unknown[] = [];
  const note = (error: unknown): void => void found.push(error);
  const before = process.listeners('unhandledRejection');
  process.removeAllListeners('unhandledRejection').on('unhandledRejection', note);
  try {
    await body();
    await new Promise(setImmediate);
  } finally {
    process.off('unhandledRejection', note);
    for (const listener of before) process.on('unhandledRejection', listener);
  }
  return found;
}

/** A promise, and what resolves it. */
function signalOnce(): { readonly promise: Promise<void>; resolve(): void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve: () => resolve() };
}

/** The demo's files, where reading `name`, or its bytes, never ends. */
async function stuck(name: string, at: 'open' | 'slice' | 'readInto', reached: () => void): Promise<ModelFiles> {
  const files = await fromDirectory(DEMO);
  const never = (): Promise<never> => {
    reached();
    return new Promise(() => undefined);
  };
  return {
    label: 'stuck',
    async open(file) {
      if (file !== name) return files.open(file);
      if (at === 'open') return never();
      const source = (await files.open(file))!;
      if (at === 'slice') return { size: source.size, slice: () => ({ arrayBuffer: never }) };
      return { size: source.size, slice: source.slice, readInto: never };
    },
  };
}

describe('listeners and sources of the caller', () => {
  let model: Image2Text;
  before(async () => {
    await useBackend('simd');
    model = await loadImage2Text(DEMO);
  });
  after(() => model.dispose());

  it('a rejected promise of onProgress ends the load, not the process', async () => {
    const events: LoadEvent['status'][] = [];
    const onProgress = async ({ status }: LoadEvent): Promise<void> => {
      events.push(status);
      throw failure;
    };
    const found = await unhandled(() =>
      expectTensors(0, () => assert.rejects(loadImage2Text(DEMO, { onProgress }), isFailure)),
    );
    assert.deepEqual(found, []);
    assert.ok(events.length > 0 && !events.includes('ready'), events.join());
  });

  it('so do those of trace, of a streamer and of onToken; those of the last event of a load harm nothing', async () => {
    const found = await unhandled(async () => {
      const trace = async (): Promise<void> => {
        throw failure;
      };
      const streamer = { put: trace as () => void, end: () => undefined };
      await expectTensors(0, async () => {
        await assert.rejects(model.caption(MUG, { ...GREEDY, trace }), isFailure);
        await assert.rejects(model.caption(MUG, { ...GREEDY, streamer }), isFailure);
        await assert.rejects(model.caption(MUG, { ...GREEDY, onToken: trace }), isFailure);
      });
      const onProgress = async ({ status }: LoadEvent): Promise<void> => {
        if (status === 'ready') throw failure;
      };
      (await loadImage2Text(DEMO, { onProgress })).dispose();
    });
    assert.deepEqual(found, []);
  });

  it('so do those of training, loading weights, converting and a TextStreamer', async () => {
    const rejects = async (): Promise<void> => {
      throw failure;
    };
    const fails = (body: () => Promise<unknown>) => expectTensors(0, () => assert.rejects(body(), isFailure));
    const pairs = [{ image: MUG, text: 'a mug' }];
    const found = await unhandled(async () => {
      await fails(() => train(model, pairs, { steps: 3, batchSize: 1, lora: { rank: 2 }, onEvent: rejects }));
      const files = await fromDirectory(DEMO);
      await fails(() => loadGit(files, { onProgress: rejects }));
      const folder = mkdtempSync(join(tmpdir(), 'image2text-listeners-'));
      await fails(() => convertCheckpoint(DEMO, join(folder, 'out'), { dtype: 'f16', onProgress: rejects }));
      assert.deepEqual(readdirSync(folder), []);
      rmSync(folder, { recursive: true });
      const streamer = new TextStreamer(model.tokenizer, { callback_function: rejects });
      await fails(() => model.caption(MUG, { ...GREEDY, streamer }));
    });
    assert.deepEqual(found, []);
  });

  for (const [name, at] of [
    ['config.json', 'open'],
    ['vocab.txt', 'slice'],
    ['model.safetensors', 'open'],
    ['model.safetensors', 'slice'],
    ['model.safetensors', 'readInto'],
  ] as const) {
    it(`an abort ends a load whose ${name} never comes (${at})`, async () => {
      const controller = new AbortController();
      const isReached = signalOnce();
      const files = await stuck(name, at, isReached.resolve);
      await expectTensors(0, async () => {
        const loading = loadImage2Text(files, { signal: controller.signal });
        await Promise.race([isReached.promise, loading]);
        controller.abort(failure);
        await assert.rejects(loading, isFailure);
      });
    });
  }

  it('an abort ends a call whose image never comes', async () => {
    const isReached = signalOnce();
    const openImage = (): Promise<never> => {
      isReached.resolve();
      return new Promise(() => undefined);
    };
    const own = await loadImage2Text(DEMO, { openImage, openVideo: openImage });
    for (const input of ['https://host.example/a.png', 'a.png', { video: 'a.gif' }]) {
      const controller = new AbortController();
      const call = own.caption(input, { signal: controller.signal });
      await isReached.promise;
      controller.abort(failure);
      await assert.rejects(call, isFailure);
    }
    own.dispose();
  });

  it('calls leave no listener behind on a signal that lives on', async () => {
    const { signal } = new AbortController();
    let [listeners, added] = [0, 0];
    const { addEventListener, removeEventListener } = signal;
    signal.addEventListener = function (this: AbortSignal, ...args: unknown[]) {
      listeners++;
      added++;
      return Reflect.apply(addEventListener, this, args);
    };
    signal.removeEventListener = function (this: AbortSignal, ...args: unknown[]) {
      listeners--;
      return Reflect.apply(removeEventListener, this, args);
    };
    const { git, tokenizer } = model;
    const queue = createWorkQueue({ git, tokenizer }, 2);
    const request = { inputs: 3, generation: GREEDY, trace: undefined, batchSize: undefined, signal } as const;
    const load = () => Promise.reject(failure);
    const promptsOf = () => [[tokenizer.clsId]];
    assert.deepEqual(await queue.write({ ...request, load, promptsOf, onError: 'collect' }), Array(3).fill(failure));
    await assert.rejects(queue.write({ ...request, load, promptsOf, onError: 'throw' }), isFailure);
    assert.equal(await queue.run(signal, async () => 1), 1);
    await assert.rejects(queue.run(signal, load), isFailure);
    assert.ok(added > 0);
    assert.equal(listeners, 0);
  });
});
