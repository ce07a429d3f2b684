/**
 * Writes a checkpoint's `expected.json`: what this library says of the repository's examples, computed on tfjs's cpu backend, and how often it is
 * right about 300 scenes and 300 videos that it was not trained on. `check.py` compares it with transformers.
 *
 *     npx tsx examples/train-demo/expected.ts FOLDER
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { questionIds } from '../../src/image2text/captions.js';
import {
  type Caption,
  frames,
  loadImage2Text,
  quietTensorflow,
  startBackend,
  type VisualInput,
} from '../../src/node.js';
import { measureAccuracy } from './evaluate.js';
import { COLOR_NAMES, OBJECTS, WORDS } from './scenes.js';

interface Expected {
  readonly images: readonly {
    readonly file: string;
    readonly truth: string;
    readonly answers: readonly { readonly question: string }[];
  }[];
  readonly videos: readonly { readonly frames: string; readonly truth: string }[];
}

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const folder = process.argv[2] ?? 'train-demo/last';
const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
const listed = JSON.parse(readFileSync(join(ROOT, 'weights/demo/expected.json'), 'utf8')) as Expected;

quietTensorflow();
await startBackend('simd');
const fast = await loadImage2Text(folder);
const { captions, words, videos } = await measureAccuracy(fast.git, fast, 300, 300);
fast.dispose();

await startBackend('cpu');
const model = await loadImage2Text(folder);
const start = model.git.config.bosTokenId;
const ids = ({ tokens }: Caption): number[] => tokens.map(({ id }) => id);
const logProbs = ({ tokens }: Caption): number[] => tokens.map(({ logProb }) => logProb);
const limit = 20; // tokens, with the start and the end
const said = async (image: VisualInput) => {
  const caption = await model.caption(image, { strategy: 'greedy', maxLength: limit });
  return { ids: [start, ...ids(caption)], token_logprobs: logProbs(caption), text: caption.text };
};

const expected = {
  made_with: `generative-image2text ${version} on tfjs's cpu backend`,
  accuracy_on_held_out_scenes: {
    ...{ scenes: 300, captions_exact: captions, words_read: words },
    ...{ videos: 300, videos_exact: videos },
  },
  images: [] as object[],
  videos: [] as object[],
  ...{ words: WORDS, colors: COLOR_NAMES, objects: OBJECTS },
};
for (const { file, truth, answers } of listed.images) {
  const path = join(ROOT, file);
  const beam = await model.caption(path, { strategy: 'beam', numBeams: 4, maxLength: limit });
  const original = await model.caption(path, { maxLength: limit });
  const questions = answers.map(({ question }) => question);
  const answered = await model.answer(path, questions, { strategy: 'greedy', maxLength: limit });
  expected.images.push({
    file,
    truth,
    greedy: await said(path),
    hf_beam4: { ids: [start, ...ids(beam)], score: beam.score, text: beam.text },
    original_beam: {
      ids: ids(original).filter((id) => !model.git.config.eosTokenIds.includes(id)),
      ...{ score: original.score, text: original.text, max_steps: limit },
    },
    answers: answered.map((answer) => ({
      question: answer.question,
      answer: answer.text,
      ids: [...questionIds(model.tokenizer, answer.question), ...ids(answer)],
      token_logprobs: logProbs(answer),
    })),
  });
}
for (const { frames: name, truth } of listed.videos) {
  const files = [1, 2, 3, 4, 5, 6].map((n) => join(ROOT, name, `frame-${n}.png`));
  expected.videos.push({ frames: name, truth, greedy: await said(frames(files)) });
}
model.dispose();
writeFileSync(join(folder, 'expected.json'), `${JSON.stringify(expected, null, 1)}\n`);
console.log(`${join(folder, 'expected.json')}: captions ${captions}, words ${words}, videos ${videos}`);
