import assert from 'node:assert/strict';
import { deflateSync } from 'node:zlib';
import { ImageError } from '../../src/errors.js';
import { runInSlices } from '../../src/event-loop.js';
import { decodeBmp, readBmp } from '../../src/image/bmp.js';
import { decodeImage, identifyImage } from '../../src/image/decode.js';
import { applyOrientation } from '../../src/image/exif.js';
import { paintGif, readGif } from '../../src/image/gif.js';
import { defaultImageConfig } from '../../src/image/image-config.js';
import { readJpegHeader } from '../../src/image/jpeg/decode-jpeg.js';
import { inflateZlib } from '../../src/image/png/inflate.js';
import { preprocessSteps } from '../../src/image/preprocess.js';
import { resizeSteps } from '../../src/image/resize.js';
import { decodeTiff, readTiff } from '../../src/image/tiff.js';
import { readBin } from '../support/fixtures.js';
import { countWork, PNG_SIGNATURE, PROCESSOR, png, pngChunk, referenceImages } from './support.js';

/** Deflate's bit order: least significant first. */
class BitWriter {
  readonly bits: number[] = [];
  put(value: number, count: number): this {
    for (let i = 0; i < count; i++) this.bits.push((value >> i) & 1);
    return this;
  }
}

/** A zlib stream that begins with a block, repeated `count` times. */
function repeatBlock(bits: readonly number[], count: number): Uint8Array {
  const bytes = new Uint8Array(2 + Math.ceil((bits.length * count) / 8));
  bytes.set([0x78, 0x9c]);
  for (let i = 0; i < bits.length * count; i++) if (bits[i % bits.length]) bytes[2 + (i >> 3)]! |= 1 << (i & 7);
  return bytes;
}

/** Ten bits: not the last block, fixed codes, end of block. */
const EMPTY_FIXED = new BitWriter().put(0, 1).put(1, 2).put(0, 7).bits;

/** Ninety bits: 257 literal codes of which only the end of block is used, one distance code. */
function emptyDynamic(): number[] {
  const writer = new BitWriter().put(0, 1).put(2, 2).put(0, 5).put(0, 5).put(14, 4);
  const order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1];
  for (const symbol of order) writer.put(symbol === 18 || symbol === 1 ? 1 : 0, 3);
  writer.put(1, 1).put(127, 7).put(1, 1).put(107, 7); // 138 and 118 zeros
  return writer.put(0, 1).put(0, 1).put(0, 1).bits;
}

const codeOf = (error: unknown) => (error instanceof ImageError ? error.code : String(error));

