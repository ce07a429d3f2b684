import assert from 'node:assert/strict';
import { memory } from '@tensorflow/tfjs-core';
import { type Image2Text, type ImageToTextPipeline, type LoadEvent, loadImage2Text, pipeline } from '../../src/node.js';
import { pipeline as frontPipeline } from '../../src/pipeline/index.js';
import { fromDirectory } from '../../src/platform/node-files.js';
import { useBackend } from '../support/backends.js';
import { DEMO } from '../support/fixtures.js';
import { BOOK, loadDemo, MUG, refusal } from './support.js';

const LONG = { minNewTokens: 16, maxNewTokens: 18 };

/** Options in one case, the same in the other, and what they are to make a difference to. */
const ALIASES: readonly (readonly [snake: object, camel: object, base?: object])[] = [
  [{ max_new_tokens: 3 }, { maxNewTokens: 3 }],
  [{ max_length: 5 }, { maxLength: 5 }],
  [
    { min_new_tokens: 12, max_new_tokens: 14 },
    { minNewTokens: 12, maxNewTokens: 14 },
  ],
  [{ min_length: 12 }, { minLength: 12 }],
  [{ ...LONG, repetition_penalty: 9 }, { ...LONG, repetitionPenalty: 9 }, LONG],
  [{ ...LONG, no_repeat_ngram_size: 1 }, { ...LONG, noRepeatNgramSize: 1 }, LONG],
  [{ bad_words_ids: [[46]] }, { badWordsIds: [[46]] }],
  [
    { num_beams: 3, length_penalty: 2.5, early_stopping: true, num_return_sequences: 2 },
    { numBeams: 3, lengthPenalty: 2.5, earlyStopping: true, numReturnSequences: 2 },
  ],
  [
    { do_sample: true, temperature: 9, top_k: 40, top_p: 0.9, seed: 3 },
    { doSample: true, temperature: 9, topK: 40, topP: 0.9, seed: 3 },
  ],
];

