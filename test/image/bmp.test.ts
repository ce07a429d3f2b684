import assert from 'node:assert/strict';
import { ImageError } from '../../src/errors.js';
import { decodeImage } from '../../src/image/decode.js';
import { seeded } from '../support/fuzz.js';

interface Parts {
  readonly width: number;
  readonly height: number;
  readonly bits: number;
  readonly compression?: number;
  /** Of the header: 12 is OS/2's first, 64 its second. */
  readonly size?: number;
  readonly masks?: readonly number[];
  /** RGB. */
  readonly palette?: readonly (readonly [number, number, number])[];
  readonly pixels: Uint8Array;
  readonly offset?: number;
}

function bmp({ width, height, bits, compression = 0, size = 40, masks = [], palette = [], pixels, offset }: Parts) {
  const header = Buffer.alloc(14 + Math.max(size === 12 ? 12 : 40, size, masks.length > 0 ? 40 + 4 * masks.length : 0));
  if (size === 12) {
    for (const [i, value] of [width, height, 1, bits].entries()) header.writeUInt16LE(value, 18 + 2 * i);
  } else {
    header.writeInt32LE(width, 18);
    header.writeInt32LE(height, 22);
    header.writeUInt16LE(1, 26);
    header.writeUInt16LE(bits, 28);
    header.writeUInt32LE(compression, 30);
    header.writeUInt32LE(palette.length, 46);
    for (const [i, mask] of masks.entries()) header.writeUInt32LE(mask, 54 + 4 * i);
  }
  header.write('BM', 'latin1');
  header.writeUInt32LE(size, 14);
  const colors = palette.flatMap(([r, g, b]) => (size === 12 ? [b, g, r] : [b, g, r, 0]));
  header.writeUInt32LE(offset ?? header.length + colors.length, 10);
  return new Uint8Array(Buffer.concat([header, Buffer.from(colors), pixels]));
}

const rgb = async (bytes: Uint8Array) => [...(await decodeImage(bytes)).data];
const refusal = (code: string, unsupported: boolean) => (error: unknown) =>
  error instanceof ImageError && error.code === code && (error.unsupported ?? false) === unsupported;

const PALETTE = [
  [10, 20, 30],
  [200, 100, 50],
  [1, 2, 3],
  [255, 254, 253],
] as const;
const colors = (...indices: readonly number[]) => indices.flatMap((index) => [...PALETTE[index]!]);
const bytes = (...values: readonly number[]) => Uint8Array.from(values);