describe('work is in proportion to the pixels', () => {
  for (const [name, data] of [
    ['800,000 empty fixed blocks', repeatBlock(EMPTY_FIXED, 800_000)],
    ['10 MB of empty dynamic blocks', repeatBlock(emptyDynamic(), 888_888)],
  ] as const) {
    it(`PNG: ${name} end after a few hundred`, () => {
      const { steps, error } = countWork(png(16, 16, 8, 2, [data]));
      assert.equal(codeOf(error), 'zlib-blocks');
      // 64 for any image, 4 a row, one for 256 bytes of pixels
      assert.ok(steps <= 64 + 4 * 16 + Math.ceil((16 * 49) / 256), `${steps} blocks`);
    });
  }

  it('PNG: blocks are what is counted: the same stream without a bound takes them all', () => {
    const work = inflateZlib([repeatBlock(EMPTY_FIXED, 5000)], { limit: 1, blocks: 1e9 }, () => undefined);
    let steps = 0;
    assert.throws(() => {
      while (!work.next().done) steps++;
    });
    assert.ok(steps >= 5000, `${steps}`);
  });

  it('PNG: of a million empty IDAT chunks those are walked that any image may have', async () => {
    const empty = pngChunk('IDAT', Buffer.alloc(0));
    const start = png(1, 1, 8, 2, [deflateSync(Buffer.alloc(4))]).subarray(0, PNG_SIGNATURE.length + 25);
    const file = Buffer.concat([start, Buffer.alloc(1_000_000 * empty.length, empty)]);
    await assert.rejects(decodeImage(file), (error: ImageError) => {
      assert.equal(error.code, 'png-chunks');
      assert.ok(error.offset! <= 33 + 12 * (65_536 + 3), `${error.offset}`);
      return true;
    });
  });

  it('PNG: compressed bytes behind the pixels are not read', () => {
    const pixels = deflateSync(Buffer.alloc(16 * 49));
    const { steps, error } = countWork(png(16, 16, 8, 2, [pixels, Buffer.alloc(20_000_000)]));
    assert.deepEqual([steps <= 4, error], [true, undefined]);
  });

  it('PNG: a bomb stops within one piece of the limit', () => {
    let bytes = 0;
    const work = inflateZlib([deflateSync(Buffer.alloc(200_000_000))], { limit: 1000, blocks: 1e6 }, (piece) => {
      bytes += piece.length;
    });
    let step = work.next();
    while (!step.done) step = work.next();
    assert.equal(step.value, 'longer');
    assert.ok(bytes <= 2 ** 19, `${bytes} bytes`);
  });

  it('a side that cannot be resized is refused from the header', async () => {
    for (const [width, height] of [
      [1, 100_000_000],
      [100_000_000, 1],
      [2 ** 20 + 1, 1],
    ] as const) {
      const file = png(width, height, 8, 0, [deflateSync(Buffer.alloc(10))]);
      const refused = { name: 'ImageError', code: 'image-size', offset: 16 };
      await assert.rejects(decodeImage(file), refused);
      await assert.rejects(identifyImage(file), refused);
    }
    assert.equal((await identifyImage(png(2 ** 20, 1, 8, 0, [deflateSync(Buffer.alloc(10))]))).width, 2 ** 20);
  });

  it('JPEG: four components in as many scans as fit stop at 10 visits a block', () => {
    const side = 2048;
    const { blocks, error } = countWork(fourColors(side, side, 400));
    assert.equal(codeOf(error), 'jpeg-scans');
    assert.ok(blocks <= Math.max(4e6, 10 * 4 * (side / 8) ** 2), `${blocks} blocks`);
    const whole = countWork(fourColors(256, 256, 20));
    assert.equal(whole.error, undefined);
    assert.ok(whole.blocks > 20 * 4 * 32 ** 2, `${whole.blocks} blocks`);
  });

  it('JPEG: the scans of real encoders stay far below the bound', () => {
    let most = 0;
    for (const file of referenceImages().map(({ file }) => file)) {
      if (!/progressive.*jpg$/.test(file)) continue;
      const bytes = readBin(`${PROCESSOR}${file}`);
      const { frame } = readJpegHeader(bytes, 1e8);
      const all = frame.components.reduce((sum, { stride, rows }) => sum + stride * rows, 0);
      const { blocks, error } = countWork(bytes);
      assert.equal(error, undefined);
      most = Math.max(most, blocks / all);
    }
    // the transform and the output are counted beside the scans
    assert.ok(most > 3 && most < 9, `${most} visits a block`);
    console.log(`      ${most.toFixed(1)} visits a block`);
  });

  it('a step of a large image is a few hundred thousand pixels at the most, so that an abort waits for no more', () => {
    const side = 1500;
    const lzw = stripTiff(side, 5, lzwRun(side * side));
    const packBits = stripTiff(side, 32773, Buffer.alloc(Math.ceil((side * side) / 128) * 2, Buffer.from([129, 7])));
    const work = {
      gif: paintGif(readGif(blackGif(side), 1e8, 1), 1e8, () => undefined),
      bmp: decodeBmp(plainBmp(side), readBmp(plainBmp(side), 1e8)),
      lzw: decodeTiff(lzw, readTiff(lzw, 1e8)),
      packBits: decodeTiff(packBits, readTiff(packBits, 1e8)),
      orientation: applyOrientation({ data: new Uint8Array(side * side * 3), width: side, height: side }, 6),
    };
    for (const [name, steps] of Object.entries(work)) {
      let count = 0;
      while (!steps.next().done) count++;
      assert.ok(count >= (side * side) / 2 ** 19, `${name}: ${count} steps`);
    }
    for (const bytes of [
      png(side, side, 8, 2, [deflateSync(Buffer.alloc(side * (1 + side * 3)), { level: 1 })]),
      fourColors(side, side, 1),
    ]) {
      const { steps, error } = countWork(bytes);
      assert.equal(error, undefined);
      assert.ok(steps >= (side * side) / 2 ** 19, `${steps} steps`);
    }
  });

  it('a step of a resize is about a million multiplications, also where one row sums up the whole image', () => {
    const [width, height] = [2000, 1500];
    const image = { data: new Uint8Array(width * height * 3), width, height };
    for (const [toWidth, toHeight] of [
      [224, 168],
      [width, 1],
      [1, height],
      [1, 1],
      [width, 168],
    ] as const) {
      const work = resizeSteps(image, toWidth, toHeight, 'bicubic');
      let yields = 0;
      while (!work.next().done) yields++;
      const taps = (side: number, to: number) => (side === to ? 0 : Math.min(side, (4 * side) / to)); // bicubic's support, stretched
      const multiplications = toWidth * height * taps(width, toWidth) + toWidth * toHeight * taps(height, toHeight);
      assert.ok(yields > multiplications / 2 ** 21 - 2, `${toWidth} by ${toHeight}: ${yields} of ${multiplications}`);
      assert.ok(yields < multiplications / 2 ** 18, `${toWidth} by ${toHeight}: ${yields} yields`);
    }
  });

  it('an abort is noticed while a large image is made small', async () => {
    const image = { data: new Uint8Array(9e6 * 3), width: 3000, height: 3000 };
    const reason = new Error('enough');
    const controller = new AbortController();
    const work = runInSlices(preprocessSteps([image], defaultImageConfig()), controller.signal);
    setTimeout(() => controller.abort(reason)); // has an effect only where the work pauses
    await assert.rejects(work, reason);
  });

  it('an abort is noticed between slices of a large image, in every format that is decoded in slices', async () => {
    const side = 3000;
    const plain = png(side, side, 8, 2, [deflateSync(Buffer.alloc(side * (1 + side * 3)), { level: 1 })]);
    const files = [plain, blackGif(side)];
    files.push(Buffer.from(fourColors(side, side, 20)));
    files.push(plainBmp(side), stripTiff(side, 5, lzwRun(side * side)));
    for (const file of files) {
      let checks = 0;
      const signal = {
        throwIfAborted() {
          if (++checks === 3) throw new Error('enough');
        },
      } as AbortSignal;
      await assert.rejects(decodeImage(file, { signal }), /enough/);
      assert.equal(checks, 3);
    }
  });
});