describe('pipelines: options', () => {
  let model: Image2Text;
  let caption: ImageToTextPipeline;
  let tensors = 0;
  before(async () => {
    model = await loadDemo();
    tensors = memory().numTensors;
    caption = await pipeline('image-to-text', model);
  });
  afterEach(() => assert.equal(memory().numTensors, tensors, 'tensors leaked'));
  after(() => model.dispose());

  for (const [snake, camel, base] of ALIASES) {
    it(`${Object.keys(snake).join(', ')}: either case does the same, and something`, async () => {
      const said = await caption([BOOK, MUG], snake);
      assert.deepEqual(await caption([BOOK, MUG], camel), said);
      assert.notDeepEqual(said, await caption([BOOK, MUG], base));
    });
  }

  it('are the model’s own: greedy, beams and samples', async () => {
    const text = ({ text }: { text: string }) => [{ generated_text: text }];
    const greedy = await model.caption(BOOK, { strategy: 'greedy' });
    assert.deepEqual(await caption(BOOK), text(greedy));
    assert.deepEqual(
      await caption(BOOK, { do_sample: false, num_beams: 1, temperature: 1, top_k: 50, top_p: 1 }),
      text(greedy),
    );
    assert.deepEqual(await caption(BOOK, { max_new_tokens: null, num_beams: undefined }), text(greedy));
    const beams = await model.caption(MUG, { strategy: 'beam', numBeams: 2, lengthPenalty: 3 });
    assert.deepEqual(await caption(MUG, { num_beams: 2, length_penalty: 3 }), text(beams));
    const sample = await model.caption(MUG, { strategy: 'sample', temperature: 3, seed: 5 });
    assert.deepEqual(await caption(MUG, { do_sample: true, temperature: 3, seed: 5 }), text(sample));
  });

  const BAD: readonly (readonly [object, string])[] = [
    [{ num_beam: 4 }, 'num_beam: unknown-option'],
    [{ 'top\nk': 4 }, 'top\\nk: unknown-option'],
    [{ candidate_labels: ['a'] }, 'candidate_labels: unknown-option'],
    [{ max_new_tokens: 3, maxNewTokens: 3 }, 'maxNewTokens: given-twice'],
    [{ do_sample: true, num_beams: 2 }, 'do_sample: contradiction'],
    [{ do_sample: 'yes' }, 'do_sample: wrong-type'],
    [{ temperature: 0.5 }, 'temperature: contradiction'],
    [{ top_k: 5, num_beams: 2 }, 'topK: contradiction'],
    [{ seed: 1 }, 'seed: contradiction'],
    [{ length_penalty: 2 }, 'lengthPenalty: contradiction'],
    [{ early_stopping: true, do_sample: true }, 'earlyStopping: contradiction'],
    [{ num_return_sequences: 2 }, 'numReturnSequences: contradiction'],
    [{ num_return_sequences: 3, num_beams: 2 }, 'numReturnSequences: contradiction'],
    [{ strategy: 'beam', do_sample: true }, 'do_sample: contradiction'],
    [{ strategy: 'beams' }, 'strategy: unknown-strategy'],
    [{ num_beams: 0 }, 'numBeams: out-of-range'],
    [{ num_beams: 'two' }, 'numBeams: not-a-number'],
    [{ max_length: 9, max_new_tokens: 9 }, 'maxNewTokens: contradiction'],
    [{ max_new_tokens: 0 }, 'maxNewTokens: out-of-range'],
    [{ bad_words_ids: [[99999]] }, 'badWords[0][0]: not-a-token'],
    [{ prompt: 3 }, 'prompt: wrong-type'],
    [{ signal: 3 }, 'signal: wrong-type'],
    [{ batch_size: 0 }, 'batchSize: out-of-range'],
    [{ streamer: {} }, 'streamer: wrong-type'],
    [{ stopping_criteria: {} }, 'stopping_criteria: wrong-type'],
    [{ suppress_tokens: [3] }, 'suppress_tokens: unsupported-option'],
    [{ numBeamGroups: 2 }, 'numBeamGroups: unsupported-option'],
    [{ generation_config: { num_beam: 2 } }, 'num_beam: unknown-option'],
    [{ logits_processor: () => 0 }, 'logitsProcessors: wrong-type'],
    [{ bad_words_ids: [[1]], badWords: [[1]] }, 'badWords: given-twice'],
    [[3], 'options: not-an-object'],
    ['fast' as unknown as object, 'options: not-an-object'],
  ];
  for (const [options, said] of BAD) {
    it(`refuses ${JSON.stringify(options)}`, async () => {
      assert.equal(await refusal(() => caption(BOOK, options)), `OptionError ${said}`);
    });
  }

  it('refuses other tasks, questions and labels that are none', async () => {
    const odd = (task: string) => refusal(() => pipeline(task as 'vqa', model));
    assert.equal(await odd('text-generation'), 'OptionError task: unknown-task');
    assert.equal(await odd('constructor'), 'OptionError task: unknown-task');
    const ask = await pipeline('vqa', model);
    assert.equal(ask.task, 'visual-question-answering');
    const call = ask as (...inputs: unknown[]) => Promise<unknown>;
    assert.equal(await refusal(() => call(BOOK)), 'OptionError question: wrong-type');
    assert.equal(await refusal(() => call([BOOK], ['a', 'b'])), 'OptionError question: ambiguous');
    assert.equal(await refusal(() => call(BOOK, [3])), 'OptionError question: wrong-type');
    assert.equal(await refusal(() => call(BOOK, ' ')), 'OptionError question: empty');
    assert.equal(
      await refusal(() => call({ image: BOOK, video: BOOK, question: 'a' })),
      'OptionError question: wrong-type',
    );
    const classify = await pipeline('image-classification', model);
    assert.equal(await refusal(() => classify(BOOK)), 'OptionError candidate_labels: missing');
    assert.equal(await refusal(() => classify(BOOK, { candidate_labels: [] })), 'OptionError labels: empty');
    assert.equal(
      await refusal(() => classify(BOOK, { candidate_labels: ['a'], top_k: -1 })),
      'OptionError top_k: out-of-range',
    );
    assert.equal(await refusal(() => caption('no-such-file.png')), 'ImageError undefined: no-such-file');
  });

  it('of loading: checked, and refused for a model that is loaded', async () => {
    const load = (options: object) => refusal(() => pipeline('image-to-text', DEMO, options));
    assert.equal(await load({ signal: 3 }), 'OptionError signal: wrong-type');
    assert.equal(await load({ quantized: true }), 'OptionError quantized: unknown-option');
    assert.equal(await load({ dtype: 'q4' }), 'OptionError dtype: unsupported-dtype');
    assert.equal(await load({ dtype: 3 }), 'OptionError dtype: wrong-type');
    assert.equal(
      await load({ dtype: { encoder_model: 'fp32', decoder_model: 'q8' } }),
      'OptionError dtype: contradiction',
    );
    assert.equal(await load({ dtype: 'q8', weights: 'int8' }), 'OptionError dtype: contradiction');
    assert.equal(await load({ maxBatch: 0 }), 'OptionError maxBatch: out-of-range');
    assert.equal(await load({ session_options: { a: 1 } }), 'OptionError session_options: unsupported-option');
    assert.equal(await load({ subfolder: 'tflite' }), 'OptionError subfolder: unsupported-option');
    assert.equal(await load({ progress_callback: 3 }), 'OptionError progress_callback: wrong-type');
    assert.equal(await load({ device: 'wasm', backend: 'wasm' }), 'OptionError device: contradiction');
    assert.equal(await load({ device: 'abacus' }), 'BackendError abacus: unknown-backend');
    assert.equal(await load({ candidate_labels: ['a'] }), 'OptionError candidate_labels: contradiction');
    const again = await refusal(() => pipeline('image-to-text', model, { device: 'wasm' }));
    assert.equal(again, 'OptionError device: contradiction');
    const missing = await refusal(() => pipeline('image-to-text', './no-such-folder'));
    assert.equal(missing, 'ConfigError undefined: not-a-folder');
  });
});