describe('BMP as Pillow reads it', () => {
  it('RLE8 and RLE4: runs, literal runs with padding, ends of rows, from the top too, no end mark', async () => {
    const pixels = bytes(3, 1, 0, 3, 2, 3, 1, 0, 0, 0, 2, 0, 4, 1);
    const file = { width: 6, height: 2, bits: 8, compression: 1, palette: PALETTE };
    const rows = [colors(0, 0, 1, 1, 1, 1), colors(1, 1, 1, 2, 3, 1)];
    assert.deepEqual(await rgb(bmp({ ...file, pixels })), rows.flat());
    assert.deepEqual(await rgb(bmp({ ...file, height: -2, pixels })), [...rows].reverse().flat());
    assert.deepEqual(await rgb(bmp({ ...file, pixels: bytes(...pixels, 0, 0, 0, 1) })), rows.flat());
    const halves = bytes(5, 0x12, 0, 0, 0, 4, 0x31, 0x20, 1, 0x00, 0, 1);
    const four = bmp({ width: 5, height: 2, bits: 4, compression: 2, palette: PALETTE, pixels: halves });
    assert.deepEqual(await rgb(four), [...colors(3, 1, 2, 0, 0), ...colors(1, 2, 1, 2, 1)]);
  });

  it('RLE: a run ends with its row; an end before the last pixel, and runs that are cut, are refused', async () => {
    const file = { width: 2, height: 2, bits: 8, compression: 1, palette: PALETTE };
    const long = bytes(200, 1, 0, 0, 200, 2);
    assert.deepEqual(await rgb(bmp({ ...file, pixels: long })), colors(2, 2, 1, 1));
    for (const pixels of [
      bytes(2, 1, 0, 0, 1, 1, 0, 1),
      bytes(2, 1),
      bytes(2, 1, 0),
      bytes(0, 4, 1, 1),
      bytes(0, 2, 1),
      bytes(),
    ]) {
      await assert.rejects(decodeImage(bmp({ ...file, pixels })), refusal('bmp-truncated', false));
    }
    // 100 megapixels of four bytes are refused before anything is allocated
    const claim = bmp({ ...file, width: 10_000, height: 10_000, pixels: bytes(1, 1, 1, 1) });
    await assert.rejects(decodeImage(claim), refusal('bmp-truncated', false));
  });

  it('16 bits: 5-5-5 by default, masks of 5-6-5 and 5-5-5; values are cut as Pillow cuts them', async () => {
    const value = (r: number, g: number, b: number, green: number) => (r << (5 + green)) | (g << 5) | b;
    const two = (...values: readonly number[]) => bytes(...values.flatMap((v) => [v & 255, v >> 8]));
    const share = (v: number, most: number) => Math.floor((v * 255) / most);
    const wide = [share(3, 31), share(17, 31), share(30, 31), 255, 0, share(1, 31)];
    const file = { width: 2, height: 1, bits: 16 };
    const pixels = two(value(3, 17, 30, 5), value(31, 0, 1, 5));
    assert.deepEqual(await rgb(bmp({ ...file, pixels })), wide);
    assert.deepEqual(await rgb(bmp({ ...file, compression: 3, masks: [0x7c00, 0x3e0, 0x1f], pixels })), wide);
    const six = { ...file, compression: 3, masks: [0xf800, 0x7e0, 0x1f] };
    const sixes = [share(3, 31), share(35, 63), share(30, 31), 255, 0, share(1, 31)];
    assert.deepEqual(await rgb(bmp({ ...six, pixels: two(value(3, 35, 30, 6), value(31, 0, 1, 6)) })), sixes);
    const odd = { ...six, masks: [0xf00, 0xf0, 0xf], pixels };
    await assert.rejects(decodeImage(bmp(odd)), refusal('bmp-masks', true));
  });

  it('32 bits: each layout of masks that Pillow knows, alpha dropped; others are refused', async () => {
    const pixels = bytes(11, 22, 33, 44);
    const file = { width: 1, height: 1, bits: 32, pixels };
    assert.deepEqual(await rgb(bmp(file)), [33, 22, 11]);
    for (const [masks, expected] of [
      [
        [0xff0000, 0xff00, 0xff, 0],
        [33, 22, 11],
      ],
      [
        [0xff000000, 0xff0000, 0xff00, 0],
        [44, 33, 22],
      ],
      [
        [0xff000000, 0xff00, 0xff, 0],
        [44, 22, 11],
      ],
      [
        [0xff000000, 0xff0000, 0xff00, 0xff],
        [44, 33, 22],
      ],
      [
        [0xff, 0xff00, 0xff0000, 0xff000000],
        [11, 22, 33],
      ],
      [
        [0xff0000, 0xff00, 0xff, 0xff000000],
        [33, 22, 11],
      ],
      [
        [0xff000000, 0xff00, 0xff, 0xff0000],
        [44, 22, 11],
      ],
      [
        [0, 0, 0, 0],
        [33, 22, 11],
      ],
    ] as const) {
      assert.deepEqual(await rgb(bmp({ ...file, compression: 3, size: 124, masks })), expected, `${masks}`);
      if (masks[3] === 0) {
        const plain = bmp({ ...file, compression: 3, masks: masks.slice(0, 3) });
        assert.deepEqual(await rgb(plain), expected, `${masks}`);
      }
    }
    const ten = bmp({ ...file, compression: 3, size: 56, masks: [0x3ff00000, 0xffc00, 0x3ff, 0] });
    await assert.rejects(decodeImage(ten), refusal('bmp-masks', true));
    const huffman = bmp({ ...file, bits: 1, compression: 3, size: 64 });
    await assert.rejects(decodeImage(huffman), refusal('bmp-masks', true));
    await assert.rejects(decodeImage(bmp({ ...file, compression: 4 })), refusal('bmp-compression', true));
    await assert.rejects(decodeImage(bmp({ ...file, size: 16 })), refusal('bmp-header', true));
  });

  it("1, 4, 8 and 24 bits, both of OS/2's headers, from the top or the bottom, the last padding missing", async () => {
    const random = seeded(7);
    let count = 0;
    for (const bits of [1, 4, 8, 24]) {
      for (const size of [12, 40, 52, 56, 64, 108, 124]) {
        const [width, height] = [1 + Math.floor(random() * 40), 1 + Math.floor(random() * 5)];
        const stride = Math.ceil((width * bits) / 32) * 4;
        const palette = Array.from(
          { length: bits > 8 ? 0 : 1 << bits },
          (_, i) => [i, 255 - i, (i * 7) & 255] as const,
        );
        const pixels = Uint8Array.from({ length: stride * (height - 1) + Math.ceil((width * bits) / 8) }, () =>
          Math.floor(random() * 256),
        );
        const rows = Array.from({ length: height }, (_, y) =>
          Array.from({ length: width }, (_, x) => {
            if (bits === 24) return [2, 1, 0].map((c) => pixels[y * stride + 3 * x + c]!);
            const bit = y * stride * 8 + x * bits;
            let index = 0;
            for (let n = 0; n < bits; n++) index = index * 2 + ((pixels[(bit + n) >> 3]! >> (7 - ((bit + n) & 7))) & 1);
            return palette[index]!;
          }).flat(),
        );
        const file = { width, height, bits, size, palette, pixels };
        assert.deepEqual(await rgb(bmp(file)), [...rows].reverse().flat(), `${bits} bits, header ${size}`);
        assert.deepEqual(await rgb(bmp({ ...file, offset: 0 })), [...rows].reverse().flat(), 'no offset');
        if (size > 12) assert.deepEqual(await rgb(bmp({ ...file, height: -height })), rows.flat());
        const cut = bmp({ ...file, pixels: pixels.subarray(1) });
        await assert.rejects(decodeImage(cut), refusal('bmp-truncated', false));
        count++;
      }
    }
    assert.equal(count, 28);
  });
});
