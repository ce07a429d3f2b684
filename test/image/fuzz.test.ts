import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { deflateSync, inflateSync } from 'node:zlib';
import { ImageError } from '../../src/errors.js';
import { identifyImage } from '../../src/image/decode.js';
import { HOSTILE, readBin } from '../support/fixtures.js';
import { FULL } from '../support/full.js';
import {
  below,
  changeBytes,
  changeParts,
  EDGES,
  FUZZ_CASES,
  FUZZ_SEED,
  pick,
  type Random,
  seeded,
} from '../support/fuzz.js';
import { countWork, frames, goldens, PNG_SIGNATURE, PROCESSOR, pngChunk } from './support.js';

const MAX_PIXELS = 1e6;

const real = (name: string) =>
  new Uint8Array(readFileSync(new URL(`../fixtures/real/pictures/${name}`, import.meta.url)));
const hostile = (name: string) => readBin(`${HOSTILE}image/${name}`);
const golden = (pattern: RegExp) => goldens().flatMap(([name, , bytes]) => (pattern.test(name) ? [bytes] : []));

const concat = (...parts: Uint8Array[]) => new Uint8Array(Buffer.concat(parts));
const u32 = (bytes: Uint8Array, at: number) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(at);

interface Named {
  readonly type: string;
  readonly data: Uint8Array;
}

function pngChunks(bytes: Uint8Array): Named[] {
  const chunks: Named[] = [];
  for (let at = 8; at < bytes.length; ) {
    const length = u32(bytes, at);
    const type = Buffer.from(bytes.subarray(at + 4, at + 8)).toString('latin1');
    chunks.push({ type, data: bytes.subarray(at + 8, at + 8 + length) });
    at += 12 + length;
  }
  return chunks;
}

/** Chunks with right checksums, and pixels that are changed below the compression. */
function mutatePng(random: Random, bytes: Uint8Array): Uint8Array {
  let chunks = pngChunks(bytes);
  if (random() < 0.4) {
    const rows = inflateSync(Buffer.concat(chunks.filter(({ type }) => type === 'IDAT').map(({ data }) => data)));
    const changed = random() < 0.7 ? changeBytes(random, rows) : rows.subarray(0, below(random, rows.length + 1));
    const packed = deflateSync(changed, { level: below(random, 10), strategy: below(random, 5) });
    const cut = below(random, packed.length);
    const at = chunks.findIndex(({ type }) => type === 'IDAT');
    chunks = chunks.filter(({ type }) => type !== 'IDAT');
    const pieces = random() < 0.5 ? [packed] : [packed.subarray(0, cut), packed.subarray(cut)];
    chunks.splice(at, 0, ...pieces.map((data) => ({ type: 'IDAT', data })));
  } else chunks = changeParts(random, chunks, ({ type, data }) => ({ type, data: changeBytes(random, data) }));
  return concat(PNG_SIGNATURE, ...chunks.map(({ type, data }) => pngChunk(type, data)));
}

/** Segments with right lengths; entropy-coded data belong to the scan before them. */
function mutateJpeg(random: Random, bytes: Uint8Array): Uint8Array {
  const segments: { marker: number; data: Uint8Array; coded: Uint8Array }[] = [];
  for (let at = 2; bytes[at] === 0xff && bytes[at + 1] !== 0xd9; ) {
    const end = at + 2 + bytes[at + 2]! * 256 + bytes[at + 3]!;
    let next = end;
    const isMarker = (i: number) => bytes[i] === 0xff && bytes[i + 1] !== 0 && (bytes[i + 1]! & 0xf8) !== 0xd0;
    if (bytes[at + 1] === 0xda) while (next < bytes.length && !isMarker(next)) next++;
    segments.push({ marker: bytes[at + 1]!, data: bytes.subarray(at + 4, end), coded: bytes.subarray(end, next) });
    at = next;
  }
  const changed = changeParts(random, segments, (segment) => {
    if (segment.coded.length > 0 && random() < 0.5) {
      const coded = changeBytes(random, segment.coded);
      return { ...segment, coded: random() < 0.3 ? coded.subarray(0, below(random, coded.length)) : coded };
    }
    if (random() < 0.1) return { ...segment, marker: 0xc0 + below(random, 64) };
    return { ...segment, data: changeBytes(random, segment.data) };
  });
  const parts = changed.map(({ marker, data, coded }) => {
    const length = data.length + 2;
    return concat(Uint8Array.of(0xff, marker, length >> 8, length & 255), data, coded);
  });
  return concat(Uint8Array.of(0xff, 0xd8), ...parts, Uint8Array.of(0xff, 0xd9));
}

