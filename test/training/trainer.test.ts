import assert from 'node:assert/strict';
import { backend, memory } from '@tensorflow/tfjs-core';
import type { SimdBackend } from 'tfjs-backend-simd';
import { fromBytes } from '../../src/checkpoint/byte-source.js';
import { readSafetensors } from '../../src/checkpoint/safetensors.js';
import type { Image2Text } from '../../src/image2text/image2text.js';
import { createImage2Text } from '../../src/image2text/image2text.js';
import { loadImage2Text } from '../../src/image2text/load.js';
import { namedParameters } from '../../src/model/git.js';
import {
  disposeAdapter,
  loadAdapter,
  memoryFolder,
  saveModel,
  type TrainingEvent,
  type TrainingOptions,
  type TrainingResult,
  train,
} from '../../src/training/index.js';
import { adapterParameters } from '../../src/training/lora.js';
import { useBackend } from '../support/backends.js';
import { DEMO, readBin } from '../support/fixtures.js';
import { FULL } from '../support/full.js';
import { examplePairs, loadDemo, numbersOf } from './support.js';

const GREEDY = { strategy: 'greedy', maxLength: 20 } as const;

describe('train', () => {
  let model: Image2Text;
  before(async () => {
    await useBackend('simd');
    model = await loadDemo();
  });
  after(() => model.dispose());

  const learned = async (result: TrainingResult) =>
    numbersOf(result.adapter === undefined ? namedParameters(result.git!) : adapterParameters(result.adapter));

  it('learns by LoRA what it is shown; the model itself says what it said before', async () => {
    const pairs = examplePairs(4);
    const before = await model.caption(
      pairs.map(({ image }) => image as Uint8Array),
      GREEDY,
    );
    const tensors = memory().numTensors;
    const result = await train(model, pairs, {
      ...{ lora: {}, steps: 60, batchSize: 4, learningRate: 5e-3, labelSmoothing: 0, validation: pairs },
    });
    assert.equal(result.validation!.exactMatch, 1);
    assert.ok(result.validation!.loss < 0.1, `${result.validation!.loss}`);
    const during = await model.caption(
      pairs.map(({ image }) => image as Uint8Array),
      GREEDY,
    );
    assert.deepEqual(
      during.map(({ text }) => text),
      before.map(({ text }) => text),
    );
    model.useAdapter(result.adapter!);
    const after = await model.caption(
      pairs.map(({ image }) => image as Uint8Array),
      GREEDY,
    );
    assert.deepEqual(
      after.map(({ text }) => text),
      pairs.map(({ text }) => text),
    );
    model.useAdapter(undefined);
    const back = await model.caption(
      pairs.map(({ image }) => image as Uint8Array),
      GREEDY,
    );
    assert.deepEqual(back, before);
    result.dispose();
    assert.equal(memory().numTensors, tensors);
  });

  const STEPS = FULL ? 500 : 50;
  it(`${STEPS} steps leave no tensor behind`, async () => {
    const tensors = memory().numTensors;
    const [counts, bytes]: [number[], number[]] = [[], []];
    const result = await train(model, examplePairs(2), {
      ...{
        lora: { rank: 1 },
        steps: STEPS,
        batchSize: 1,
        recompute: true,
        validateEvery: STEPS / 2,
        validation: examplePairs(1),
      },
      onEvent: (event) => {
        if (event.type !== 'step') return;
        counts.push(memory().numTensors);
        bytes.push((backend() as SimdBackend).memory().simdBytesInUse);
      },
    });
    assert.equal(counts.length, STEPS);
    assert.deepEqual([...new Set(counts.slice(1))], [counts[1]!]);
    assert.deepEqual([...new Set(bytes.slice(1))], [bytes[1]!]);
    result.dispose();
    assert.equal(memory().numTensors, tensors);
  });

  const RUNS: Readonly<Record<string, TrainingOptions>> = {
    LoRA: { lora: { rank: 2 }, steps: 7, batchSize: 2, accumulate: 2, seed: 3, saveEvery: 2, validateEvery: 3 },
    weights: { steps: 5, batchSize: 3, seed: 4, saveEvery: 2, augment: true, learningRate: 1e-4, validateEvery: 2 },
    'weights and vision tower': {
      steps: 4,
      batchSize: 2,
      trainVision: true,
      saveEvery: 1,
      learningRate: 1e-4,
      validateEvery: 2,
    },
  };
  for (const [name, options] of Object.entries(RUNS)) {
    it(`${name}: a run that is killed ends with the same bits`, async () => {
      const pairs = examplePairs(5);
      const whole = memoryFolder();
      const run = { ...options, validation: pairs.slice(0, 2) };
      const straight = await train(model, pairs, { ...run, folder: whole });
      const expected = await learned(straight);
      straight.dispose();
      for (const stopAt of FULL ? [1, 2, options.steps! - 1] : [2]) {
        const folder = memoryFolder();
        const tensors = memory().numTensors;
        const stop = new AbortController();
        const killed = train(model, pairs, {
          ...{ ...run, folder, signal: stop.signal },
          onEvent: (event) => {
            if (event.type === 'step' && event.step === stopAt) stop.abort(new Error('killed'));
          },
        });
        await assert.rejects(killed, /killed/);
        assert.equal(memory().numTensors, tensors);
        const resumed = await train(model, pairs, { ...run, folder, resume: true });
        assert.deepEqual(await learned(resumed), expected);
        resumed.dispose();
        const file = options.lora === undefined ? 'last/model.safetensors' : 'last/adapter_model.safetensors';
        assert.deepEqual(folder.files.get(file), whole.files.get(file));
        assert.deepEqual(stepsOf(folder.files.get('log.jsonl')!), stepsOf(whole.files.get('log.jsonl')!));
        assert.equal(memory().numTensors, tensors);
      }
    });
  }

  it('refuses to go on with another run, and to write over one', async () => {
    const folder = memoryFolder();
    const options = { lora: { rank: 1 }, steps: 2, batchSize: 1, folder };
    (await train(model, examplePairs(2), options)).dispose();
    const tensors = memory().numTensors;
    const code = async (promise: Promise<unknown>) =>
      promise.then(
        () => 'done',
        (error: { code: string; path: string }) => `${error.code} ${error.path}`,
      );
    assert.equal(await code(train(model, examplePairs(2), options)), 'folder-in-use folder');
    assert.equal(await code(train(model, examplePairs(3), { ...options, resume: true })), 'resume-differs pairs');
    assert.equal(
      await code(train(model, examplePairs(2), { ...options, resume: true, labelSmoothing: 0 })),
      'resume-differs labelSmoothing',
    );
    assert.equal(await code(train(model, [], {})), 'no-pairs pairs');
    assert.equal(await code(train(model, examplePairs(1), { steps: 1.5 })), 'not-an-integer steps');
    assert.equal(
      await code(train(model, examplePairs(1), { lora: {}, trainVision: true })),
      'contradiction trainVision',
    );
    assert.equal(
      await code(train(model, examplePairs(1), { lora: { targets: ['nothing'] } })),
      'unknown-target targets',
    );
    assert.equal(await code(train(model, examplePairs(1), { freeze: ['git', 'output'] })), 'nothing-to-train freeze');
    assert.equal(
      await code(train(model, [{ image: new Uint8Array(3), text: 'a mug' }], { steps: 1 })),
      'no-images pairs',
    );
    assert.equal(memory().numTensors, tensors);
  });

  it('features of a frozen tower are kept in files for later runs, with the same bits, and a broken file is written again', async () => {
    const features = memoryFolder('features');
    const options = { lora: { rank: 1 }, steps: 3, batchSize: 2 };
    const bits = async (more: TrainingOptions) => {
      const tensors = memory().numTensors;
      const result = await train(model, examplePairs(4), { ...options, ...more });
      const found = await learned(result);
      result.dispose();
      assert.equal(memory().numTensors, tensors);
      return found;
    };
    const expected = await bits({});
    assert.deepEqual(await bits({ featureFolder: features }), expected);
    const names = [...features.files.keys()];
    assert.equal(names.length, 4);
    const writes: string[] = [];
    const watched = {
      ...features,
      write: async (name: string, pieces: AsyncIterable<Uint8Array>) => {
        writes.push(name);
        await features.write(name, pieces);
      },
    };
    assert.deepEqual(await bits({ featureFolder: watched, featureCacheBytes: 0 }), expected);
    assert.deepEqual(writes, []); // none was encoded again
    features.files.set(names[0]!, features.files.get(names[0]!)!.slice(0, 9));
    assert.deepEqual(await bits({ featureFolder: watched }), expected);
    assert.deepEqual(writes, [names[0]]);
    await assert.rejects(bits({ featureFolder: features, augment: true }), /contradiction/);
    const failing = { ...features, write: async () => Promise.reject(new Error('disk full')) };
    features.files.clear();
    await assert.rejects(bits({ featureFolder: failing }), /disk full/);
  });

  it('refuses before the first step what cannot be written at the end', async () => {
    const { git, tokenizer, imageConfig } = model;
    const bare = createImage2Text(git, tokenizer, imageConfig);
    const events: TrainingEvent[] = [];
    const run = train(bare, examplePairs(1), {
      ...{ steps: 1, folder: memoryFolder() },
      onEvent: (event) => events.push(event),
    });
    await assert.rejects(run, /folder: no-files: the model was made of parts/);
    assert.deepEqual(
      events.filter(({ type }) => type === 'step'),
      [],
    );
  });

  it('bad pairs are reported with where they are, and skipped', async () => {
    const events: TrainingEvent[] = [];
    const [good] = examplePairs(1);
    const pairs = [
      good!,
      { image: new Uint8Array([1, 2, 3]), text: 'a mug', source: 'list.jsonl line 2' },
      { ...good!, text: ' ', source: 'list.jsonl line 3' },
      Object.assign(new Error('no JSON'), { source: 'x' }),
      { ...good!, prompt: 'a', question: 'b', source: 'list.jsonl line 5' },
    ];
    const result = await train(model, pairs, {
      lora: {},
      steps: 3,
      batchSize: 2,
      onEvent: (event) => events.push(event),
    });
    result.dispose();
    const skipped = events.flatMap((event) => (event.type === 'skipped' ? [event.source] : []));
    assert.deepEqual(skipped.sort(), ['list.jsonl line 2', 'list.jsonl line 3', 'list.jsonl line 5', 'pair 4']);
  });

  it('warns early of what people ask about', async () => {
    const codes = async (pairs: Parameters<typeof train>[1], options: TrainingOptions) => {
      const found = new Set<string>();
      const result = await train(model, pairs, {
        ...options,
        onEvent: (event) => {
          if (event.type === 'warning') found.add(event.code);
        },
      });
      result.dispose();
      return [...found].sort();
    };
    const pairs = examplePairs(8);
    const apart = examplePairs(2); // other objects
    assert.deepEqual(await codes(pairs, { lora: {}, steps: 1, validation: apart }), []);
    assert.deepEqual(await codes(pairs, { lora: {}, steps: 1, validation: pairs.slice(0, 2) }), ['validation-learned']);
    assert.deepEqual(await codes(pairs, { lora: {}, steps: 1 }), ['no-validation']);
    assert.deepEqual(await codes(pairs, { lora: {}, steps: 1, learningRate: 1, validation: apart }), ['learning-rate']);
    assert.deepEqual(await codes(pairs, { lora: {}, steps: 1, maxTokens: 2, validation: apart }), ['pairs-cut']);
    const long = pairs.map((pair, n) => ({ ...pair, text: `a red sign says ${n % 2 === 0 ? 'dog' : 'old'}` }));
    assert.deepEqual(await codes(long, { lora: {}, steps: 1, validation: apart.slice(0, 1) }), ['prompt-in-text']);
    const forced = pairs.map(({ image }) => ({ image, text: 'a red book' }));
    const held = pairs.slice(0, 4);
    assert.ok(
      (await codes(forced, { lora: {}, steps: 60, learningRate: 9e-3, validation: held })).includes('same-caption'),
    );
  });

  it('writes what was not trained as it was, bit for bit', async () => {
    const folder = memoryFolder();
    await saveModel(model, folder);
    for (const name of [
      'config.json',
      'model.safetensors',
      'vocab.txt',
      'tokenizer_config.json',
      'preprocessor_config.json',
      'generation_config.json',
    ])
      assert.deepEqual(folder.files.get(name), readBin(`${DEMO}${name}`), name);
    const again = await loadImage2Text(folder);
    const image = examplePairs(1)[0]!.image as Uint8Array;
    assert.deepEqual(await again.caption(image, GREEDY), await model.caption(image, GREEDY));
    again.dispose();
  });

  it('an adapter is saved and loaded in the names of PEFT, and gives exactly what merged weights give', async () => {
    const folder = memoryFolder();
    const pairs = examplePairs(3);
    const result = await train(model, pairs, { lora: { rank: 3, alpha: 5 }, steps: 5, learningRate: 5e-3, folder });
    const bytes = folder.files.get('last/adapter_model.safetensors')!;
    const { tensors } = await readSafetensors(fromBytes(bytes), 'adapter');
    assert.ok(tensors.has('base_model.model.git.encoder.layer.0.attention.self.query.lora_A.weight'));
    assert.deepEqual(
      tensors.get('base_model.model.git.encoder.layer.2.attention.self.value.lora_B.weight')!.shape,
      [128, 3],
    );
    const files = { label: 'last', open: (name: string) => folder.open(`last/${name}`) };
    const adapter = await loadAdapter(files, model);
    assert.deepEqual(await numbersOf(adapterParameters(adapter)), await numbersOf(adapterParameters(result.adapter!)));
    model.useAdapter(adapter);
    disposeAdapter(adapter);
    const merged = memoryFolder();
    await saveModel(model, merged);
    const { image } = pairs[0]!;
    const adapted = await model.score(image as Uint8Array, ['a red book', 'a blue mug']);
    for (const wrong of ['run/best', null, {}, files])
      assert.throws(() => model.useAdapter(wrong as never), {
        name: 'OptionError',
        code: 'wrong-type',
        path: 'adapter',
      });
    model.useAdapter(undefined);
    const own = await model.score(image as Uint8Array, ['a red book', 'a blue mug']);
    const loaded = await loadImage2Text(merged);
    assert.deepEqual(await loaded.score(image as Uint8Array, ['a red book', 'a blue mug']), adapted);
    assert.notDeepEqual(own, adapted);
    loaded.dispose();
    result.dispose();
  });

  it('calls in flight keep the weights that they started with, and their tensors are freed after them', async () => {
    const pairs = examplePairs(2);
    const result = await train(model, pairs, { lora: {}, steps: 40, learningRate: 5e-3, labelSmoothing: 0 });
    const image = pairs[0]!.image as Uint8Array;
    const own = await model.caption(image, GREEDY);
    const tensors = memory().numTensors;
    const flying = model.caption(image, GREEDY);
    model.useAdapter(result.adapter);
    const adapted = model.caption(image, GREEDY);
    model.useAdapter(undefined);
    assert.deepEqual(await flying, own);
    assert.equal((await adapted).text, 'a red book');
    assert.equal(memory().numTensors, tensors);
    result.dispose();
  });
});

const stepsOf = (log: Uint8Array): unknown[] =>
  new TextDecoder()
    .decode(log)
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as TrainingEvent)
    .flatMap((event) => (event.type === 'step' ? [{ ...event, seconds: 0 }] : []));
