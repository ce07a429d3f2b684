import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { ImageError } from '../../src/errors.js';
import { decodeFrames, decodeImage, identifyImage } from '../../src/image/decode.js';
import { parseProcessorConfig } from '../../src/image/image-config.js';
import { preprocess, toChannelsFirst } from '../../src/image/preprocess.js';
import { type ResizeFilter, resize } from '../../src/image/resize.js';
import { FIXTURES, readBin } from '../support/fixtures.js';
import { PROCESSOR, sha256 } from './support.js';

const FOLDER = new URL('../fixtures/real/', import.meta.url);
const bytesOf = (file: string) => new Uint8Array(readFileSync(new URL(file, FOLDER)));
const jsonOf = (file: string) => JSON.parse(readFileSync(new URL(file, FOLDER), 'utf8'));

interface Manifest {
  readonly pictures: readonly {
    readonly file: string;
    readonly kind: string;
    readonly expect: 'decodes' | 'refused';
    readonly width: number;
    readonly height: number;
    readonly sha256: string;
  }[];
  readonly resizes: readonly {
    readonly file: string;
    readonly width: number;
    readonly height: number;
    readonly resample: ResizeFilter;
    readonly sha256: string;
  }[];
  readonly processors: readonly { readonly folder: string; readonly kind: string }[];
}

const { pictures, resizes, processors } = jsonOf('manifest.json') as Manifest;

describe('images as people have them, against Pillow 12.3', () => {
  for (const entry of pictures) {
    it(`${entry.expect}: ${entry.file} (${entry.kind})`, async () => {
      if (entry.expect === 'refused') {
        await assert.rejects(decodeImage(bytesOf(entry.file)), ImageError);
        return;
      }
      const image = await decodeImage(bytesOf(entry.file));
      assert.deepEqual([image.width, image.height], [entry.width, entry.height]);
      if (!entry.file.endsWith('.avif')) assert.equal(sha256(image.data), entry.sha256);
      const mended = /damage|damaged|stray|no DHT|resynchronises|end early/.test(entry.kind);
      assert.equal(image.warnings.length > 0, mended, image.warnings.join('; '));
    });
  }

  it('a progressive file whose scan ends early is mended where its end marker is there, and refused where it is not', async () => {
    const whole = readBin(`${PROCESSOR}images/jpeg_progressive_420_q85.jpg`);
    const scan = whole.lastIndexOf(0xda) - 1;
    const early = Buffer.concat([whole.subarray(0, scan + 12), Buffer.from([0xff, 0xd9])]);
    const { warnings } = await decodeImage(new Uint8Array(early));
    assert.ok(
      warnings.some((warning) => /end too early/.test(warning)),
      warnings.join('; '),
    );
    const cut = Buffer.concat([early.subarray(0, -2), Buffer.from([0xff, 0xfe, 0, 2])]);
    await assert.rejects(decodeImage(new Uint8Array(cut)), { name: 'ImageError', code: 'jpeg-truncated' });
    // whole, but for the end marker
    await assert.rejects(decodeImage(whole.subarray(0, -2)), { code: 'jpeg-truncated' });
  });

  it('a file of one scan without its end marker is read where something follows the image, as Pillow has it', async () => {
    const whole = readBin(`${PROCESSOR}images/jpeg_420_q85.jpg`);
    const { data } = await decodeImage(whole);
    const ending = (...bytes: number[]) => new Uint8Array(Buffer.concat([whole.subarray(0, -2), Buffer.from(bytes)]));
    for (const cut of [ending(), ending(0xff), ending(0), ending(0xff, 0x02), ending(0xff, 0xdd, 0, 9, 1, 1)]) {
      await assert.rejects(decodeImage(cut), { name: 'ImageError' });
    }
    for (const read of [
      ending(0xff, 0xe1, 0, 99, 1),
      ending(0xff, 0xdb),
      ending(0xff, 0xd0),
      ending(...new Array(8).fill(0)),
    ]) {
      const image = await decodeImage(read);
      assert.deepEqual(image.warnings, ['the end marker is missing']);
      assert.equal(sha256(image.data), sha256(data));
    }
  });

  it('damage of an animation is a warning of each of its frames', async () => {
    const damaged = bytesOf('pictures/animated.png').slice(0, -4);
    const frames = await decodeFrames(damaged);
    assert.ok(frames.length > 1 && frames.every(({ warnings }) => warnings.length > 0));
    assert.deepEqual(
      frames.map(({ data }) => sha256(data)),
      (await decodeFrames(bytesOf('pictures/animated.png'))).map(({ data }) => sha256(data)),
    );
  });

  for (const { file, width, height, resample, sha256: expected } of resizes) {
    it(`resize of ${file} to ${width} by ${height}, ${resample}`, async () => {
      assert.equal(sha256(resize(await decodeImage(bytesOf(file)), width, height, resample).data), expected);
    });
  }

  it('resize with the hamming filter, whose constants Pillow has in single precision', () => {
    let state = 1;
    const data = Uint8Array.from({ length: 64 * 48 * 3 }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state >>> 24;
    });
    const image = { data, width: 64, height: 48 };
    for (const [width, expected] of [
      [50, 'afb9653324a1024cb1994eb8d6e2e5539578173f80e579b0fc2548879320ff14'],
      [106, 'ac184d87b8f1475efb2b9822c1e564377efdad52e67f46d3e9725a2f050a9a56'],
    ] as const) {
      assert.equal(sha256(resize(image, width, 16, 'hamming').data), expected);
    }
  });

  for (const { folder, kind } of processors) {
    it(`processor ${folder} (${kind})`, async () => {
      const config = parseProcessorConfig(jsonOf(`${folder}/processor_config.json`), 'processor_config.json');
      const values = preprocess([await decodeImage(bytesOf('processor-picture.png'))], config!);
      const stored = bytesOf(`${folder}/expected.safetensors`);
      const start = 8 + Number(new DataView(stored.buffer).getBigUint64(0, true));
      const { pixel_values } = JSON.parse(new TextDecoder().decode(stored.subarray(8, start)));
      const [from, to] = pixel_values.data_offsets;
      assert.equal(sha256(toChannelsFirst(values)), sha256(stored.subarray(start + from, start + to)));
    });
  }

  it('animated WebP and PNG have several frames, the first of which is the image', async () => {
    for (const file of ['pictures/animated.webp', 'pictures/animated.png']) {
      const frames = await decodeFrames(bytesOf(file));
      assert.ok(frames.length > 1, file);
      assert.equal(sha256(frames[0]!.data), sha256((await decodeImage(bytesOf(file))).data));
    }
  });

  it('an aborted decode throws the reason', async () => {
    const signal = AbortSignal.abort(new Error('enough'));
    await assert.rejects(decodeImage(bytesOf('pictures/named.jfif'), { signal }), /enough/);
  });
});

