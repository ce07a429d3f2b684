import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { memory } from '@tensorflow/tfjs-core';
import type { ImageError } from '../../src/errors.js';
import { decodeImage } from '../../src/image/decode.js';
import {
  video as asVideo,
  frames,
  type Image2Text,
  type ImageInput,
  openVideo,
  type RgbImage,
  videoOpener,
} from '../../src/node.js';
import { fileUrl } from '../../src/platform/node-files.js';
import { loadDemo, refusal } from '../pipeline/support.js';
import { EXAMPLES, FIXTURES } from '../support/fixtures.js';
import { scratch } from '../support/folder.js';
import { skipWithout } from '../support/skip.js';
import { ffmpeg, ffmpegMissing, grayVideo, LOSSLESS, SIDE } from './videos-made.js';

const PNGS = [1, 2, 3, 4, 5, 6].map((n) => `${EXAMPLES}video-1/frame-${n}.png`);

/** The gray levels of frames that have one each. */
function levels(found: readonly ImageInput[] | undefined): number[] {
  return (found as RgbImage[]).map(({ data, width, height }) => {
    assert.deepEqual([width, height, data.length], [SIDE, SIDE, SIDE * SIDE * 3]);
    assert.ok(data.every((value) => value === data[0]));
    return data[0]!;
  });
}
const tens = (...numbers: readonly number[]) => numbers.map((n) => 10 * n);

