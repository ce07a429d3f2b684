import assert from 'node:assert/strict';
import { memory } from '@tensorflow/tfjs-core';
import {
  frames,
  type Image2Text,
  type ImageClassificationPipeline,
  type ImageToTextPipeline,
  pipeline,
  type ScoredAnswer,
  type VideoToTextPipeline,
  type VisualQuestionAnsweringPipeline,
  video,
} from '../../src/node.js';
import { expectClose } from '../support/close.js';
import { DEMO, EXAMPLES, ROOT, readJson } from '../support/fixtures.js';
import { BOOK, loadDemo, MUG, TOWER, VIDEO } from './support.js';

interface Expected {
  readonly images: readonly {
    readonly file: string;
    readonly greedy: { text: string };
    readonly hf_beam4: { text: string };
    readonly original_beam: { text: string };
    readonly answers: readonly { question: string; answer: string; token_logprobs: number[] }[];
  }[];
  readonly videos: readonly { readonly frames: string; readonly greedy: { text: string } }[];
}
const expected = readJson<Expected>(`${DEMO}expected.json`);
const images = expected.images.slice(0, 4);
const paths = images.map(({ file }) => `${ROOT}${file}`);

describe('pipelines: inputs and results of transformers.js', () => {
  let model: Image2Text;
  let caption: ImageToTextPipeline;
  let ask: VisualQuestionAnsweringPipeline;
  let watch: VideoToTextPipeline;
  let classify: ImageClassificationPipeline;
  let tensors = 0;
  before(async () => {
    model = await loadDemo();
    tensors = memory().numTensors;
    caption = await pipeline('image-to-text', model);
    ask = await pipeline('visual-question-answering', model);
    watch = await pipeline('video-to-text', model);
    classify = await pipeline('image-classification', model);
  });
  afterEach(() => assert.equal(memory().numTensors, tensors, 'tensors leaked'));
  after(() => model.dispose());

  it('have task, model and tokenizer', () => {
    assert.equal(typeof caption, 'function');
    assert.deepEqual(
      [caption, ask, watch, classify].map(({ task }) => task),
      ['image-to-text', 'visual-question-answering', 'video-to-text', 'image-classification'],
    );
    assert.equal(caption.model, model);
    assert.equal(caption.tokenizer.vocabSize, model.tokenizer.vocabSize);
    assert.equal(caption.tokenizer.decode([2n, 5n, 3n], { skip_special_tokens: true }), model.tokenizer.decode([5]));
    assert.deepEqual(
      caption.tokenizer.batch_decode([[5], [6n]]),
      [5, 6].map((id) => model.tokenizer.decode([id])),
    );
  });

  it('image-to-text: an image gives [{ generated_text }], a list of them a list of those, greedily as transformers 4.40', async () => {
    const texts = images.map(({ greedy }) => [{ generated_text: greedy.text }]);
    assert.deepEqual(await caption(paths[0]!), texts[0]);
    assert.deepEqual(await caption(paths), texts);
    assert.deepEqual(await caption([paths[0]!]), [texts[0]]);
    assert.deepEqual(await caption([]), []);
  });

  it('image-to-text: num_beams is Hugging Face’s beam search, strategy names the original’s', async () => {
    const beams = await caption(paths, { num_beams: 4 });
    assert.deepEqual(
      beams,
      images.map(({ hf_beam4 }) => [{ generated_text: hf_beam4.text }]),
    );
    const original = await caption(paths, { strategy: 'original', maxLength: 20 });
    assert.deepEqual(
      original,
      images.map(({ original_beam }) => [{ generated_text: original_beam.text }]),
    );
  });

  it('image-to-text: num_return_sequences gives as many texts, and a batch those of its single runs', async () => {
    for (const options of [
      { num_beams: 3, num_return_sequences: 3 },
      { do_sample: true, temperature: 1.5, num_return_sequences: 3, seed: 7 },
    ]) {
      const together = await caption(paths, options);
      assert.ok(together.every((texts) => texts.length === 3));
      const alone = [];
      for (const path of paths) alone.push(await caption(path, options));
      assert.deepEqual(together, alone);
    }
  });

  it('image-to-text: a prompt is part of the text, as in Python', async () => {
    const [text] = await caption(BOOK, { prompt: 'a red' });
    assert.deepEqual(text, { generated_text: 'a red book with the title short' });
    assert.deepEqual(await caption([BOOK, MUG], { prompt: 'a' }), [await caption(BOOK), await caption(MUG)]);
  });

  it('visual-question-answering: [{ answer, score }], score the mean probability of its tokens', async () => {
    const { file, answers } = images[0]!;
    for (const { question, answer, token_logprobs } of answers) {
      const [found, ...others] = await ask(`${ROOT}${file}`, question);
      assert.deepEqual([found!.answer, others], [answer, []]);
      const mean = Math.exp(token_logprobs.reduce((a, b) => a + b, 0) / token_logprobs.length);
      expectClose([found!.score], [mean], 1e-4, 'score');
      assert.deepEqual(Object.keys(found!).sort(), ['answer', 'score']);
    }
  });

  it('visual-question-answering: every form of images and questions', async () => {
    const questions = ['what is this?', 'what color is the book?'] as const;
    const [what, color] = [await ask(BOOK, questions[0]), await ask(BOOK, questions[1])];
    const mug = await ask(MUG, questions[0]);
    assert.notEqual(what[0]!.answer, mug[0]!.answer);
    const same = (found: ScoredAnswer[][], ...wanted: ScoredAnswer[][]) => {
      const answers = (rows: ScoredAnswer[][]) => rows.map((row) => row.map(({ answer }) => answer));
      const scores = (rows: ScoredAnswer[][]) => rows.flat().map(({ score }) => score);
      assert.deepEqual(answers(found), answers(wanted));
      expectClose(scores(found), scores(wanted), 1e-6, 'scores of a batch and of single runs');
    };
    assert.deepEqual(await ask({ image: BOOK, question: questions[0] }), what);
    same(await ask(BOOK, questions), what, color);
    same(await ask([BOOK, MUG], questions[0]), what, mug);
    const pairs = [
      { image: BOOK, question: questions[0] },
      { image: MUG, question: questions[0] },
      { image: BOOK, question: questions[1] },
    ];
    same(await ask(pairs), what, mug, color);
    assert.deepEqual(await ask([]), []);
    const [several] = await ask([pairs[0]!], { num_beams: 3, num_return_sequences: 2 });
    assert.equal(several!.length, 2);
  });

  it('visual-question-answering: an image is encoded once for all its questions, listeners receive rows of the whole call', async () => {
    let encoded = 0;
    const rows = new Set<number>();
    const questions = Array.from({ length: 30 }, (_, n) => ({
      image: n % 2 === 0 ? BOOK : MUG,
      question: 'what is this?',
    }));
    const trace = (name: string) => {
      if (name === 'vision.embeddings') encoded++;
    };
    const found = await ask(questions, { trace, onToken: ({ row }) => void rows.add(row) });
    assert.deepEqual([found.length, encoded, rows.size], [30, 2, 30]);
    assert.ok(found.every(([first], n) => first!.answer === (n % 2 === 0 ? 'a book' : 'a mug')));
  });

  it('visual-question-answering: a question longer than 20 tokens still gets an answer', async () => {
    const long = `what is this ${'this '.repeat(25)}?`;
    const [found] = await ask(BOOK, long);
    assert.ok(found!.answer.length > 0);
    const tight = await ask(BOOK, 'what is this?', { max_new_tokens: 1 });
    assert.equal(tight[0]!.answer.split(' ').length, 1);
  });

  it('video-to-text: GIFs, folders and frames, and questions about videos', async () => {
    const texts = expected.videos.map(({ greedy }) => [{ generated_text: greedy.text }]);
    const folders = expected.videos.map(({ frames }) => `${ROOT}${frames}`);
    assert.deepEqual(await watch(folders), texts);
    assert.deepEqual(await watch(folders[0]!), texts[0]);
    const list = frames([1, 2, 3, 4, 5, 6].map((n) => `${EXAMPLES}video-1/frame-${n}.png`));
    assert.deepEqual(await watch([list, VIDEO]), [texts[0], await watch(VIDEO)]);
    const [answer] = await ask({ video: VIDEO, question: 'what is this?' });
    const direct = await model.answer(video(VIDEO), 'what is this?', { strategy: 'greedy', maxNewTokens: 20 });
    assert.deepEqual(answer, { answer: direct.text, score: direct.confidence });
  });

  it('image-classification: [{ label, score }] by candidate_labels and top_k', async () => {
    const names = ['a red book', 'a blue mug', 'a dog', 'a white sign', 'a phone', 'a shirt', 'a bottle'];
    const all = await classify(BOOK, { candidate_labels: names, top_k: 0 });
    assert.deepEqual(all, await classify(BOOK, { candidate_labels: names, top_k: null }));
    expectClose([all.reduce((sum, { score }) => sum + score, 0)], [1], 1e-6, 'sum of scores');
    assert.deepEqual([all.length, all[0]!.label], [7, 'a red book']);
    assert.deepEqual(await classify(BOOK, { candidateLabels: names }), all.slice(0, 5));
    const preset = await pipeline('image-classification', model, { candidate_labels: names });
    const best = await preset([BOOK, MUG, TOWER], { topK: 1 });
    assert.deepEqual(
      best.map(([first]) => first!.label),
      ['a red book', 'a blue mug', 'a white sign'],
    );
    assert.deepEqual(best[0], all.slice(0, 1));
    assert.deepEqual(await preset(BOOK, { method: 'greedy' }), [{ label: 'a red book', score: 1 }]);
  });
});