describe('damaged JPEGs', () => {
  it('have the pixels of Pillow 12.3, and are refused where it refuses them', async () => {
    const cases = JSON.parse(readFileSync(`${FIXTURES}damaged-jpegs.json`, 'utf8')) as [string, string | null][];
    for (const [base64, hash] of cases) {
      const decoded = decodeImage(Buffer.from(base64, 'base64'));
      if (hash === null) await assert.rejects(decoded, { name: 'ImageError' });
      else assert.equal(sha256((await decoded).data), hash);
    }
    assert.ok(cases.length > 40);
  });
});

describe('files cut behind their last row', () => {
  it('have the pixels of Pillow, with a warning where more than an end block is missing, and are refused where it refuses them', async () => {
    const cases = JSON.parse(readFileSync(`${FIXTURES}cut-files.json`, 'utf8')) as [string, string, string | null][];
    for (const [name, base64, hash] of cases) {
      const decoded = decodeImage(Buffer.from(base64, 'base64'), { file: name });
      if (hash === null) await assert.rejects(decoded, { name: 'ImageError' }, name);
      else {
        const { data, warnings } = await decoded;
        assert.equal(sha256(data), hash, name);
        // a GIF without its end block is as good as one with it
        assert.ok(warnings.length > 0 || name.startsWith('GIF'), name);
      }
    }
    const read = cases.filter(([, , hash]) => hash !== null).length;
    console.log(`      ${read} of ${cases.length} read, the others refused`);
    assert.ok(read > 40 && cases.length - read > 20);
  });
});

describe('animations', () => {
  const cases = JSON.parse(readFileSync(`${FIXTURES}frames.json`, 'utf8')) as [string, string, string[]][];
  it('have the frames of Pillow, the first of which is the image', async () => {
    for (const [name, base64, hashes] of cases) {
      const bytes = Buffer.from(base64, 'base64');
      const frames = (await decodeFrames(bytes)).map(({ data }) => sha256(data));
      assert.deepEqual(frames, hashes, name);
      assert.equal(sha256((await decodeImage(bytes)).data), hashes[0], name);
      assert.equal((await identifyImage(bytes)).frames, hashes.length, name);
    }
    for (const kind of ['webp', 'png', 'gif']) assert.ok(cases.filter(([name]) => name.startsWith(kind)).length > 7);
  });
});

describe('BMP in runs of palette indices', () => {
  it('has the pixels of Pillow, and is refused where Pillow refuses it', async () => {
    const cases = JSON.parse(readFileSync(`${FIXTURES}bmp-runs.json`, 'utf8')) as [
      base64: string,
      hash: string | null,
    ][];
    for (const [base64, hash] of cases) {
      const decoded = decodeImage(Buffer.from(base64, 'base64'));
      if (hash === null) await assert.rejects(decoded, { name: 'ImageError', code: 'bmp-truncated' });
      else assert.equal(sha256((await decoded).data), hash);
    }
    console.log(`      ${cases.length} files, ${cases.filter(([, hash]) => hash === null).length} of them refused`);
    assert.ok(cases.length > 30);
  });
});

