import assert from 'node:assert/strict';
import { ImageError } from '../../src/errors.js';
import { identifyImage } from '../../src/image/decode.js';
import { HOSTILE, readBin } from '../support/fixtures.js';
import { frames, goldens, PROCESSOR, seeded } from './support.js';

/** Small images of every format and kind. */
function seeds(): [string, Uint8Array][] {
  const hostile = [
    'ok_420.jpg',
    'ok_progressive.jpg',
    'ok_restart.jpg',
    'ok_ycck.jpg',
    'ok_animated.png',
    'ok_palette_trns.png',
  ];
  const reference = ['png_interlaced_tiny3x2.png', 'jpeg_restart_progressive_q70.jpg', 'png_1bit.png'];
  const golden = goldens().filter(([name]) =>
    ['random_03.gif', 'random_21.gif', 'exif_long.jpg', 'png_P.png'].includes(name),
  );
  return [
    ...hostile.map((name): [string, Uint8Array] => [name, readBin(`${HOSTILE}image/${name}`)]),
    ...reference.map((name): [string, Uint8Array] => [name, readBin(`${PROCESSOR}images/${name}`)]),
    ...golden.map(([name, , bytes]): [string, Uint8Array] => [name, bytes]),
  ];
}

/** An image or a typed error, soon; nothing else. */
async function survive(bytes: Uint8Array, what: string): Promise<boolean> {
  const start = performance.now();
  try {
    await identifyImage(bytes, { maxPixels: 1e6 });
    await frames(bytes, { maxPixels: 1e6, file: 'fuzz', orientation: true });
    return true;
  } catch (error) {
    assert.ok(error instanceof ImageError, `${what}: ${(error as Error).stack}`);
    assert.ok(!error.message.includes('\n') && error.message.length <= 300, what);
    return false;
  } finally {
    assert.ok(performance.now() - start < 2000, `${what}: slow`);
  }
}

describe('mutated images', () => {
  it('one to four changed bytes: an image or an ImageError', async () => {
    const random = seeded(20261123);
    let [images, errors] = [0, 0];
    for (const [name, bytes] of seeds()) {
      for (let round = 0; round < 600; round++) {
        const mutant = bytes.slice();
        const changes = 1 + Math.floor(random() * 4);
        for (let i = 0; i < changes; i++) {
          // half of the changes hit the headers, where they do most
          const reach = random() < 0.5 ? Math.min(700, mutant.length) : mutant.length;
          mutant[Math.floor(random() * reach)] = random() < 0.3 ? 255 : Math.floor(random() * 256);
        }
        if (await survive(mutant, `${name} round ${round}`)) images++;
        else errors++;
      }
    }
    console.log(`      ${images} images, ${errors} ImageErrors`);
    assert.ok(images > 100 && errors > 100);
  });

  it('every truncation: an error, unless only the end mark is lost', async () => {
    const accepted: string[] = [];
    for (const [name, bytes] of seeds().filter(([, { length }]) => length < 2000)) {
      for (let length = 0; length < bytes.length; length++) {
        if (await survive(bytes.subarray(0, length), `${name} cut at ${length}`))
          accepted.push(`${name} ${length - bytes.length}`);
      }
    }
    for (const line of accepted) {
      const [name, lost] = line.split(' ');
      // JPEG's EOI has 2 bytes, GIF's trailer 1; PNG's checksums and IEND 20; an animation may lose whole last frames
      if (name!.endsWith('.jpg')) assert.ok(Number(lost) >= -2, line);
      else if (!name!.endsWith('.gif'))
        assert.ok(Number(lost) >= (name!.endsWith('.png') ? -21 : -1) || name === 'ok_animated.png', line);
    }
    assert.ok(accepted.length > 0);
  });

  it('WebP: the same through the codec', async () => {
    const random = seeded(7);
    for (const [name, , bytes] of goldens().filter(([file]) => /^(lossy|alpha|lossless)\.webp$/.test(file))) {
      for (let round = 0; round < 40; round++) {
        const mutant = round < 10 ? bytes.slice(0, Math.floor(random() * bytes.length)) : bytes.slice();
        mutant[Math.floor(random() * mutant.length)] = Math.floor(random() * 256);
        await survive(mutant, `${name} round ${round}`);
      }
    }
  });

  it('noise after every magic number', async () => {
    const random = seeded(3);
    for (const [, bytes] of seeds()) {
      for (let round = 0; round < 30; round++) {
        const noise = Uint8Array.from({ length: 400 }, () => Math.floor(random() * 256));
        noise.set(bytes.subarray(0, 2 + Math.floor(random() * 60)));
        await survive(noise, `noise ${round}`);
      }
    }
  });

  it('floods of tiny parts cost linear time and no stack', async () => {
    const jpeg = readBin(`${HOSTILE}image/ok_420.jpg`);
    const repeat = (unit: readonly number[], times: number) =>
      Uint8Array.from({ length: unit.length * times }, (_, i) => unit[i % unit.length]!);
    const join = (...parts: Uint8Array[]) => new Uint8Array(Buffer.concat(parts));
    const body = jpeg.subarray(0, -2);
    const floods = [
      join(body, Uint8Array.of(0xff, 0xfe, 0, 2), repeat([0xff, 0], 1e6), jpeg.subarray(-2)),
      join(body, repeat([0xff, 0xfe, 0, 2], 5e5)),
      join(body, repeat([0xff], 2e6)),
      join(jpeg.subarray(0, 2), repeat([0xff, 0xd0], 1e6), jpeg.subarray(2)),
      join(new TextEncoder().encode('GIF89a'), Uint8Array.of(1, 0, 1, 0, 0, 0, 0), repeat([0x21, 0xfe, 0], 5e5)),
      join(new TextEncoder().encode('GIF89a'), repeat([0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 1, 0x44, 0], 1e5)),
      join(new TextEncoder().encode('RIFF\x08\x12\x7a\x00WEBP'), repeat([65, 65, 65, 65, 0, 0, 0, 0], 1e6)),
    ];
    for (const [i, flood] of floods.entries()) await survive(flood, `flood ${i}`);
  });
});
