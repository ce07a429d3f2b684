import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { ImageError } from '../../src/errors.js';
import { decodeImage, identifyImage } from '../../src/image/decode.js';
import { readJson } from '../support/fixtures.js';
import { sha256 } from './support.js';

interface Entry {
  readonly base64: string;
  readonly width?: number;
  readonly height?: number;
  readonly sha256?: string;
}

const files = Object.entries(readJson<Record<string, Entry>>(fileURLToPath(new URL('tiff.json', import.meta.url))));
const bytesOf = ({ base64 }: Entry) => new Uint8Array(Buffer.from(base64, 'base64'));

/** Kinds that are not read although Pillow reads some of them: an error, never wrong pixels. */
const REFUSED = /^(16-bit gray, white is zero|signed|float|32-bit|16-bit CMYK|YCbCr|Lab),/;

describe('TIFF as Pillow reads it', () => {
  it('strips, tiles, planes, predictor, orientation, few and many bits, all compressions: not a byte differs', async () => {
    let count = 0;
    for (const [name, entry] of files) {
      if (REFUSED.test(name)) continue;
      const image = await decodeImage(bytesOf(entry), { file: name });
      assert.deepEqual([image.width, image.height], [entry.width, entry.height], name);
      assert.equal(sha256(image.data), entry.sha256, name);
      count++;
    }
    assert.ok(count > 95, `${count}`);
    console.log(`      ${count} files, 0 bytes differ`);
  });

  it('other kinds are unsupported, seen in the header', async () => {
    let count = 0;
    for (const [name, entry] of files) {
      if (!REFUSED.test(name)) continue;
      for (const work of [decodeImage(bytesOf(entry)), identifyImage(bytesOf(entry))]) {
        await assert.rejects(work, (error) => error instanceof ImageError && error.unsupported === true, name);
      }
      count++;
    }
    assert.ok(count > 15, `${count}`);
  });

  it('a file that is cut anywhere in its pixels is refused', async () => {
    let count = 0;
    for (const [name, entry] of files) {
      const bytes = bytesOf(entry);
      if (REFUSED.test(name) || !/tiles|strips/.test(name)) continue;
      const cut = bytes.subarray(0, bytes.length - Math.ceil(bytes.length / 8));
      await assert.rejects(decodeImage(cut), ImageError, name);
      count++;
    }
    assert.ok(count > 30, `${count}`);
  });

  it('an image without a header, or with sides, tiles or lists that cannot be, is refused before it costs anything', async () => {
    const [, entry] = files.find(([name]) => /^RGB, .*tiles/.test(name)) ?? files.find(([name]) => /tiles/.test(name))!;
    const whole = bytesOf(entry);
    const little = whole[0] === 0x49;
    const view = new DataView(whole.buffer);
    const set = (tag: number, value: number, field: 4 | 8) => {
      const bytes = whole.slice();
      for (let at = 10; at < 10 + 12 * view.getUint16(8, little); at += 12) {
        if (view.getUint16(at, little) !== tag) continue;
        const changed = new DataView(bytes.buffer);
        const isShort = field === 8 && view.getUint16(at + 2, little) === 3;
        if (isShort) changed.setUint16(at + 8, value, little);
        else changed.setUint32(at + field, value, little);
      }
      return bytes;
    };
    for (const broken of [
      set(256, 0, 8),
      set(256, 0xffffffff, 8),
      set(257, 100_000, 8),
      set(322, 0, 8),
      set(323, 65_535, 8),
      set(324, 0xffffffff, 4),
      set(324, 0, 4),
      whole.subarray(0, 10),
    ]) {
      await assert.rejects(decodeImage(broken), ImageError);
    }
  });
});