function plainBmp(side: number): Buffer {
  const bmp = Buffer.alloc(54 + side * side * 3);
  bmp.write('BM');
  bmp.writeUInt32LE(54, 10);
  bmp.writeUInt32LE(40, 14);
  bmp.writeUInt32LE(side, 18);
  bmp.writeUInt32LE(side, 22);
  bmp.writeUInt16LE(24, 28);
  return bmp;
}

/** A square gray TIFF of one strip. */
function stripTiff(side: number, compression: number, strip: Uint8Array): Buffer {
  const fields = [
    ...[
      [256, side],
      [257, side],
      [258, 8],
      [259, compression],
      [262, 1],
    ],
    ...[
      [273, 8],
      [277, 1],
      [278, side],
      [279, strip.length],
    ],
  ] as const;
  const directory = Buffer.alloc(2 + fields.length * 12 + 4);
  directory.writeUInt16LE(fields.length);
  for (const [i, [tag, value]] of fields.entries()) {
    directory.writeUInt16LE(tag!, 2 + i * 12);
    directory.writeUInt16LE(4, 4 + i * 12);
    directory.writeUInt32LE(1, 6 + i * 12);
    directory.writeUInt32LE(value!, 10 + i * 12);
  }
  const head = Buffer.from('II*\0\0\0\0\0', 'latin1');
  head.writeUInt32LE(8 + strip.length, 4);
  return Buffer.concat([head, strip, directory]);
}