/** Header and palette, then extensions and images. */
function mutateGif(random: Random, bytes: Uint8Array): Uint8Array {
  const start = 13 + (bytes[10]! & 128 ? 3 * 2 ** ((bytes[10]! & 7) + 1) : 0);
  const blocks: Uint8Array[] = [];
  for (let at = start; at < bytes.length && bytes[at] !== 0x3b; ) {
    const own = bytes[at] === 0x2c && bytes[at + 9]! & 128 ? 3 * 2 ** ((bytes[at + 9]! & 7) + 1) : 0;
    let end = at + (bytes[at] === 0x2c ? 11 + own : 2);
    while (end < bytes.length && bytes[end] !== 0) end += 1 + bytes[end]!;
    blocks.push(bytes.subarray(at, ++end));
    at = end;
  }
  const head = random() < 0.2 ? changeBytes(random, bytes.subarray(6, start)) : bytes.subarray(6, start);
  const changed = changeParts(random, blocks, (block) => changeBytes(random, block));
  return concat(bytes.subarray(0, 6), head, ...changed, Uint8Array.of(0x3b));
}

/** RIFF chunks with right lengths. */
function mutateWebp(random: Random, bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const chunks: { head: Uint8Array; data: Uint8Array }[] = [];
  for (let at = 12; at + 8 <= bytes.length; ) {
    const length = view.getUint32(at + 4, true);
    chunks.push({ head: bytes.subarray(at, at + 4), data: bytes.subarray(at + 8, at + 8 + length) });
    at += 8 + length + (length & 1);
  }
  const changed = changeParts(random, chunks, ({ head, data }) => ({ head, data: changeBytes(random, data) }));
  const parts = changed.map(({ head, data }) => {
    const size = Buffer.alloc(4);
    size.writeUInt32LE(data.length);
    return concat(head, size, data, new Uint8Array(data.length & 1));
  });
  const body = concat(Buffer.from('WEBP'), ...parts);
  const size = Buffer.alloc(4);
  size.writeUInt32LE(body.length);
  return concat(Buffer.from('RIFF'), size, body);
}

/** A field of the header, or bytes anywhere behind it. */
function mutateBmp(random: Random, bytes: Uint8Array): Uint8Array {
  if (random() < 0.2) return changeBytes(random, bytes);
  const mutant = bytes.slice();
  const view = new DataView(mutant.buffer);
  const [at, size] = pick(random, [
    ...([10, 14, 18, 22, 30, 34, 46, 50, 54, 58, 62].map((field) => [field, 4]) as [number, number][]),
    ...([26, 28] as const).map((field): [number, number] => [field, 2]),
  ]);
  if (size === 4) view.setUint32(at, pick(random, EDGES), true);
  else view.setUint16(at, pick(random, EDGES) & 0xffff, true);
  return random() < 0.3 ? mutant.subarray(0, below(random, mutant.length)) : mutant;
}

/** A field of an entry of the first directory, or bytes anywhere. */
function mutateTiff(random: Random, bytes: Uint8Array): Uint8Array {
  const mutant = random() < 0.2 ? changeBytes(random, bytes) : bytes.slice();
  const view = new DataView(mutant.buffer);
  const little = bytes[0] === 0x49;
  const directory = new DataView(bytes.buffer, bytes.byteOffset).getUint32(4, little);
  const entries = view.getUint16(directory, little);
  const entry = directory + 2 + 12 * below(random, entries);
  const kind = below(random, 4);
  if (kind === 0) view.setUint16(entry + 2, below(random, 14), little);
  else if (kind === 1) view.setUint32(entry + 4, pick(random, EDGES), little);
  else if (kind === 2) view.setUint32(entry + 8, pick(random, EDGES), little);
  else view.setUint16(entry + 8, pick(random, EDGES) & 0xffff, little);
  return mutant;
}

interface Box {
  readonly type: string;
  /** What a full box has before its content: the children of `meta` and `iinf` begin after it. */
  readonly head: Uint8Array;
  readonly content: Uint8Array | readonly Box[];
}

