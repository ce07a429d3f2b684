import assert from 'node:assert/strict';
import { decodeImage, identifyImage } from '../../src/image/decode.js';
import { readBin } from '../support/fixtures.js';
import { decode, decodeReference, frames, goldens, PROCESSOR, referenceImages, sha256 } from './support.js';

describe('decoding', () => {
  it('reference images: bit for bit what Pillow decodes, JPEG, CMYK and EXIF files included', async () => {
    const images = referenceImages();
    for (const { file, width, height, decoded } of images) {
      const image = await decodeReference(file);
      assert.deepEqual([image.width, image.height], [width, height], file);
      assert.equal(sha256(image.data), decoded.sha256, file);
    }
    console.log(`      ${images.length} images, 0 bytes differ`);
  });

  it('GIF animations, WebP, tiny JPEGs of all samplings, odd PNG modes: bit for bit Pillow 12.3', async () => {
    let count = 0;
    for (const [name, golden, bytes] of goldens()) {
      if (!golden.frames) continue;
      const images = await frames(bytes, { file: name });
      assert.deepEqual(
        images.map(({ width, height }) => [width, height]),
        golden.sizes,
        name,
      );
      assert.deepEqual(
        images.map(({ data }) => sha256(data)),
        golden.frames,
        name,
      );
      const first = await decode(bytes);
      assert.equal(sha256(first.data), golden.frames[0], `${name}: first frame`);
      count += images.length;
    }
    console.log(`      ${count} frames, 0 bytes differ`);
  });

  it('turns images as EXIF or XMP ask, and only when asked', async () => {
    let count = 0;
    for (const [name, golden, bytes] of goldens()) {
      if (!golden.turned) continue;
      const image = await decodeImage(bytes, {});
      assert.deepEqual([image.width, image.height], golden.turned_size, name);
      assert.equal(sha256(image.data), golden.turned, name);
      count++;
    }
    assert.equal(count, 18);
  });

  it('says what is in a header without decoding', async () => {
    const facts = async (file: string) => {
      const { format, kind, frames: n, orientation } = await identifyImage(readBin(`${PROCESSOR}images/${file}`));
      return `${format}, ${kind}, ${n}, ${orientation}`;
    };
    assert.equal(await facts('jpeg_exif_orientation6.jpg'), 'jpeg, baseline, YCbCr 2x2 1x1 1x1, 1, 6');
    assert.equal(await facts('jpeg_progressive_444_optimized_q60.jpg'), 'jpeg, progressive, YCbCr 1x1 1x1 1x1, 1, 1');
    assert.equal(await facts('jpeg_cmyk_q85.jpg'), 'jpeg, baseline, CMYK 1x1 1x1 1x1 1x1, 1, 1');
    assert.equal(await facts('png_palette_4bit_trns_interlaced.png'), 'png, 4-bit palette, interlaced, 1, 1');
    for (const [name, golden, bytes] of goldens()) {
      const info = await identifyImage(bytes);
      if (golden.sizes)
        assert.deepEqual([info.width, info.height, info.frames], [...golden.sizes[0]!, golden.sizes.length]);
      else assert.deepEqual([name, info.kind], ['animated.webp', 'animated']);
    }
  });

  it('leaves no trace of the WebP codec in the global scope and nothing on the console', async () => {
    const [, , bytes] = goldens().find(([name]) => name === 'lossy.webp')!;
    const before = Object.getOwnPropertyNames(globalThis);
    const [log, error] = [console.log, console.error];
    const lines: unknown[] = [];
    console.log = console.error = (...values) => lines.push(values);
    try {
      await Promise.all([decode(bytes), decode(bytes.slice(0, -40)).catch(() => undefined), decode(bytes)]);
    } finally {
      [console.log, console.error] = [log, error];
    }
    assert.deepEqual(Object.getOwnPropertyNames(globalThis), before);
    assert.deepEqual(lines, []);
  });

  it('counts pixels before decoding, all frames of an animation together', async () => {
    const [, golden, bytes] = goldens().find(([name]) => name === 'turning.gif')!;
    const pixels = golden.sizes!.reduce((sum, [width, height]) => sum + width * height, 0);
    assert.equal((await frames(bytes, { maxPixels: pixels })).length, golden.sizes!.length);
    await assert.rejects(frames(bytes, { maxPixels: pixels - 1 }), { name: 'ImageError', code: 'image-too-large' });
    await assert.rejects(decode(bytes, { maxPixels: 48 * 36 - 1 }), { name: 'ImageError', code: 'image-too-large' });
    await assert.rejects(decode(bytes, { maxPixels: 0 }), { name: 'OptionError', path: 'maxPixels' });
  });
});
