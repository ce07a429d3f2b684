import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { decodeImage } from '../../src/image/decode.js';
import { type Image2Text, openVideo } from '../../src/node.js';
import { goldens } from '../image/support.js';
import { BOOK, loadDemo, refusal, VIDEO } from '../pipeline/support.js';
import { scratch } from '../support/folder.js';

describe('inputs in Node: folders and addresses as videos, WebP', () => {
  const path = scratch();

  it('a folder is its images, sorted as people count', async () => {
    mkdirSync(path('frames'));
    const names = [
      'f-10.png',
      'f-9.PNG',
      'f-1.jpg',
      'f-02.jpeg',
      'b.gif',
      'a.webp',
      '.hidden.png',
      'notes.txt',
      'f-3.png.bak',
    ];
    for (const name of names) writeFileSync(path(`frames/${name}`), '');
    const sorted = ['a.webp', 'b.gif', 'f-1.jpg', 'f-02.jpeg', 'f-9.PNG', 'f-10.png'].map((name) =>
      path(`frames/${name}`),
    );
    assert.deepEqual(await openVideo(path('frames'), 3), sorted); // the model's frame count is chosen later
    assert.deepEqual(await openVideo(pathToFileURL(path('frames')), 3), sorted);
  });

  it('a folder without images, and what is not there', async () => {
    mkdirSync(path('empty'));
    assert.equal(await refusal(() => openVideo(path('empty'), 6)), 'ImageError undefined: no-frames');
    assert.equal(await refusal(() => openVideo(path('nowhere'), 6)), 'ImageError undefined: no-such-file');
    await assert.rejects(openVideo(path('empty'), 6, AbortSignal.abort()), { name: 'AbortError' });
  });

  it('images and their addresses are left to the image loader; addresses of videos are refused', async () => {
    for (const left of [VIDEO, BOOK, pathToFileURL(VIDEO), 'https://host.example/a.gif', 'data:image/gif;base64,R0lG'])
      assert.equal(await openVideo(left, 6), undefined);
    for (const refused of ['https://host.example/a.mp4', 'http://host.example/A.WEBM?token=secret#t=3']) {
      assert.equal(await refusal(() => openVideo(refused, 6)), 'ImageError undefined: video-address');
      await assert.rejects(openVideo(new URL(refused), 6), (error: Error) => !error.message.includes('secret'));
    }
  });

  it('a WebP file is an image like any other', async () => {
    const model: Image2Text = await loadDemo();
    try {
      for (const name of ['lossless.webp', 'lossy.webp', 'alpha.webp']) {
        const [, , bytes] = goldens().find(([golden]) => golden === name)!;
        writeFileSync(path(name), bytes);
        const said = await model.caption(path(name), { strategy: 'greedy' });
        const decoded = await decodeImage(bytes);
        assert.deepEqual(await model.caption(decoded, { strategy: 'greedy' }), said);
      }
    } finally {
      model.dispose();
    }
  });
});