/** Boxes that hold boxes, and the bytes before the first of them. */
const CONTAINERS: Readonly<Record<string, number>> = { meta: 4, iprp: 0, ipco: 0, iinf: 6 };

function avifBoxes(bytes: Uint8Array): Box[] {
  const boxes: Box[] = [];
  for (let at = 0; at + 8 <= bytes.length; ) {
    const size = u32(bytes, at);
    const type = Buffer.from(bytes.subarray(at + 4, at + 8)).toString('latin1');
    const body = bytes.subarray(at + 8, at + size);
    const skip = CONTAINERS[type];
    const content = skip === undefined ? body : avifBoxes(body.subarray(skip));
    boxes.push({ type, head: body.subarray(0, skip ?? 0), content });
    at += size;
  }
  return boxes;
}

function writeBoxes(boxes: readonly Box[]): Uint8Array {
  const parts = boxes.map(({ type, head, content }) => {
    const body = concat(head, content instanceof Uint8Array ? content : writeBoxes(content));
    const size = Buffer.alloc(4);
    size.writeUInt32BE(body.length + 8);
    return concat(size, Buffer.from(type, 'latin1'), body);
  });
  return concat(...parts);
}

/** Boxes with right sizes at every level; the places of the coded data stay what they were. */
function mutateAvif(random: Random, bytes: Uint8Array): Uint8Array {
  const change = (box: Box): Box => {
    const { content } = box;
    if (!(content instanceof Uint8Array)) return { ...box, content: changeParts(random, content, change) };
    if (random() < 0.1) return { ...box, type: pick(random, ['free', 'ispe', 'pixi', 'av1C', 'irot', 'clap', 'iloc']) };
    if (random() < 0.5 || content.length < 4) return { ...box, content: changeBytes(random, content) };
    const field = new Uint8Array(content);
    new DataView(field.buffer).setUint32(below(random, content.length - 3), pick(random, EDGES));
    return { ...box, content: field };
  };
  const boxes = changeParts(random, avifBoxes(bytes), change);
  const file = writeBoxes(boxes);
  return random() < 0.1 ? file.subarray(0, below(random, file.length)) : file;
}

/** An image whose bytes are those of its size, or a typed error of one line; and the work that it took. */
async function survive(bytes: Uint8Array, what: string): Promise<boolean> {
  const { steps, blocks } = countWork(bytes.length < 1e6 ? bytes : bytes.subarray(0, 1e6), MAX_PIXELS);
  assert.ok(blocks <= 2.1e7 && (blocks > 0 || steps <= 64 + 4e6 + bytes.length), `${what}: ${steps}, ${blocks}`);
  try {
    await identifyImage(bytes, { maxPixels: MAX_PIXELS });
    const images = await frames(bytes, { maxPixels: MAX_PIXELS, file: 'fuzz', orientation: true });
    assert.ok(images.length > 0, what);
    for (const { data, width, height } of images) {
      assert.equal(data.length, width * height * 3, what);
      assert.ok(width * height > 0 && width * height <= MAX_PIXELS, what);
    }
    return true;
  } catch (error) {
    if ((error as Error).name === 'AssertionError') throw error;
    assert.ok(error instanceof ImageError, `${what}: ${(error as Error).stack}`);
    assert.ok(!error.message.includes('\n') && error.message.length <= 300, `${what}: ${error.message}`);
    return false;
  }
}

const FORMATS: readonly [string, () => Uint8Array[], (random: Random, bytes: Uint8Array) => Uint8Array][] = [
  [
    'PNG',
    () => [
      ...['ok_animated.png', 'ok_palette_trns.png'].map(hostile),
      ...['png_interlaced_tiny3x2.png', 'png_1bit.png'].map((name) => readBin(`${PROCESSOR}images/${name}`)),
      ...golden(/^png_P\.png$/),
      real('xmp-in-itxt-compressed.png'),
    ],
    mutatePng,
  ],
  [
    'JPEG',
    () => [
      ...['ok_420.jpg', 'ok_progressive.jpg', 'ok_restart.jpg', 'ok_ycck.jpg'].map(hostile),
      readBin(`${PROCESSOR}images/jpeg_restart_progressive_q70.jpg`),
      ...golden(/^exif_long\.jpg$/),
    ],
    mutateJpeg,
  ],
  ['GIF', () => golden(/^random_(03|21)\.gif$/), mutateGif],
  ['WebP', () => [...golden(/^(lossy|alpha|lossless)\.webp$/), real('animated.webp')], mutateWebp],
  ['BMP', () => [real('picture.bmp')], mutateBmp],
  ['TIFF', () => [real('picture.tiff'), real('picture.lzw.tiff')], mutateTiff],
  ['AVIF', () => [real('picture.avif')], mutateAvif],
];