describe('video files through the user’s ffmpeg', () => {
  const path = scratch();
  before(function () {
    if (ffmpegMissing !== undefined) skipWithout(this, 'ffmpeg', ffmpegMissing);
  });

  describe('with the demo checkpoint', () => {
    let model: Image2Text;
    let tensors = 0;
    before(async () => {
      model = await loadDemo();
      tensors = memory().numTensors;
      for (const video of ['video-1', 'video-2', 'video-3'])
        ffmpeg('-framerate', '5', '-i', `${EXAMPLES}${video}/frame-%d.png`, ...LOSSLESS, path(`${video}.mkv`));
    });
    afterEach(() => assert.equal(memory().numTensors, tensors, 'tensors leaked'));
    after(() => model.dispose());

    it('a lossless video gives the pixels of its images', async () => {
      const found = (await openVideo(path('video-1.mkv'), 6)) as RgbImage[];
      const wanted: RgbImage[] = [];
      for (const png of PNGS) wanted.push(await decodeImage(readFileSync(png)));
      assert.equal(found.length, 6);
      found.forEach((frame, n) => {
        assert.deepEqual([frame.width, frame.height], [wanted[n]!.width, wanted[n]!.height]);
        assert.ok(Buffer.from(frame.data).equals(Buffer.from(wanted[n]!.data)), `frame ${n + 1}`);
      });
    });

    it('file, folder and frames say the same, to the last bit of every log-probability', async () => {
      for (const video of ['video-1', 'video-2', 'video-3']) {
        const list = frames([1, 2, 3, 4, 5, 6].map((n) => `${EXAMPLES}${video}/frame-${n}.png`));
        const said = await model.caption(list, { strategy: 'greedy' });
        assert.deepEqual(await model.caption(asVideo(path(`${video}.mkv`)), { strategy: 'greedy' }), said);
        assert.deepEqual(await model.caption(asVideo(`${EXAMPLES}${video}`), { strategy: 'greedy' }), said);
        const url = pathToFileURL(path(`${video}.mkv`));
        assert.deepEqual(await model.caption(asVideo(url), { strategy: 'greedy' }), said);
      }
    });

    it('a canceled reading leaves nothing', async () => {
      const signal = AbortSignal.timeout(5);
      await assert.rejects(model.caption(asVideo(path('video-1.mkv')), { signal }), { name: 'TimeoutError' });
    });
  });

  it('takes the middle of each part, all where there are no more, whatever the container', async () => {
    for (const [file, ...options] of [
      ['a.mkv', ...LOSSLESS],
      ['a.avi', '-c:v', 'png', '-pix_fmt', 'rgb24'],
      ['a.mov', '-c:v', 'png', '-pix_fmt', 'rgb24'],
      ['a.nut', '-c:v', 'rawvideo', '-pix_fmt', 'rgb24'],
    ] as const) {
      grayVideo(path(file), 20, ...options);
      assert.deepEqual(levels(await openVideo(path(file), 6)), tens(1, 5, 8, 11, 15, 18), file);
      assert.deepEqual(levels(await openVideo(path(file), 1)), tens(10), file);
      assert.deepEqual(levels(await openVideo(path(file), 20)), tens(...Array(20).keys()), file);
      assert.deepEqual(levels(await openVideo(path(file), 64)), tens(...Array(20).keys()), file);
    }
  });

  it('counts frames, not seconds, where the rate varies', async () => {
    grayVideo(path('vfr.mkv'), 12, '-vf', 'settb=1/1000,setpts=N*N*100', '-r', '1000', ...LOSSLESS);
    assert.deepEqual(levels(await openVideo(path('vfr.mkv'), 6)), tens(1, 3, 5, 7, 9, 11));
  });

  it('frames that are cut away do not count', async () => {
    const codec = ['-c:v', 'mpeg4', '-g', '50', '-qscale:v', '1'];
    grayVideo(path('whole.mp4'), 24, ...codec);
    ffmpeg('-ss', '2', '-i', path('whole.mp4'), '-c', 'copy', path('cut.mp4')); // 24 packets, an edit list shows 14
    const shown = (await openVideo(path('cut.mp4'), 64)) as RgbImage[];
    const all = (await openVideo(path('whole.mp4'), 64)) as RgbImage[];
    assert.deepEqual([shown.length, all.length], [14, 24]);
    shown.forEach((frame, n) => {
      assert.deepEqual(frame, all[10 + n]);
    });
  });

  it('turns what a phone held upright', async () => {
    ffmpeg('-f', 'lavfi', '-i', 'testsrc=s=64x32', '-frames:v', '2', '-c:v', 'mpeg4', path('lying.mp4'));
    const turn = (...options: readonly string[]) => ffmpeg(...options, '-c', 'copy', path('upright.mp4'));
    try {
      turn('-display_rotation', '90', '-i', path('lying.mp4')); // ffmpeg 6 and later
    } catch {
      turn('-i', path('lying.mp4'), '-metadata:s:v:0', 'rotate=90');
    }
    const size = (found: readonly ImageInput[] | undefined) =>
      (found as RgbImage[]).map(({ width, height }) => `${width}x${height}`);
    assert.deepEqual(size(await openVideo(path('lying.mp4'), 2)), ['64x32', '64x32']);
    assert.deepEqual(size(await openVideo(path('upright.mp4'), 2)), ['32x64', '32x64']);
  });

  it('takes names as names', async () => {
    grayVideo(path('plain.mkv'), 3, ...LOSSLESS);
    for (const name of [
      '-i.mkv',
      'a b %d $(x) \'"`;|&.mkv',
      'concat:a|b.mkv',
      'pipe:0.mkv',
      'Ünï 猫.mkv',
      'no-extension',
    ]) {
      copyFileSync(path('plain.mkv'), path(name));
      assert.deepEqual(levels(await openVideo(path(name), 3)), tens(0, 1, 2), name);
    }
  });

  it('opens a name that is not UTF-8, by its URL', async function () {
    if (process.platform !== 'linux') this.skip(); // other systems want UTF-8
    grayVideo(path('plain.mp4'), 20, '-c:v', 'mpeg4', '-qscale:v', '1');
    const name = Buffer.concat([Buffer.from(path('caf')), Buffer.from([0xe9]), Buffer.from('.mp4')]);
    copyFileSync(path('plain.mp4'), name);
    const url = fileUrl(name);
    assert.deepEqual(await openVideo(url, 3), await openVideo(path('plain.mp4'), 3));
    writeFileSync(name, 'no video at all, and long enough to be looked at');
    await assert.rejects(openVideo(url, 3), { name: 'ImageError', code: 'not-a-video' });
  });

  it('reads the frames of an AVIF sequence, which the library cannot', async function () {
    const cases: [string, string, number, number][] = JSON.parse(readFileSync(`${FIXTURES}avif-metadata.json`, 'utf8'));
    const sequence = Buffer.from(cases.find(([, , , frames]) => frames === 3)![1], 'base64');
    writeFileSync(path('three.avif'), sequence);
    const found = (await openVideo(path('three.avif'), 6).catch((error: ImageError) => {
      if (/decoder|Decoder|not found|Function not implemented/.test(error.message)) this.skip(); // an ffmpeg without AV1
      throw error;
    })) as RgbImage[];
    assert.deepEqual(
      found.map(({ width, height, data }) => [width, height, Math.round(data[0]! / 80)]),
      [0, 1, 2].map((level) => [12, 8, level]),
    );
    const still = Buffer.from(cases.find(([name]) => name === 'neither')![1], 'base64');
    writeFileSync(path('still.avif'), still);
    assert.equal(await openVideo(path('still.avif'), 6), undefined);
  });

  it('refuses what is no video', async () => {
    ffmpeg('-f', 'lavfi', '-i', 'sine', '-t', '0.1', path('sound.mkv'));
    writeFileSync(path('empty.mp4'), '');
    writeFileSync(path('text.mp4'), 'not a video\n'.repeat(100));
    writeFileSync(path('secret.m3u8'), '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/x.ts\n');
    writeFileSync(path('list.ffconcat'), `ffconcat version 1.0\nfile plain.mkv\n`);
    writeFileSync(path('cut-off.mkv'), readFileSync(path('plain.mkv')).subarray(0, 60));
    for (const name of ['sound.mkv', 'empty.mp4', 'text.mp4', 'secret.m3u8', 'list.ffconcat'])
      assert.equal(await refusal(() => openVideo(path(name), 6)), 'ImageError undefined: not-a-video', name);
    const cut = await refusal(() => openVideo(path('cut-off.mkv'), 6));
    assert.match(cut, /^ImageError undefined: (not-a-video|no-frames)$/);
    await assert.rejects(openVideo(path('secret.m3u8'), 6), /ffmpeg takes it for "hls"; only containers of videos/);
  });

  it('refuses frames that are too large together, before they are read', async () => {
    const open = videoOpener({ maxPixels: 5 * SIDE * SIDE });
    assert.deepEqual(levels(await open(path('a.mkv'), 5)).length, 5);
    assert.equal(await refusal(() => open(path('a.mkv'), 6)), 'ImageError undefined: too-many-pixels');
  });

  it('a broken video gives the frames that can be read', async () => {
    const bytes = readFileSync(path('a.nut'));
    mkdirSync(path('broken'));
    writeFileSync(path('broken/half.nut'), bytes.subarray(0, bytes.length / 2));
    const found = levels(await openVideo(path('broken/half.nut'), 64));
    assert.ok(found.length > 5 && found.length < 20, `${found.length} frames`);
    assert.deepEqual(found, tens(...found.keys()));
  });
});