describe('kinds of TIFF', () => {
  it('have the pixels of Pillow, or are refused by a typed error that says so: never other pixels', async () => {
    const cases = JSON.parse(readFileSync(`${FIXTURES}tiff-kinds.json`, 'utf8')) as [string, string, string][];
    const read: string[] = [];
    for (const [name, base64, hash] of cases) {
      const image = await decodeImage(Buffer.from(base64, 'base64')).catch((error: ImageError) => {
        assert.equal(error.unsupported, true, `${name}: ${error.message}`);
        return undefined;
      });
      if (image === undefined) continue;
      assert.equal(sha256(image.data), hash, name);
      read.push(name);
    }
    console.log(`      ${read.length} of ${cases.length} read, the others refused`);
    for (const kind of ['1 None', '1 tiff_lzw', 'L None', 'P None', 'RGBA', 'CMYK', 'I;16 tiff_lzw', 'orientation 6']) {
      assert.ok(
        read.some((name) => name.startsWith(kind)),
        kind,
      );
    }
  });
});

describe('kinds of AVIF', () => {
  const cases = JSON.parse(readFileSync(`${FIXTURES}avif-kinds.json`, 'utf8')) as [string, string, string][];
  for (const [name, avif, png] of cases) {
    it(`${name}: within 2 levels of Pillow 12.3, 3 for more than 8 bits; turned and mirrored as it does`, async () => {
      const image = await decodeImage(Buffer.from(avif, 'base64'));
      const expected = await decodeImage(Buffer.from(png, 'base64'));
      assert.deepEqual([image.width, image.height], [expected.width, expected.height]);
      const most = expected.data.reduce((max, value, i) => Math.max(max, Math.abs(value - image.data[i]!)), 0);
      assert.ok(most <= (/^1[02] bits/.test(name) ? 3 : 2), `${most} levels`);
      if (name === 'lossless' || name === '8 bits 400') assert.equal(most, 0);
    });
  }

  it('what they code is within the limit of their own pixels; a small size before large data is refused by the header of the data', async () => {
    for (const [name, avif] of cases) {
      const bytes = new Uint8Array(Buffer.from(avif, 'base64'));
      const { width, height } = await identifyImage(bytes);
      await identifyImage(bytes, { maxPixels: width * height, file: name });
      const text = Buffer.from(bytes).toString('latin1');
      const view = new DataView(bytes.buffer);
      for (let at = text.indexOf('ispe'); at >= 0; at = text.indexOf('ispe', at + 4)) {
        view.setUint32(at + 8, 1);
        view.setUint32(at + 12, 1);
      }
      const maxPixels = Math.ceil((width * height) / 4) - 1;
      await assert.rejects(identifyImage(bytes, { maxPixels, file: name }), { code: 'image-too-large', file: name });
    }
  });

  it('frames that are coded and never shown count', async () => {
    const [, avif] = cases.find(([name]) => name === '10 bits 420')!;
    const bytes = Buffer.from(avif, 'base64');
    const { width, height } = await identifyImage(bytes);
    const iloc = bytes.indexOf('iloc') + 4; // one item of one extent, by 4 bytes each
    const [offset, length] = [bytes.readUInt32BE(iloc + 14), bytes.readUInt32BE(iloc + 18)];
    assert.equal(offset + length, bytes.length);
    const frame = bytes.subarray(bytes.indexOf('32a801', offset, 'hex')); // behind the sequence header: type 6, with its size
    const repeated = (times: number): Buffer => {
      const file = Buffer.concat([bytes, ...Array.from({ length: times - 1 }, () => frame)]);
      file.writeUInt32BE(file.length - offset, iloc + 18);
      return file;
    };
    await identifyImage(repeated(4), { maxPixels: width * height });
    await assert.rejects(identifyImage(repeated(5), { maxPixels: width * height }), { code: 'image-too-large' });
  });

  const metadata = JSON.parse(readFileSync(`${FIXTURES}avif-metadata.json`, 'utf8')) as [
    string,
    string,
    number,
    number,
  ][];
  for (const [name, base64, expected, count] of metadata) {
    it(`${name}: orientation ${expected}, frames: ${count}`, async () => {
      const bytes = Buffer.from(base64, 'base64');
      const { orientation, frames, kind } = await identifyImage(bytes);
      assert.deepEqual([orientation, frames, kind], [expected, count, count > 1 ? 'animated' : 'still']);
      const { width, height } = await decodeImage(bytes);
      assert.deepEqual([width, height], expected >= 5 ? [8, 12] : [12, 8]);
      if (count === 1) assert.equal((await decodeFrames(bytes)).length, 1);
      else await assert.rejects(decodeFrames(bytes), { name: 'ImageError', code: 'avif-frames', unsupported: true });
    });
  }

  it('the header says how the image is to be turned', async () => {
    const turned = cases.find(([name]) => name === 'irot 1')!;
    const { orientation, width, height } = await identifyImage(Buffer.from(turned[1], 'base64'));
    assert.deepEqual([orientation, width, height], [8, 33, 22]);
  });
});
