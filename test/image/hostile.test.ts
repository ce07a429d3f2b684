import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateSync } from 'node:zlib';
import { readJson as readCheckedJson } from '../../src/checkpoint/json.js';
import { ConfigError, ImageError } from '../../src/errors.js';
import { identifyImage } from '../../src/image/decode.js';
import { parseImageConfig } from '../../src/image/image-config.js';
import { HOSTILE, type HostileCase, hostileCases, ROOT, readBin, readJson } from '../support/fixtures.js';
import { countWork, decode, png, sha256 } from './support.js';

const REFERENCE = readJson<{ results: Record<string, { rgb_sha256?: string }> }>(`${HOSTILE}reference.json`).results;

/** Where the manifest leaves a choice, ours; everything that Pillow decodes and that is not on this list must load. */
const REFUSED = new Set([
  'edge_bad_adler.png',
  'rare_dnl.jpg',
  'rare_hierarchical.jpg',
  'edge_no_eoi.jpg',
  'edge_lost_last_bytes.jpg',
  'bomb_progressive_scans.jpg',
  'sof_same_component_ids.jpg',
  'sof_two_components.jpg',
  'scan_marker_inside.jpg',
]);

/**
 * Whole pixels with a wrong checksum of their chunk: this manifest says error, but people have such files, libpng's readers warn, and
 * `real/pictures/zero-idat-crc.png`, which is damaged in the same way, must decode. The zlib checksum proves the pixels.
 */
const MENDED = new Set(['crc_idat.png']);

function checkError(error: unknown, type: typeof ImageError | typeof ConfigError, entry: HostileCase): void {
  assert.ok(error instanceof type, `untyped ${error}`);
  assert.equal(error.file, entry.file);
  assert.ok(error.message.length <= 300 && !error.message.includes('\n') && error.code !== '', error.message);
  if (entry.expect === 'unsupported' || entry.expect === 'load-or-unsupported') assert.ok(error.unsupported);
  assert.notEqual(entry.expect, 'load', error.message);
}

describe('hostile images', () => {
  for (const entry of hostileCases('png', 'jpeg', 'other-image')) {
    const name = entry.file.slice('image/'.length);
    it(`${entry.expect}: ${name} (${entry.rule})`, async () => {
      const bytes = readBin(`${HOSTILE}${entry.file}`);
      let loaded = false;
      try {
        const image = await decode(bytes, { file: entry.file });
        loaded = true;
        if (entry.width) assert.deepEqual([image.width, image.height], [entry.width, entry.height]);
        const expected = REFERENCE[entry.file]?.rgb_sha256;
        if (expected) assert.equal(sha256(image.data), expected);
        const info = await identifyImage(bytes);
        assert.deepEqual([info.width, info.height], [image.width, image.height]);
      } catch (error) {
        checkError(error, ImageError, entry);
      }
      const { steps, blocks } = countWork(bytes);
      assert.ok((blocks > 0 || steps < 20_000) && blocks < 4.2e6, `${steps} steps, ${blocks} blocks`);
      const wanted =
        MENDED.has(name) || (entry.expect !== 'error' && entry.expect !== 'unsupported' && !REFUSED.has(name));
      const isImage = entry.kind !== 'other-image' || entry.expect !== 'error';
      assert.equal(loaded, wanted && isImage, loaded ? 'was accepted' : 'was refused');
    });
  }

  it('says what the bytes are when they are no image', async () => {
    const detail = async (name: string) => {
      const failed = await decode(readBin(`${HOSTILE}image/${name}`)).catch((error: ImageError) => error);
      return failed instanceof ImageError ? failed.detail : 'decoded';
    };
    const words: Record<string, RegExp> = {
      'empty.png': /empty/,
      'text.png': /text/,
      'html.png': /HTML/,
      'svg.png': /SVG/,
      'zeros.jpg': /zeros/,
      'lfs.jpg': /Git LFS/,
      'exe.png': /executable/,
      'zip.png': /zip/,
      'bad_signature.png': /signature/,
      'rare_12bit.jpg': /12-bit/,
      'random.png': /unknown bytes, beginning with [0-9a-f ]+/,
    };
    for (const [name, pattern] of Object.entries(words)) assert.match(await detail(name), pattern, name);
  });

  it('a legal progression of hundreds of scans is bounded', async () => {
    for (const side of [64, 4096]) {
      const bytes = progressiveBomb(side, true);
      await assert.rejects(decode(bytes), { name: 'ImageError', code: 'jpeg-scans' });
      const { blocks } = countWork(bytes);
      assert.ok(blocks <= Math.max(4e6, 10 * (side / 8) ** 2), `${blocks} blocks`);
    }
    const { width, data } = await decode(progressiveBomb(64, false)); // 64 scans are many, but fine
    assert.deepEqual([width, new Set(data)], [64, new Set([128])]);
  });

  it('bombs cost no memory; an image at most 8 bytes per pixel and 64 MB: in child processes', () => {
    const folder = `${HOSTILE}image/`;
    const all = `for (const f of readdirSync('${folder}')) await decodeImage(new Uint8Array(readFileSync('${folder}' + f))).catch(() => 0);`;
    const side = 4096;
    const file = join(tmpdir(), `image-memory-${process.pid}`);
    const one = `await decodeImage(new Uint8Array(readFileSync('${file}')));`;
    const idle = peakMemory('');
    const bombs = peakMemory(all) - idle;
    try {
      writeFileSync(file, deepPng(side));
      const png = peakMemory(one) - idle;
      writeFileSync(file, progressiveBomb(side, false, 8));
      const jpeg = peakMemory(one) - idle;
      console.log(`      peak above idle: hostile files ${bombs} MB, 16 megapixels ${png} MB (PNG), ${jpeg} MB (JPEG)`);
      assert.ok(bombs < 64 && Math.max(png, jpeg) < 64 + (8 * side * side) / 2 ** 20);
    } finally {
      rmSync(file, { force: true });
    }
  });
});

