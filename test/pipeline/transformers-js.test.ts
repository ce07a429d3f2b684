import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { memory } from '@tensorflow/tfjs-core';
import { type ChatMessage, type Image2Text, pipeline, StoppingCriteriaList } from '../../src/node.js';
import { useBackend } from '../support/backends.js';
import { DEMO, ROOT } from '../support/fixtures.js';
import { scratch } from '../support/folder.js';
import { BOOK, loadDemo, MUG, refusal } from './support.js';

/**
 * Examples from the documentation comments of @huggingface/transformers 4.3.2 (Apache-2.0, Hugging Face), src/pipelines/image-to-text.js,
 * zero-shot-image-classification.js, image-feature-extraction.js and document-question-answering.js, as they are there.
 */
const EXAMPLES = {
  captions: `import { pipeline } from '@huggingface/transformers';

const captioner = await pipeline('image-to-text', 'Xenova/vit-gpt2-image-captioning');
const url = 'https://huggingface.co/datasets/Xenova/transformers.js-docs/resolve/main/cats.jpg';
const output = await captioner(url);
`,
  labels: `import { pipeline } from '@huggingface/transformers';

const classifier = await pipeline('zero-shot-image-classification', 'Xenova/clip-vit-base-patch32');
const url = 'https://huggingface.co/datasets/Xenova/transformers.js-docs/resolve/main/tiger.jpg';
const output = await classifier(url, ['tiger', 'horse', 'dog']);
`,
  features: `import { pipeline } from '@huggingface/transformers';

const image_feature_extractor = await pipeline('image-feature-extraction', 'onnx-community/dinov3-vits16-pretrain-lvd1689m-ONNX');
const image = 'https://huggingface.co/datasets/huggingface/documentation-images/resolve/main/cats.png';
const output = await image_feature_extractor(image);
`,
  document: `import { pipeline } from '@huggingface/transformers';

const qa_pipeline = await pipeline('document-question-answering', 'Xenova/donut-base-finetuned-docvqa');
const image = 'https://huggingface.co/datasets/Xenova/transformers.js-docs/resolve/main/invoice.png';
const question = 'What is the invoice number?';
const output = await qa_pipeline(image, question);
`,
} as const;

/** A function whose call goes to `_call`: how transformers.js makes its criteria. Stands for its classes, which need onnxruntime to install. */
function callable<T extends object>(call: (ids: bigint[][]) => boolean[], members: T) {
  return Object.assign((ids: bigint[][]) => call(ids), members);
}

