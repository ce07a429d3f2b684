import assert from 'node:assert/strict';
import { generationOptions } from '../../src/generation/options.js';
import { METHODS, type Method, methodOptions } from '../../src/image2text/method-options.js';
import type { Image2Text } from '../../src/node.js';
import { loadImage2Text } from '../../src/node.js';
import type { OptionTable } from '../../src/options.js';
import { useBackend } from '../support/backends.js';
import { DEMO, EXAMPLES } from '../support/fixtures.js';

const MUG = `${EXAMPLES}blue-mug-juice.png`;
const ALL: OptionTable = { ...generationOptions, ...methodOptions };
const WRITING: readonly Method[] = ['caption', 'answer', 'stream', 'explain', 'generate'];
/** Options of generation that a method leaves without effect. */
const WITHOUT: Readonly<Record<string, readonly string[]>> = {
  stream: ['onToken', 'numReturnSequences'],
  explain: ['numReturnSequences'],
};

/** A call of each method on something that is no image: options are refused before it is opened. */
const call = (model: Image2Text, method: Method, options: object): Promise<unknown> => {
  const nothing = 42 as never;
  switch (method) {
    case 'answer':
      return model.answer(nothing, 'what?', options as never);
    case 'classify':
    case 'score':
      return model[method](nothing, ['a mug'], options as never);
    case 'stream':
      return model.stream(nothing, options as never).next();
    case 'caption':
      return model.caption(nothing as string, options);
    default:
      return (model as unknown as Record<Method, (input: unknown, options: object) => Promise<unknown>>)[method](
        nothing,
        options,
      );
  }
};

describe('methods and options', () => {
  let model: Image2Text;
  before(async () => {
    await useBackend('simd');
    model = await loadImage2Text(DEMO);
  });
  after(() => model.dispose());

  for (const method of METHODS) {
    it(`${method}: refuses every option that it does not use, and an unknown one, before anything is opened`, async () => {
      let refused = 0;
      for (const name of Object.keys(ALL)) {
        const own =
          Object.hasOwn(methodOptions, name) && Object.hasOwn((methodOptions as OptionTable)[name]!.defaults, method);
        const writes =
          Object.hasOwn(generationOptions, name) && WRITING.includes(method) && !WITHOUT[method]?.includes(name);
        if (own || writes) {
          await assert.rejects(call(model, method, { [name]: Symbol('odd') }), { name: 'OptionError' }, name);
        } else {
          await assert.rejects(call(model, method, { [name]: 1 }), {
            name: 'OptionError',
            path: name,
            code: 'unused-option',
          });
          refused++;
        }
      }
      await assert.rejects(call(model, method, { num_beams: 2 }), { path: 'num_beams', code: 'unknown-option' });
      await assert.rejects(call(model, method, {}), { name: 'ImageError' });
      assert.ok(refused >= 5, `${refused} refused`);
    });
  }

  it('options that others leave without effect are refused', async () => {
    await assert.rejects(call(model, 'explain', { text: 'a mug', minLength: 3 }), {
      path: 'minLength',
      code: 'unused-option',
    });
    await assert.rejects(call(model, 'classify', { method: 'greedy', topK: 2 }), {
      path: 'topK',
      code: 'unused-option',
    });
  });

  it('texts are taken for bad words, biases and stop strings', async () => {
    const { text } = await model.caption(MUG);
    assert.equal(text, 'a blue mug with the word juice on it');
    const without = await model.caption(MUG, { badWords: ['the word', 'blue'] });
    assert.doesNotMatch(without.text, /the word|blue/);
    const [, mug] = [0, tokenizerIds('mug')];
    assert.equal(
      (await model.caption(MUG, { badWords: ['blue'] })).text,
      (await model.caption(MUG, { badWords: [tokenizerIds('blue')] })).text,
    );
    const biased = await model.caption(MUG, {
      strategy: 'greedy',
      sequenceBias: [
        ['blue', -100],
        [mug, 0],
      ],
    });
    assert.doesNotMatch(biased.text, /blue/);
    for (const strategy of ['greedy', 'beam', 'original'] as const) {
      const stopped = await model.caption(MUG, { strategy, stopStrings: ['mug with'] });
      assert.deepEqual([stopped.text, stopped.finish], ['a blue mug with', 'stopped'], strategy);
    }
    await assert.rejects(model.caption(MUG, { badWords: [' '] }), { path: 'badWords[0]', code: 'empty' });
  });
  const tokenizerIds = (text: string): number[] => model.tokenizer.encode(text, { addSpecialTokens: false });
});