/** Peak resident memory in MB of a process that runs `body`. */
function peakMemory(body: string): number {
  const imports = `import { decodeImage } from './src/image/decode.ts'; import { readFileSync, readdirSync } from 'node:fs';`;
  const script = `${imports} ${body} console.log(process.resourceUsage().maxRSS / 1024);`;
  const options = { cwd: ROOT, timeout: 60_000, encoding: 'utf8' } as const;
  return Math.round(
    Number(execFileSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], options)),
  );
}

/** A PNG of zeros, 16 bits RGBA: the most bytes per pixel. */
const deepPng = (side: number): Uint8Array =>
  png(side, side, 16, 6, [deflateSync(Buffer.alloc(side * (1 + side * 8)), { level: 1 })]);

/** A gray progressive JPEG whose every scan says in a few bytes that nothing is in it; legal in every scan. */
function progressiveBomb(side: number, refined: boolean, lastBand = 63): Uint8Array {
  const blocks = (side / 8) ** 2;
  const bytes: number[] = [0xff, 0xd8];
  const segment = (marker: number, ...data: number[]) =>
    bytes.push(0xff, marker, (data.length + 2) >> 8, (data.length + 2) & 255, ...data);
  const oneCode = [1, ...new Array<number>(15).fill(0)];
  segment(0xdb, 0, ...new Array<number>(64).fill(1));
  segment(0xc2, 8, side >> 8, side & 255, side >> 8, side & 255, 1, 1, 0x11, 0);
  segment(0xc4, 0x00, ...oneCode, 0x00); // DC: the code 0 is "no difference"
  segment(0xc4, 0x10, ...oneCode, 0xe0); // AC: the code 0 and 14 bits are a run of 16384 to 32767 empty blocks
  segment(0xda, 1, 1, 0, 0, 0, 0);
  for (let i = 0; i < blocks; i += 8) bytes.push(0);
  const bits = ('0'.padEnd(15, '1').repeat(Math.ceil(blocks / 32767)) + '1'.repeat(7)).match(/.{8}/g)!;
  const empty = bits.flatMap((eight) => (eight === '11111111' ? [255, 0] : [Number.parseInt(eight, 2)]));
  const scan = (k: number, high: number, low: number) => {
    segment(0xda, 1, 1, 0, k, k, (high << 4) | low);
    bytes.push(...empty);
  };
  const deepest = refined ? 13 : 0;
  for (let k = 1; k <= lastBand; k++) scan(k, 0, deepest);
  for (let low = deepest - 1; low >= 0; low--) for (let k = 1; k <= lastBand; k++) scan(k, low + 1, low);
  bytes.push(0xff, 0xd9);
  return Uint8Array.from(bytes);
}

describe('hostile preprocessor_config.json', () => {
  for (const entry of hostileCases('preprocessor')) {
    it(`${entry.expect}: ${entry.file} (${entry.rule})`, () => {
      let loaded = false;
      try {
        const config = parseImageConfig(readCheckedJson(readBin(`${HOSTILE}${entry.file}`), entry.file), entry.file);
        loaded = true;
        assert.deepEqual(config.cropSize, { height: 224, width: 224 });
        assert.deepEqual(config.size, { shortestEdge: 224 });
      } catch (error) {
        checkError(error, ConfigError, entry);
      }
      assert.equal(loaded, entry.expect === 'load');
    });
  }
});