describe('pipelines: code written for transformers.js', () => {
  const path = scratch();
  const { fetch } = globalThis;
  let model: Image2Text;
  before(async () => {
    model = await loadDemo();
    globalThis.fetch = async () => new Response(readFileSync(BOOK));
  });
  after(() => {
    globalThis.fetch = fetch;
    model.dispose();
  });

  /** Runs an example with another import and another name of the model. */
  async function run(name: keyof typeof EXAMPLES): Promise<unknown> {
    await useBackend('wasm');
    const code = EXAMPLES[name]
      .replace('@huggingface/transformers', pathToFileURL(`${ROOT}src/node.ts`).href)
      .replace(/(pipeline\('[^']+', )'[^']+'/, '$1"demo"');
    const file = path(`${name}.mjs`);
    writeFileSync(file, `${code}export { output };\n`);
    return ((await import(pathToFileURL(file).href)) as { output: unknown }).output;
  }

  it('image-to-text: the example gives [{ generated_text }]', async () => {
    assert.deepEqual(await run('captions'), [{ generated_text: 'a red book with the title short' }]);
  });

  it('zero-shot-image-classification: the example gives all labels with their scores, best first', async () => {
    const output = (await run('labels')) as { label: string; score: number }[];
    assert.deepEqual(output.map(({ label }) => label).sort(), ['dog', 'horse', 'tiger']);
    assert.ok(output.every(({ score }, n) => score > 0 && (n === 0 || score <= output[n - 1]!.score)));
    assert.ok(Math.abs(output.reduce((sum, { score }) => sum + score, 0) - 1) < 1e-6);
  });

  it('image-feature-extraction: the example gives a tensor { dims, type, data, size }', async () => {
    const { dims, type, data, size } = (await run('features')) as {
      dims: number[];
      type: string;
      data: object;
      size: number;
    };
    assert.deepEqual(dims, [1, 65, 128]); // 96 / 12 squared and the class token
    assert.deepEqual([type, size], ['float32', 65 * 128]);
    assert.ok(data instanceof Float32Array && data.length === size);
  });

  it('document-question-answering: the example gives [{ answer }]', async () => {
    const [first, ...others] = (await run('document')) as object[];
    assert.deepEqual([Object.keys(first!), others.length], [['answer'], 0]);
  });

  it('zero-shot-image-classification: a template, lists, and what is refused', async () => {
    const classify = await pipeline('zero-shot-image-classification', model);
    const rows = await classify([BOOK, MUG], ['red book', 'blue mug'], { hypothesis_template: 'a {}' });
    assert.deepEqual(
      rows.map(([first]) => first!.label),
      ['red book', 'blue mug'],
    );
    const direct = await model.classify(BOOK, ['a red book', 'a blue mug']);
    assert.deepEqual(
      rows[0]!.map(({ score }) => score),
      direct.map(({ probability }) => probability),
    );
    assert.equal(
      await refusal(() => classify(BOOK, ['a'], { hypothesis_template: 'x' })),
      'OptionError hypothesis_template: wrong-type',
    );
  });

  it('image-feature-extraction: pooled, of several images, as lists', async () => {
    const extract = await pipeline('image-feature-extraction', model);
    const pooled = await extract([BOOK, MUG], { pool: true });
    assert.deepEqual(pooled.dims, [2, 128]);
    const mug = await model.embed(MUG, { pool: 'class' });
    assert.deepEqual((pooled.tolist() as number[][])[1], [...mug.data]);
  });

  it('image-text-to-text: chats as transformers 5 writes them', async () => {
    const ask = await pipeline('image-text-to-text', model);
    const base64 = readFileSync(BOOK).toString('base64');
    const forms = [
      { image: BOOK },
      { url: BOOK },
      { path: BOOK },
      { base64 },
      { url: `data:image/png;base64,${base64}` },
    ];
    for (const form of forms) {
      const chat: ChatMessage[] = [
        {
          role: 'user',
          content: [
            { type: 'image', ...form },
            { type: 'text', text: 'what is this?' },
          ],
        },
      ];
      const answer: ChatMessage = { role: 'assistant', content: 'a book' };
      assert.deepEqual(await ask(chat), [{ input_text: chat, generated_text: [...chat, answer] }]);
      assert.deepEqual(await ask([chat], { return_full_text: false }), [
        [{ input_text: chat, generated_text: 'a book' }],
      ]);
      const begun: ChatMessage = { role: 'assistant', content: [{ type: 'text', text: 'a' }] };
      const [longer] = await ask([...chat, begun]);
      assert.deepEqual(longer!.generated_text, [
        ...chat,
        { role: 'assistant', content: [{ type: 'text', text: 'a book' }] },
      ]);
    }
    const [plain] = await ask(BOOK, 'what is this?');
    assert.deepEqual(plain, { input_text: 'what is this?', generated_text: 'what is this? a book' });
    const chat: ChatMessage[] = [{ role: 'user', content: [{ type: 'image', image: BOOK }] }];
    assert.deepEqual(await ask(chat, { return_full_text: false, max_length: 20 }), [
      { input_text: chat, generated_text: 'a red book with the title short' },
    ]);
    const none: ChatMessage[] = [{ role: 'user', content: 'hello' }];
    assert.equal(await refusal(() => ask(none)), 'OptionError images: missing');
  });

  it('criteria made as transformers.js makes them, and ours, end texts of every search', async () => {
    const caption = await pipeline('image-to-text', model);
    const rows: bigint[][] = [];
    const short = callable(
      (ids) => {
        rows.push(...ids);
        return ids.map((row) => row.length >= 4);
      },
      { name_: 'short' },
    );
    const theirs = Object.assign(() => [false], { criteria: [short], [Symbol.iterator]: () => [short].values() });
    const ours = new StoppingCriteriaList();
    ours.extend([short]);
    for (const stopping_criteria of [short, [short], theirs, ours]) {
      assert.deepEqual(await caption(BOOK, { stopping_criteria }), [{ generated_text: 'a red book' }]);
    }
    assert.ok(rows.every((row) => row[0] === 2n));
    const [beam] = await caption(BOOK, { stopping_criteria: short, num_beams: 2 });
    assert.equal(beam!.generated_text.split(' ').length, 3);
  });

  it('a streamer that decodes by itself, as transformers.js’s TextStreamer does, gets the text', async () => {
    const caption = await pipeline('image-to-text', model);
    const special = new Set(caption.tokenizer.all_special_ids.map(BigInt));
    const ids: bigint[] = [];
    let text = '';
    const streamer = {
      put([row]: bigint[][]) {
        ids.push(...row!.filter((id) => !special.has(id)));
      },
      end() {
        text = caption.tokenizer.decode(ids, { skip_special_tokens: true });
      },
    };
    await caption(BOOK, { streamer });
    assert.equal(text, 'a red book with the title short');
  });

  it('generation_config.json chooses the search, the call wins; neutral options are accepted', async () => {
    const withConfig = (strategy: 'beam' | 'sample', options: object) =>
      pipeline('image-to-text', {
        ...model,
        generationConfig: { strategy, options, eosTokenIds: undefined },
      } as Image2Text);
    const greedy = await (await pipeline('image-to-text', model))(MUG);
    const beams = await withConfig('beam', { numBeams: 3 });
    const expected = await model.caption(MUG, { strategy: 'beam', maxLength: 20 });
    assert.deepEqual(await beams(MUG), [{ generated_text: expected.text }]);
    assert.deepEqual(await beams(MUG, { num_beams: 1 }), greedy);
    assert.equal(await refusal(() => beams(MUG, { do_sample: true })), 'OptionError do_sample: contradiction');
    const samples = await withConfig('sample', {});
    const sampled = await model.caption(MUG, { strategy: 'sample', temperature: 4 });
    assert.deepEqual(await samples(MUG, { temperature: 4 }), [{ generated_text: sampled.text }]);
    const caption = await pipeline('image-to-text', model);
    const neutral = { use_cache: true, num_beam_groups: 1, diversity_penalty: 0, typical_p: 1, pad_token_id: 0 };
    assert.deepEqual(await caption(MUG, { ...neutral, generation_config: { do_sample: false } } as object), greedy);
  });

  it('dtype and device are mapped, options of ONNX files accepted where they say nothing', async () => {
    await useBackend('simd');
    const before = memory().numTensors;
    for (const dtype of ['fp32', 'fp16', 'bf16', 'q8', 'auto', { encoder_model: 'q8', decoder_model_merged: 'q8' }]) {
      const caption = await pipeline('image-to-text', DEMO, {
        dtype: dtype as 'q8',
        device: 'simd',
        session_options: {},
        use_external_data_format: false,
        subfolder: 'onnx',
        config: null,
        model_file_name: null,
      });
      assert.equal((await caption(BOOK))[0]!.generated_text, 'a red book with the title short', String(dtype));
      await caption.dispose();
    }
    assert.equal(memory().numTensors, before);
    await useBackend('wasm');
  });
});
