import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { getBackend, memory } from '@tensorflow/tfjs-core';
import { connectWorker, fromFiles, type TokenEvent, type WorkerModel } from '../../src/browser.js';
import {
  BackendError,
  DisposedError,
  frames,
  fromDirectory,
  HubError,
  type Image2Text,
  ImageError,
  loadImage2Text,
  OptionError,
  WeightError,
} from '../../src/node.js';
import * as training from '../../src/training/index.js';
import { packError, unpackError } from '../../src/worker/messages.js';
import { serve } from '../../src/worker/serve.js';
import { DEMO, EXAMPLES } from '../support/fixtures.js';

const IMAGE = `${EXAMPLES}blue-mug-juice.png`;
const GREEDY = { strategy: 'greedy' } as const;

/** The worker's side and the page's, over a channel in one process. */
describe('a model at the other end of a channel', () => {
  let here: Image2Text;
  let there: WorkerModel;
  let ports: MessageChannel;
  let loads: { fail?: Error };

  const connect = (trainer?: () => Promise<typeof training>): WorkerModel => {
    ports = new MessageChannel();
    loads = {};
    serve({
      port: ports.port2,
      async load(_, options) {
        if (loads.fail !== undefined) throw loads.fail;
        return loadImage2Text(await fromDirectory(DEMO), { ...options, backend: 'simd' });
      },
      fromFiles,
      backendName: getBackend,
      training: trainer,
    });
    return connectWorker(ports.port1);
  };
  before(async () => {
    here = await loadImage2Text('demo', { backend: 'simd' });
  });
  after(() => here.dispose());
  beforeEach(async () => {
    there = connect(async () => training);
    await there.load('demo');
  });
  afterEach(async () => {
    await there.dispose();
    ports.port1.close();
  });

  it('has the methods of the model, with its results', async () => {
    assert.deepEqual(await there.caption(IMAGE), await here.caption(IMAGE));
    assert.deepEqual(await there.caption([IMAGE, IMAGE], GREEDY), await here.caption([IMAGE, IMAGE], GREEDY));
    const questions = ['what color is the mug?', 'what does the sign say?'];
    assert.deepEqual(await there.answer(IMAGE, questions[0]!), await here.answer(IMAGE, questions[0]!));
    assert.deepEqual(await there.answer(IMAGE, questions), await here.answer(IMAGE, questions));
    const labels = ['mug', 'shirt', 'book'];
    assert.deepEqual(await there.classify(IMAGE, labels), await here.classify(IMAGE, labels));
    assert.deepEqual(await there.score(IMAGE, labels), await here.score(IMAGE, labels));
    assert.deepEqual(await there.embed(IMAGE), await here.embed(IMAGE));
    assert.deepEqual(await there.explain(IMAGE, GREEDY), await here.explain(IMAGE, GREEDY));
  });

  it('without a trainer it refuses to train and to use adapters', async () => {
    await there.dispose();
    ports.port1.close();
    there = connect();
    await there.load('demo');
    const refused = { name: 'OptionError', code: 'missing', path: 'training' };
    await assert.rejects(there.train([{ image: IMAGE, text: 'a cup' }]), refused);
    await assert.rejects(there.useAdapter([new File(['{}'], 'adapter_config.json')]), refused);
  });

  it('says what it loaded, and how far it is', async () => {
    const events: string[] = [];
    const { config, backend, warnings } = await there.load('demo', { onProgress: ({ status }) => events.push(status) });
    assert.deepEqual([config, backend, warnings], [here.config, 'simd', here.warnings]);
    assert.equal(events.at(-1), 'ready');
    assert.ok(events.includes('progress'));
  });

  it('streams; leaving the loop stops the worker and leaves nothing behind', async () => {
    const pieces: string[] = [];
    for await (const piece of there.stream(IMAGE)) pieces.push(piece);
    assert.ok(pieces.length > 3);
    assert.equal(pieces.join(''), (await here.caption(IMAGE, GREEDY)).text);
    const { numTensors } = memory();
    for await (const piece of there.stream(IMAGE)) {
      assert.equal(piece, pieces[0]);
      break;
    }
    assert.equal((await there.caption(IMAGE, GREEDY)).text, pieces.join('')); // after the stopped one
    assert.equal(memory().numTensors, numTensors);
  });

  it('onToken is called in the page, and what it answers counts', async () => {
    const events: TokenEvent[] = [];
    const { finish, tokens } = await there.caption(IMAGE, { ...GREEDY, onToken: (event) => events.push(event) < 3 });
    assert.deepEqual([finish, tokens.length, events.length], ['stopped', 3, 3]);
    await assert.rejects(
      there.caption(IMAGE, {
        ...GREEDY,
        onToken: () => {
          throw new RangeError('enough');
        },
      }),
      (error: Error) => error.name === 'RangeError' && error.message === 'enough',
    );
  });

  it('encoded images are handles: used again without encoding, freed in the worker', async () => {
    const { numTensors } = memory();
    const image = await there.encode(IMAGE);
    assert.ok(memory().numTensors > numTensors);
    assert.deepEqual(await there.answer(image, 'what is this?'), await here.answer(IMAGE, 'what is this?'));
    const seen: string[] = [];
    for await (const piece of there.stream(image)) seen.push(piece);
    assert.equal(seen.join(''), (await here.caption(IMAGE, GREEDY)).text);
    const other = connect();
    await assert.rejects(other.caption(image), { name: 'OptionError', code: 'other-model' });
    image.dispose();
    await assert.rejects(there.caption(image), (error) => error instanceof DisposedError);
    assert.equal(memory().numTensors, numTensors);
  });

  it('handles are the frames of a video', async () => {
    const images = ['blue-mug-juice.png', 'white-sign-tower.png', 'black-shirt-press.jpg'].map(
      (name) => `${EXAMPLES}${name}`,
    );
    const encoded = await Promise.all(images.map((image) => there.encode(image)));
    const said = await here.caption(frames(images), GREEDY);
    assert.deepEqual(await there.caption(frames(encoded), GREEDY), said);
    const before = memory().numTensors;
    assert.deepEqual(await there.caption(frames(encoded), GREEDY), said);
    assert.equal(memory().numTensors, before);
    encoded[1]!.dispose();
    await assert.rejects(there.caption(frames(encoded)), { code: 'image-disposed' });
  });

  it('teaches a thing to the model, and gives files that change what it says until they are taken away', async () => {
    const { numTensors } = memory();
    const said = await here.caption(IMAGE, GREEDY);
    const text = 'my cup';
    const losses: number[] = [];
    const lesson = { steps: 10, batchSize: 2, learningRate: 2e-3, labelSmoothing: 0, schedule: 'cosine' } as const;
    const files = await there.train(
      [
        { image: IMAGE, text },
        { image: { data: new Uint8Array(27), width: 3, height: 3 }, text },
      ],
      {
        ...lesson,
        onEvent: (event) => {
          if (event.type === 'step') losses.push(event.loss);
        },
      },
    );
    assert.equal(losses.length, 10);
    assert.ok(losses.at(-1)! < losses[0]! - 2, losses.join());
    assert.deepEqual(files.map(({ name }) => name).sort(), ['adapter_config.json', 'adapter_model.safetensors']);
    assert.equal((await there.caption(IMAGE, GREEDY)).text, said.text);
    const likely = async () => (await there.score(IMAGE, [text]))[0]!.logProb;
    const before = await likely();
    await there.useAdapter(files);
    const after = await likely();
    assert.ok(after > before + 2, `${before} to ${after}`);
    await there.useAdapter(undefined);
    assert.deepEqual(await there.caption(IMAGE, GREEDY), said);
    await assert.rejects(there.useAdapter([new File(['{}'], 'adapter_config.json')]), { name: 'ConfigError' });
    assert.equal(memory().numTensors, numTensors);
  });

  it('stops teaching when it is told to, when a listener throws, and when another model is loaded', async () => {
    const { numTensors } = memory();
    const begin = (onStep: () => void, signal?: AbortSignal) => {
      const onEvent = ({ type }: { readonly type: string }) => {
        if (type === 'step') onStep();
      };
      return there.train([{ image: IMAGE, text: 'my cup' }], { steps: 100_000, signal, onEvent });
    };
    const reason = new Error('enough');
    const abort = new AbortController();
    const stopped = begin(() => abort.abort(reason), abort.signal);
    await assert.rejects(stopped, (error) => error === reason);
    const thrown = begin(() => {
      throw new RangeError('no more');
    });
    await assert.rejects(thrown, { name: 'RangeError', message: 'no more' });
    let loading: Promise<unknown> | undefined;
    const replaced = begin(() => {
      loading ??= there.load('demo');
    });
    await assert.rejects(replaced, { name: 'DisposedError', code: 'model-disposed' });
    await loading;
    assert.equal((await there.caption(IMAGE, GREEDY)).text, (await here.caption(IMAGE, GREEDY)).text);
    assert.equal(memory().numTensors, numTensors);
  });

  it('an abort ends its call at once with its own reason, and no other', async () => {
    const { numTensors } = memory();
    const reason = new Error('changed my mind');
    const abort = new AbortController();
    const stopped = there.caption(IMAGE, { signal: abort.signal });
    const going = there.caption(IMAGE, GREEDY);
    abort.abort(reason);
    await assert.rejects(stopped, (error) => error === reason);
    assert.equal((await going).text, (await here.caption(IMAGE, GREEDY)).text);
    await assert.rejects(there.encode(IMAGE, { signal: AbortSignal.abort(reason) }), (error) => error === reason);
    assert.equal(memory().numTensors, numTensors);
  });

  it('errors keep class, code and path, and fail their call alone', async () => {
    const calls = await Promise.allSettled([
      there.caption(new Uint8Array([1, 2, 3])),
      there.caption(IMAGE, { numBeams: 0 } as object),
      there.caption(IMAGE, GREEDY),
    ]);
    const [image, option, good] = calls as [PromiseRejectedResult, PromiseRejectedResult, PromiseFulfilledResult<any>];
    assert.ok(image.reason instanceof ImageError);
    assert.ok(option.reason instanceof OptionError);
    assert.deepEqual([option.reason.path, option.reason.code], ['numBeams', 'out-of-range']);
    assert.equal(good.value.text, (await here.caption(IMAGE, GREEDY)).text);
    const [first, second] = await there.caption([new Uint8Array(4), IMAGE], { ...GREEDY, onError: 'collect' });
    assert.ok(first instanceof ImageError);
    assert.equal((second as { text: string }).text, good.value.text);
    loads.fail = new HubError({ file: 'a/b', code: 'not-found', detail: 'no such repository' });
    await assert.rejects(there.load('a/b'), { name: 'HubError', file: 'a/b', code: 'not-found' });
    await assert.rejects(there.caption(IMAGE), { name: 'DisposedError', code: 'no-model' });
  });

  it('what cannot travel is refused by name', async () => {
    await assert.rejects(there.caption({ dataId: {} } as never), { name: 'OptionError', path: 'image' });
    await assert.rejects(there.caption(IMAGE, { trace: () => undefined } as object), { path: 'trace' });
    await assert.rejects(there.caption({ data: Symbol('x') } as never), { name: 'OptionError', path: 'caption' });
  });

  it('bytes are copied, or given away where that is asked for', async () => {
    const bytes = new Uint8Array(readFileSync(IMAGE));
    const { text } = await here.caption(IMAGE, GREEDY);
    assert.equal((await there.caption(bytes, GREEDY)).text, text);
    assert.ok(bytes.length > 0);
    assert.equal((await there.caption(bytes, { ...GREEDY, transfer: true })).text, text);
    assert.equal(bytes.length, 0);
  });

  it('a worker that ends rejects what is pending and what comes later', async () => {
    const pending = there.caption(IMAGE);
    ports.port2.close();
    const isLost = (error: unknown) => error instanceof BackendError && error.code === 'worker-lost';
    await assert.rejects(pending, isLost);
    await assert.rejects(there.caption(IMAGE), isLost);
    await assert.rejects(there.stream(IMAGE).next(), isLost);
  });
});

describe('errors as data', () => {
  it('come back with class, facts and cause', () => {
    const cause = new TypeError('fetch failed');
    const error = new WeightError({
      ...{ file: 'x.safetensors', path: 'a.b', offset: 3, code: 'misfit', detail: 'does not fit', cause },
      ...{ faults: [{ kind: 'missing', name: 'a.b', expected: [2] }], report: 'a.b is missing' },
    });
    const back = unpackError(structuredClone(packError(error))) as WeightError;
    assert.ok(back instanceof WeightError);
    assert.equal(back.message, error.message);
    for (const key of ['file', 'path', 'offset', 'code', 'detail', 'unsupported', 'report'] as const)
      assert.equal(back[key], error[key], key);
    assert.deepEqual(back.faults, error.faults);
    assert.deepEqual([(back.cause as Error).name, (back.cause as Error).message], ['TypeError', 'fetch failed']);
    assert.equal(unpackError(packError('a text')).message, 'a text');
    assert.equal(unpackError(packError(AbortSignal.abort().reason)).name, 'AbortError');
  });
});