describe('mutated images: an image of its size or an ImageError', () => {
  for (const [format, seeds, mutate] of FORMATS) {
    // each AVIF takes a WebAssembly instance of its own
    const cases = format === 'AVIF' && FUZZ_CASES < 1000 ? 60 : FUZZ_CASES;
    it(`${format}: ${cases} changes of its structure, seed ${FUZZ_SEED}`, async () => {
      const random = seeded(FUZZ_SEED);
      const files = seeds();
      let images = 0;
      for (let n = 0; n < cases; n++) {
        if (await survive(mutate(random, files[n % files.length]!), `${format} case ${n} of seed ${FUZZ_SEED}`))
          images++;
      }
      console.log(`      ${format}, seed ${FUZZ_SEED}: ${images} images, ${cases - images} ImageErrors`);
      assert.ok(images > cases / 50 && images < cases, `${images} images`);
    }).timeout(120_000 + cases * 200);
  }

  it('truncations: an error, unless only the end mark is lost', async () => {
    const step = FULL ? 1 : 3;
    const accepted: string[] = [];
    const seeds = FORMATS.slice(0, 3).flatMap(([format, files]) => files().map((bytes) => [format, bytes] as const));
    for (const [format, bytes] of seeds.filter(([, { length }]) => length < 2000)) {
      const animated = Buffer.from(bytes).includes('acTL');
      for (let length = 0; length < bytes.length; length += step) {
        if (!(await survive(bytes.subarray(0, length), `${format} cut at ${length}`))) continue;
        accepted.push(format);
        const lost = bytes.length - length;
        // PNG's checksums and IEND have 20 bytes; a GIF or an animation may lose whole last frames
        if (format === 'PNG' && !animated) assert.ok(lost <= 21, `${lost} bytes of a PNG`);
      }
    }
    assert.deepEqual([...new Set(accepted)].sort(), ['GIF', 'PNG']);
  });

  it('noise after every file signature', async () => {
    const random = seeded(FUZZ_SEED);
    for (const [format, seeds] of FORMATS) {
      for (const bytes of seeds()) {
        for (let round = 0; round < 30; round++) {
          const noise = Uint8Array.from({ length: 400 }, () => below(random, 256));
          noise.set(bytes.subarray(0, 2 + below(random, 60)));
          await survive(noise, `${format}: noise ${round}`);
        }
      }
    }
  });

  it('floods of tiny parts cost no stack', async () => {
    const jpeg = hostile('ok_420.jpg');
    const repeat = (unit: readonly number[], times: number) =>
      Uint8Array.from({ length: unit.length * times }, (_, i) => unit[i % unit.length]!);
    const body = jpeg.subarray(0, -2);
    const text = (value: string) => new TextEncoder().encode(value);
    const floods = [
      concat(body, Uint8Array.of(0xff, 0xfe, 0, 2), repeat([0xff, 0], 1e6), jpeg.subarray(-2)),
      concat(body, repeat([0xff, 0xfe, 0, 2], 5e5)),
      concat(body, repeat([0xff], 2e6)),
      concat(jpeg.subarray(0, 2), repeat([0xff, 0xd0], 1e6), jpeg.subarray(2)),
      concat(text('GIF89a'), Uint8Array.of(1, 0, 1, 0, 0, 0, 0), repeat([0x21, 0xfe, 0], 5e5)),
      concat(text('GIF89a'), repeat([0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 1, 0x44, 0], 1e5)),
      concat(text('RIFF\x08\x12\x7a\x00WEBP'), repeat([65, 65, 65, 65, 0, 0, 0, 0], 1e6)),
    ];
    for (const [i, flood] of floods.entries()) await survive(flood, `flood ${i}`);
  });
});
