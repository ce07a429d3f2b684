import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { memory, tensor4d } from '@tensorflow/tfjs-core';
import { defaultImageConfig } from '../../src/image/image-config.js';
import { preprocess } from '../../src/image/preprocess.js';
import { toRgbImage } from '../../src/image2text/input-loader.js';
import { disposeGit } from '../../src/model/git.js';
import {
  fromDirectory,
  Image2TextError,
  loadGit,
  openImage,
  plainForward,
  quietTensorflow,
  startBackend,
} from '../../src/node.js';
import {
  convertCheckpoint,
  listModels,
  listPublishedLogits,
  type PublishedLogits,
  verifyModel,
} from '../../src/tools/index.js';
import { EXAMPLES, FIXTURES, REFERENCE, readJson } from '../support/fixtures.js';
import { withFolder } from '../support/folder.js';
import { TINY } from './support.js';

const IMAGE = `${EXAMPLES}blue-mug-dream.jpg`;
const WHAT = 'an image of ours';
const code = (expected: string) => (error: unknown) => error instanceof Image2TextError && error.code === expected;

/** Numbers as if they were published for tiny-a, by the one-pass model, to four digits. */
async function publishedNumbers(): Promise<PublishedLogits> {
  const git = await loadGit(await fromDirectory(TINY));
  const { data, shape } = preprocess(
    [await toRgbImage(IMAGE, { openImage, orientation: false })],
    defaultImageConfig(35),
  );
  const pixels = tensor4d(data, [...shape]);
  const logits = plainForward(git, pixels, [[101]]);
  const values = await logits.data();
  const expected = [...values.slice(-git.config.vocabSize)].slice(0, 3).map((value) => Number(value.toFixed(4)));
  for (const made of [pixels, logits]) made.dispose();
  disposeGit(git);
  return {
    ...{ checkpoint: 'microsoft/git-tiny', input_ids: [[101]], picture: WHAT, expected, atol: 1e-4 },
    ...{ config: { image_size: 35, num_image_with_embedding: null }, preprocessing: 'CLIP image processor' },
  };
}

describe('verifyModel', () => {
  let published: PublishedLogits;
  before(async () => {
    quietTensorflow();
    await startBackend('wasm');
    published = await publishedNumbers();
  });

  it('agrees with published numbers, whatever the folder is called', async () => {
    const tensors = memory().numTensors;
    const options = { catalog: [published], image: IMAGE };
    const checked = await verifyModel(TINY, { ...options, as: 'git-tiny' }); // short for microsoft/git-tiny
    assert.equal(checked.passed, true);
    const worst = Math.max(...checked.logits.map(({ difference }) => difference));
    console.log(
      `      tiny-a: ${checked.logits.length} logits, ${worst.toExponential(1)} off what is published to four digits`,
    );
    assert.deepEqual([checked.checkpoint, checked.dtypes], ['microsoft/git-tiny', ['F32']]);
    assert.deepEqual(checked.notes, []);
    await withFolder(async (folder) => {
      for (const path of [
        'git-tiny',
        'models--microsoft--git-tiny/snapshots/0123456789012345678901234567890123456789',
      ]) {
        mkdirSync(join(folder, path), { recursive: true });
        cpSync(TINY, join(folder, path), { recursive: true });
        assert.equal((await verifyModel(join(folder, path), options)).passed, true, path);
      }
      writeFileSync(
        join(folder, 'git-tiny/preprocessor_config.json'),
        '{"image_processor_type":"VideoMAEImageProcessor"}',
      );
      await convertCheckpoint(join(folder, 'git-tiny'), join(folder, 'git-tiny'), { dtype: 'bf16', overwrite: true });
      const { notes, passed } = await verifyModel(join(folder, 'git-tiny'), options);
      assert.match(notes.join('; '), /preprocessor_config\.json differs.*; the weights are stored as BF16/);
      assert.equal(passed, false);
    });
    assert.equal(memory().numTensors, tensors);
  });

  it('names the numbers that differ', async () => {
    const [first, second, third] = published.expected as [number, number, number];
    const wrong = { ...published, expected: [first, second + 0.01, Number.NaN + third] };
    const { passed, logits } = await verifyModel(TINY, { catalog: [wrong], as: wrong.checkpoint, image: IMAGE });
    assert.equal(passed, false);
    assert.deepEqual(
      logits.map((logit) => logit.passed),
      [true, false, false],
    );
    assert.ok(Math.abs(logits[1]!.difference - 0.01) < 2e-4);
  });

  it('another image does not pass for the right one', async () => {
    const options = { catalog: [published], as: published.checkpoint };
    assert.equal((await verifyModel(TINY, { ...options, image: `${EXAMPLES}red-book-short.png` })).passed, false);
  });

  it('fetches the image where there is an address and the network may be used', async () => {
    const server = createServer((_, response) => response.end(readFileSync(IMAGE)));
    await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
    const { port } = server.address() as AddressInfo;
    const options = {
      ...{ catalog: [published], as: published.checkpoint, env: {} },
      addresses: { [WHAT]: `http://127.0.0.1:${port}/image.jpg` },
    };
    assert.equal((await verifyModel(TINY, options)).passed, true);
    await assert.rejects(verifyModel(TINY, { ...options, env: { HF_HUB_OFFLINE: '1' } }), code('image-needed'));
    server.close();
    server.closeAllConnections();
  });

  it('says what it needs to know', async () => {
    const catalog = [published];
    await assert.rejects(verifyModel(TINY, { catalog, image: IMAGE }), code('which-checkpoint'));
    await assert.rejects(verifyModel(TINY, { catalog, as: 'microsoft/git-huge' }), code('nothing-published'));
    await assert.rejects(verifyModel('someone/else', { catalog }), code('nothing-published'));
    await assert.rejects(verifyModel('./nowhere', { catalog }), code('not-a-folder'));
    await assert.rejects(verifyModel(TINY, { catalog, as: published.checkpoint, addresses: {} }), code('image-needed'));
    await assert.rejects(
      verifyModel(TINY, { catalog, as: published.checkpoint, image: './none.png' }),
      code('no-such-file'),
    );
  });
});

describe('the published models', () => {
  it('are 17, with sizes and scores that agree with the reference', () => {
    const models = listModels();
    const logits = listPublishedLogits();
    assert.deepEqual(
      models.map(({ id }) => id),
      logits.map(({ checkpoint }) => checkpoint),
    );
    assert.equal(models.length, 17);
    for (const [n, { imageSize, frames, parameters, size, score, license }] of models.entries()) {
      const { config } = logits[n]!;
      assert.deepEqual([imageSize, frames], [config.image_size, config.num_image_with_embedding ?? 0]);
      assert.equal(Math.round(parameters / 1e6), size === 'base' ? 177 : imageSize === 224 ? 394 : 395);
      assert.equal(license, 'MIT');
      assert.ok(score === undefined || (score.value > 0 && score.source === 'repository'));
    }
    const figures = readJson<{ repo: { hf?: string; value: number; exact?: number }[] }>(
      `${FIXTURES}published_figures.json`,
    );
    for (const { hf, value, exact } of figures.repo) {
      if (hf !== undefined) assert.equal(models.find(({ id }) => id === hf)!.score?.value, exact ?? value, hf);
    }
    const scored = models.filter(({ score }) => score !== undefined).length;
    assert.equal(scored, figures.repo.filter(({ hf }) => hf !== undefined).length);
  });

  it('have the logits of the reference', () => {
    const { published_logits } = readJson<{ published_logits: unknown }>(`${REFERENCE}published-logits.json`);
    assert.deepEqual(listPublishedLogits(), published_logits);
  });
});
