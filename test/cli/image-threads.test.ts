import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isBuilt } from '../../scripts/build.mjs';
import type { ImageThreads, startImageThreads } from '../../src/cli/image-threads.js';
import { decodeImage } from '../../src/image/decode.js';
import { preprocess } from '../../src/image/preprocess.js';
import { type Image2Text, type ImageJob, loadImage2Text } from '../../src/node.js';
import { EXAMPLES } from '../support/fixtures.js';
import { scratch } from '../support/folder.js';
import { skipWithout } from '../support/skip.js';
import { cli, ended, fillFolder, IMAGES, start } from './support.js';

const bytesOf = (name: string): Uint8Array => new Uint8Array(readFileSync(EXAMPLES + name));

describe('images read by threads', () => {
  const folder = scratch();
  let model: Image2Text;
  let startThreads: typeof startImageThreads;
  before(async function () {
    if (!isBuilt()) skipWithout(this, 'build', 'npm run build');
    startThreads = (await import(new URL('../../dist/cli/image-threads.js', import.meta.url).href)).startImageThreads;
    model = await loadImage2Text('demo');
  });
  after(() => model?.dispose());
  const threads: ImageThreads[] = [];
  afterEach(async () => {
    for (const one of threads.splice(0)) await one.end();
  });
  const withThreads = (count: number): ImageThreads => {
    threads.push(startThreads(count));
    return threads.at(-1)!;
  };
  const job = (bytes: Uint8Array): ImageJob => ({
    bytes,
    decoding: { file: 'x' },
    config: model.imageConfig,
    preprocessing: {},
  });

  it('have the values that the caller’s thread computes, whoever of two reads them', async () => {
    const { prepareImage } = withThreads(2);
    const files = IMAGES.slice(0, 6);
    const found = await Promise.all(files.map((name) => prepareImage(job(bytesOf(name)))));
    assert.ok(files.length > 3);
    for (const [n, name] of files.entries()) {
      const { warnings, ...image } = await decodeImage(bytesOf(name));
      assert.deepEqual(found[n], { pixels: preprocess([image], model.imageConfig), warnings });
    }
  });

  it('give back what is no image, keep the caller’s bytes, and read nothing once they have ended', async () => {
    const { prepareImage, end } = withThreads(1);
    const bytes = bytesOf(IMAGES[0]!);
    const size = bytes.length;
    assert.equal(await prepareImage(job(bytes.subarray(0, 40))), undefined);
    const waiting = prepareImage(job(bytes));
    assert.equal(bytes.length, size);
    assert.notEqual(await waiting, undefined);
    const last = prepareImage(job(bytes));
    await end();
    await last; // settled, one way or the other
    assert.equal(await prepareImage(job(bytes)), undefined);
  });

  it('read the next batch while the model works on this one, each image once', async () => {
    const { prepareImage } = withThreads(1);
    const events: string[] = [];
    const ahead = await loadImage2Text('demo', {
      maxBatch: 2,
      prepareImage: (one) => {
        events.push(`read ${one.decoding.file}`);
        return prepareImage(one);
      },
    });
    try {
      const files = IMAGES.slice(0, 6).map((name) => EXAMPLES + name);
      const texts = (await model.caption(files)).map(({ text }) => text);
      const trace = (name: string): void => {
        if (name === 'vision.embeddings') events.push('encode');
      };
      const said = await ahead.caption(files, { trace });
      assert.deepEqual(
        said.map(({ text }) => text),
        texts,
      );
      assert.equal(new Set(events).size, files.length + 1, events.join());
      assert.equal(events.length, 2 * files.length, 'each is read and encoded once');
      const begun = events.slice(0, events.indexOf('encode')).length;
      assert.equal(begun, 4, 'this batch and the next were begun before the first image was encoded');
    } finally {
      ahead.dispose();
    }
  });

  it('make the folder run of the command say what one image alone says, damaged and broken files included', async () => {
    const here = join(folder(), 'many');
    fillFolder(here, 9);
    const png = bytesOf(IMAGES.find((name) => name.endsWith('.png'))!);
    writeFileSync(join(here, 'x-cut.png'), png.subarray(0, png.length - 8)); // within IEND, behind the last row
    writeFileSync(join(here, 'y-broken.jpg'), bytesOf(IMAGES[0]!).subarray(0, 60));
    copyFileSync(EXAMPLES + IMAGES[1]!, join(here, 'z-last.png'));
    const args = ['--model', 'demo', '--recursive', '--batch', '3'];
    const many = await ended(start(['caption', here, ...args, '--jsonl']));
    const alone = await cli(['caption', here, ...args, '--jsonl'], { fresh: true }); // from the sources, where no thread starts
    assert.equal(many.stdout, alone.stdout);
    assert.ok(many.stdout.split('\n').length > 9, many.stdout);
    assert.deepEqual(many.stderr.split('\n').sort(), alone.stderr.split('\n').sort());
    assert.match(many.stderr, /y-broken\.jpg/);
    assert.match(many.stderr, /warning: .*x-cut\.png/);
    assert.equal(many.code, 1);
  });
});
