import assert from 'node:assert/strict';
import { memory } from '@tensorflow/tfjs-core';
import {
  type Image2Text,
  type ImageToTextPipeline,
  InterruptableStoppingCriteria,
  pipeline,
  TextStreamer,
  type VisualQuestionAnsweringPipeline,
} from '../../src/node.js';
import { FULL } from '../support/full.js';
import { BOOK, loadDemo, MUG, refusal } from './support.js';

/** Options that make the model write 30 tokens. */
const LONG = { min_new_tokens: 30, max_new_tokens: 30 } as const;

/** A streamer that keeps what it receives. */
function recorder(model: Image2Text, options: object = {}) {
  const pieces: string[] = [];
  const ids: bigint[][] = [];
  const streamer = new TextStreamer(model.tokenizer, {
    callback_function: (text) => pieces.push(text),
    token_callback_function: (tokens) => ids.push(tokens),
    ...options,
  });
  return { streamer, pieces, ids };
}

/** A listener of the model that calls `then` when it decodes its `n`-th step. */
function atStep(n: number, then: () => void) {
  const count = { steps: 0 };
  const trace = (name: string) => {
    if (name === 'text.embeddings' && ++count.steps === n) then();
  };
  return { count, trace };
}

describe('pipelines: streaming, interrupting, canceling', () => {
  let model: Image2Text;
  let caption: ImageToTextPipeline;
  let ask: VisualQuestionAnsweringPipeline;
  let tensors = 0;
  before(async () => {
    model = await loadDemo();
    tensors = memory().numTensors;
    caption = await pipeline('image-to-text', model);
    ask = await pipeline('visual-question-answering', model);
  });
  afterEach(() => assert.equal(memory().numTensors, tensors, 'tensors leaked'));
  after(() => model.dispose());

  it('the pieces joined are the text: greedy and sampled, captions, prompts and answers', async () => {
    let compared = 0;
    const samples = [1, 2].map((seed) => ({
      do_sample: true,
      temperature: 6,
      top_k: 0,
      seed,
      max_new_tokens: 25,
    }));
    for (const options of [{}, LONG, ...samples]) {
      for (const image of [BOOK, MUG]) {
        const received = recorder(model);
        const [said] = await caption(image, { ...options, streamer: received.streamer });
        assert.equal(received.pieces.join(''), said!.generated_text);
        assert.deepEqual(received.ids[0], [BigInt(model.tokenizer.clsId)]);
        assert.ok(received.pieces.length > 1);
        const prompted = recorder(model);
        const [whole] = await caption(image, { ...options, prompt: 'a', streamer: prompted.streamer });
        assert.equal(prompted.pieces.join(''), whole!.generated_text);
        const answer = recorder(model, { skip_prompt: true });
        const [found] = await ask(image, 'what color is the book?', { ...options, streamer: answer.streamer });
        assert.equal(answer.pieces.join(''), found!.answer);
        compared += 3;
      }
    }
    console.log(`      ${compared} streamed texts equal to the final ones`);
  });

  it('skip_prompt and skip_special_tokens, in either case, and decode_kwargs', async () => {
    const said = async (options: object) => {
      const received = recorder(model, options);
      await ask(BOOK, 'what is this?', { streamer: received.streamer });
      return received.pieces.join('');
    };
    assert.equal(await said({}), 'what is this? a book');
    assert.equal(await said({ skip_prompt: true }), 'a book');
    assert.equal(await said({ skipPrompt: true, skip_special_tokens: false }), 'a book [SEP]');
    assert.equal(await said({ decode_kwargs: { skip_special_tokens: false } }), '[CLS] what is this? a book [SEP]');
    assert.equal(await said({ cleanUpTokenizationSpaces: false }), 'what is this ? a book');
  });

  it('a streamer of one’s own receives prompt, tokens and the end; classes that extend TextStreamer receive the text', async () => {
    const received: unknown[] = [];
    const streamer = { put: (ids: bigint[][]) => received.push(ids), end: () => received.push('end') };
    await caption(BOOK, { streamer, max_new_tokens: 2 });
    const { tokens } = await model.caption(BOOK, { strategy: 'greedy', maxNewTokens: 2 });
    assert.deepEqual(received, [[[2n]], ...tokens.map(({ id }) => [[BigInt(id)]]), 'end']);
    const said: [string, boolean][] = [];
    class Listener extends TextStreamer {
      override on_finalized_text(text: string, stream_end: boolean): void {
        said.push([text, stream_end]);
      }
    }
    await caption(BOOK, { streamer: new Listener(model.tokenizer) });
    assert.equal(said.map(([text]) => text).join(''), 'a red book with the title short');
    assert.deepEqual(
      said.map(([, end]) => end),
      [...said.slice(1).map(() => false), true],
    );
  });

  it('one streamer serves one text after the other, those of a list too', async () => {
    const received = recorder(model);
    await caption(BOOK, { streamer: received.streamer });
    await caption(BOOK, { streamer: received.streamer });
    assert.equal(received.pieces.join(''), 'a red book with the title short'.repeat(2));
    const both = recorder(model);
    const texts = await caption([BOOK, MUG], { streamer: both.streamer });
    assert.equal(both.pieces.join(''), texts.map(([first]) => first!.generated_text).join(''));
    const beams = await refusal(() => caption(BOOK, { num_beams: 2, streamer: received.streamer }));
    assert.equal(beams, 'OptionError streamer: not-streamable');
    assert.throws(() => received.streamer.put([[1n], [2n]]), { code: 'one-row' });
    assert.throws(() => new TextStreamer(model.tokenizer, { skip: true } as object), { code: 'unknown-option' });
    assert.throws(() => new TextStreamer(model.tokenizer, { callback_function: 3 } as object), { code: 'wrong-type' });
  });

  it('an InterruptableStoppingCriteria keeps what is there and ends the stream', async () => {
    const stopping_criteria = new InterruptableStoppingCriteria();
    const { count, trace } = atStep(5, () => stopping_criteria.interrupt());
    const received = recorder(model);
    let ends = 0;
    const streamer = {
      put: (ids: bigint[][]) => received.streamer.put(ids),
      end() {
        ends++;
        received.streamer.end();
      },
    };
    const [said] = await caption(BOOK, { ...LONG, stopping_criteria, trace, streamer });
    assert.deepEqual([count.steps, ends], [5, 1]);
    assert.equal(said!.generated_text, received.pieces.join(''));
    assert.ok((await caption(BOOK, LONG))[0]!.generated_text.startsWith(`${said!.generated_text} `));
    stopping_criteria.reset();
    assert.deepEqual(await caption(BOOK, { stopping_criteria }), await caption(BOOK));
  });

  it('a signal ends greedy search, sampling and beams within one step', async () => {
    for (const options of [{}, { do_sample: true }, { num_beams: 3 }, { strategy: 'original' as const }]) {
      for (const step of [1, 2, 7]) {
        const controller = new AbortController();
        const { count, trace } = atStep(step, () => controller.abort());
        const call = caption([BOOK, MUG], { ...LONG, ...options, trace, signal: controller.signal });
        await assert.rejects(call, { name: 'AbortError' });
        assert.equal(count.steps, step, `${JSON.stringify(options)} went on`);
      }
    }
    await assert.rejects(caption(BOOK, { signal: AbortSignal.abort() }), { name: 'AbortError' });
  });

  it('tells the streamer of a failure, and not of an end', async () => {
    const received: string[] = [];
    const streamer = {
      put: () => received.push('put'),
      end: () => received.push('end'),
      abort: (reason: unknown) => received.push((reason as Error).name),
    };
    const controller = new AbortController();
    const { trace } = atStep(2, () => controller.abort());
    await assert.rejects(caption(BOOK, { ...LONG, trace, signal: controller.signal, streamer }));
    assert.deepEqual(received, ['put', 'put', 'AbortError']);
  });

  const CALLS = FULL ? 200 : 40;
  it(`${CALLS} canceled calls leave nothing behind`, async () => {
    const kinds = [{}, { do_sample: true }, { num_beams: 2 }, { strategy: 'original' as const }];
    for (let n = 0; n < CALLS; n++) {
      const controller = new AbortController();
      const { trace } = atStep(1 + (n % 3), () => controller.abort());
      const options = { ...LONG, trace, signal: controller.signal };
      const call =
        n % 2 === 0
          ? ask(BOOK, ['what is this?', 'what color is the book?'], { ...options, ...kinds[(n >> 1) % 4]! })
          : caption(n % 9 === 0 ? [BOOK, MUG] : [BOOK], { ...options, ...kinds[(n >> 1) % 4]! });
      await assert.rejects(call, { name: 'AbortError' });
      assert.equal(memory().numTensors, tensors, `after call ${n}`);
    }
  });

  it('disposing the model stops a call within one step', async () => {
    const own = await loadDemo();
    const pipe = await pipeline('image-to-text', own);
    const { count, trace } = atStep(3, () => own.dispose());
    await assert.rejects(pipe(BOOK, { ...LONG, trace }), { name: 'DisposedError' });
    assert.equal(count.steps, 3);
  });
});