/** TIFF's LZW of so many zeros: each code stands for one more than the one before it. */
function lzwRun(count: number): Buffer {
  const bytes: number[] = [];
  let [hold, held] = [0, 0];
  const put = (code: number, bits: number) => {
    hold = ((hold << bits) | code) & 0xffffff;
    for (held += bits; held >= 8; held -= 8) bytes.push((hold >> (held - 8)) & 255);
  };
  let bits = 9;
  for (let filled = 0; filled < count; ) {
    put(256, bits);
    bits = 9;
    put(0, bits);
    filled++;
    for (let next = 258; next < 4093 && filled < count; ) {
      filled += next - 256;
      put(next++, bits);
      if (next + 1 >= 1 << bits && bits < 12) bits++;
    }
  }
  put(257, bits);
  put(0, 8);
  return Buffer.from(bytes);
}

/** A square GIF of one color: each code stands for one pixel more than the one before it. */
function blackGif(side: number): Buffer {
  const bytes: number[] = [];
  let [hold, held] = [0, 0];
  const put = (code: number, bits: number) => {
    hold |= code << held;
    for (held += bits; held >= 8; held -= 8) {
      bytes.push(hold & 255);
      hold >>>= 8;
    }
  };
  let bits = 9;
  for (let filled = 0; filled < side * side; ) {
    put(256, bits); // clear
    bits = 9;
    put(0, bits);
    filled++;
    for (let next = 258; next < 4095 && filled < side * side; ) {
      filled += next - 256;
      put(next++, bits);
      if (next === 1 << bits && bits < 12) bits++;
    }
  }
  put(0, 16);
  const blocks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += 255) {
    const block = bytes.slice(at, at + 255);
    blocks.push(Buffer.from([block.length, ...block]));
  }
  const [head, frame] = [Buffer.from('GIF89a\0\0\0\0\0\0\0', 'latin1'), Buffer.alloc(11, 0)];
  for (const [part, at] of [
    [head, 6],
    [head, 8],
    [frame, 5],
    [frame, 7],
  ] as const)
    part.writeUInt16LE(side, at);
  frame[0] = 0x2c;
  frame[10] = 8;
  return Buffer.concat([head, frame, ...blocks, Buffer.from([0, 0x3b])]);
}

/** A progressive CMYK JPEG of `bands` scans for each of its components, each of which says in a few bytes that nothing is in it. */
export function fourColors(width: number, height: number, bands: number): Uint8Array {
  const bytes: number[] = [0xff, 0xd8];
  const segment = (marker: number, ...data: number[]) => {
    bytes.push(0xff, marker, (data.length + 2) >> 8, (data.length + 2) & 255, ...data);
  };
  const oneCode = [1, ...new Array<number>(15).fill(0)];
  segment(0xdb, 0, ...new Array<number>(64).fill(1));
  const components = [1, 2, 3, 4].flatMap((id) => [id, 0x11, 0]);
  segment(0xc2, 8, height >> 8, height & 255, width >> 8, width & 255, 4, ...components);
  segment(0xc4, 0x00, ...oneCode, 0x00);
  segment(0xc4, 0x10, ...oneCode, 0xe0); // 0 and 14 bits: a run of 16384 to 32767 empty blocks
  const blocks = Math.ceil(width / 8) * Math.ceil(height / 8);
  segment(0xda, 4, 1, 0, 2, 0, 3, 0, 4, 0, 0, 0, 0);
  for (let i = 0; i < blocks * 4; i += 8) bytes.push(0);
  const runs = `${'0'.padEnd(15, '1').repeat(Math.ceil(blocks / 32767))}1111111`.match(/.{8}/g)!;
  const empty = runs.flatMap((eight) => (eight === '11111111' ? [255, 0] : [Number.parseInt(eight, 2)]));
  for (let scan = 0; scan < bands * 4; scan++) {
    const band = 1 + (Math.floor(scan / 4) % 63);
    segment(0xda, 1, 1 + (scan % 4), 0, band, band, 0);
    bytes.push(...empty);
  }
  bytes.push(0xff, 0xd9);
  return Uint8Array.from(bytes);
}
