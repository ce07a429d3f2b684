import assert from 'node:assert/strict';
import { fill } from '@tensorflow/tfjs-core';
import type { Image2Text, ImageInput } from '../../src/node.js';
import { frames, Image2TextError, ImageError, loadImage2Text, OptionError, video } from '../../src/node.js';
import { useBackend } from '../support/backends.js';
import { expectTensors } from '../support/close.js';
import { DEMO, EXAMPLES } from '../support/fixtures.js';

const MUG = `${EXAMPLES}blue-mug-juice.png`;

describe('what a model’s methods refuse', () => {
  let model: Image2Text;
  before(async () => {
    await useBackend('wasm');
    model = await loadImage2Text(DEMO);
  });
  after(() => model.dispose());

  const refuses = (what: string, run: () => Promise<unknown>, Class: new (facts: never) => Error, pattern: RegExp) =>
    it(what, () =>
      expectTensors(0, () =>
        assert.rejects(
          run,
          (error: Error) => error instanceof Class && pattern.test(error.message) && !error.message.includes('\n'),
        ),
      ),
    );
  const endless = 'mug '.repeat(200_000);
  refuses(
    'a prompt that no model has positions for',
    () => model.caption(MUG, { prompt: endless }),
    OptionError,
    /prompt-too-long.*65\D?538/,
  );
  refuses('such a text', () => model.score(MUG, [endless]), OptionError, /too-long.*65\D?53/);
  refuses('such a class name', () => model.classify(MUG, ['mug', endless]), OptionError, /too-long|position/);
  refuses('a missing file', () => model.caption('nowhere.png'), ImageError, /^nowhere\.png: no-such-file/);
  refuses('bytes that are no image', () => model.caption(new TextEncoder().encode('hello there')), ImageError, /./);
  refuses('something else', () => model.caption(42 as unknown as ImageInput), ImageError, /not-an-image/);
  refuses(
    'a wrong option',
    () => model.caption(MUG, { strategy: 'greedy', numBeams: 3 } as never),
    OptionError,
    /numBeams/,
  );
  refuses('no beams', () => model.caption(MUG, { numBeams: 0 }), OptionError, /numBeams/);
  refuses('an empty question', () => model.answer(MUG, ' '), OptionError, /question/);
  refuses('a batch size of 0', () => model.caption(MUG, { batchSize: 0 }), OptionError, /batchSize/);
  refuses('no class names', () => model.classify(MUG, []), OptionError, /labels/);
  refuses(
    'a prompt without room',
    () => model.caption(MUG, { prompt: 'a '.repeat(80) }),
    OptionError,
    /prompt-too-long/,
  );
  refuses(
    'a tensor of values 0 to 1',
    async () => {
      const half = fill([8, 8, 3], 0.5);
      try {
        await model.caption(half);
      } finally {
        half.dispose();
      }
    },
    ImageError,
    /multiply by 255/,
  );
  refuses(
    'a disposed tensor',
    async () => {
      const gone = fill([8, 8, 3], 9);
      gone.dispose();
      await model.caption(gone);
    },
    ImageError,
    /tensor-disposed/,
  );
  for (const [what, run] of Object.entries<(odd: never) => Promise<unknown>>({
    questions: (odd) => model.answer(MUG, odd),
    labels: (odd) => model.classify(MUG, odd),
    texts: (odd) => model.score(MUG, odd),
    options: (odd) => model.caption(MUG, odd),
    'options of embed': (odd) => model.embed(MUG, odd),
    video: (odd) => model.caption(video(odd)),
    'a model': (odd) => loadImage2Text(odd),
  })) {
    for (const odd of [null, 5, [null]]) {
      refuses(`${what}: ${JSON.stringify(odd)}`, () => run(odd as never), Image2TextError, /./);
    }
  }
  refuses(
    'an unknown way to classify',
    () => model.classify(MUG, ['a mug'], { method: 'x' as never }),
    OptionError,
    /method/,
  );
  refuses(
    'an unknown option of classify',
    () => model.classify(MUG, ['a mug'], { top_k: 1 } as never),
    OptionError,
    /top_k/,
  );
  refuses(
    'an upload that is no function',
    () => loadImage2Text(DEMO, { upload: 3 as never }),
    OptionError,
    /^upload: wrong-type: expected a function/,
  );
  refuses('an unknown stage', () => model.embed(MUG, { stage: 'x' as never }), OptionError, /stage/);
  refuses('a prompt that is no text', () => model.caption(MUG, { prompt: 5 as never }), OptionError, /prompt/);
  refuses('a list where one image is meant', () => model.embed([MUG] as never), OptionError, /one image/);
  refuses('a video without frames', () => model.caption(frames([])), ImageError, /no-frames/);
});