describe('pipelines: loading and disposing', () => {
  before(() => useBackend('wasm'));

  it('from a folder, with events as transformers.js sends them; dispose frees what the pipeline loaded', async () => {
    const before = memory().numTensors;
    const events: LoadEvent[] = [];
    const caption = await pipeline('image-to-text', DEMO, {
      device: 'wasm',
      dtype: 'fp32',
      revision: 'main',
      local_files_only: true,
      cache_dir: 'unused',
      progress_callback: (event) => events.push(event),
    });
    const states = events.map(({ status }) => status);
    assert.equal(states[0], 'initiate');
    assert.deepEqual([...new Set(states)].sort(), ['done', 'initiate', 'progress', 'ready']);
    assert.deepEqual(events.at(-1), { status: 'ready', task: 'image-to-text', model: DEMO });
    assert.equal(states.filter((status) => status === 'ready').length, 1);
    assert.equal((await caption(BOOK))[0]!.generated_text, 'a red book with the title short');
    await caption.dispose();
    await caption.dispose();
    assert.equal(memory().numTensors, before);
    assert.equal(await refusal(() => caption(BOOK)), 'DisposedError undefined: pipeline-disposed');
  });

  it('a listener that throws ends the loading, and nothing stays', async () => {
    const before = memory().numTensors;
    const stop = new Error('enough');
    for (const status of ['progress', 'ready']) {
      const progress_callback = (event: LoadEvent) => {
        if (event.status === status) throw stop;
      };
      await assert.rejects(pipeline('image-to-text', DEMO, { progress_callback }), stop);
    }
    assert.equal(memory().numTensors, before);
  });

  it('a given model stays the caller’s; one model serves several pipelines', async () => {
    const model = await loadImage2Text(DEMO);
    const [one, two] = [await pipeline('image-to-text', model), await pipeline('vqa', model)];
    await one.dispose();
    assert.equal(await refusal(() => one(BOOK)), 'DisposedError undefined: pipeline-disposed');
    assert.equal((await two(BOOK, 'what is this?'))[0]!.answer, 'a book');
    model.dispose();
    assert.equal(await refusal(() => two(BOOK, 'what is this?')), 'DisposedError undefined: model-disposed');
  });

  it('of the entry point: files, and a registered backend', async () => {
    const files = await fromDirectory(DEMO);
    const caption = await frontPipeline('image-to-text', files, { device: 'wasm' });
    const bytes = await (await import('node:fs/promises')).readFile(BOOK);
    assert.equal((await caption(bytes))[0]!.generated_text, 'a red book with the title short');
    await caption.dispose();
    const load = (options: object) => refusal(() => frontPipeline('image-to-text', files, options));
    assert.equal(await load({ revision: 'v2' }), 'OptionError revision: contradiction');
  });
});
