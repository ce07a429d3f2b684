import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readJson as readCheckedJson } from '../../src/checkpoint/json.js';
import { ConfigError, ImageError } from '../../src/errors.js';
import { identifyImage } from '../../src/image/decode.js';
import { parseImageConfig } from '../../src/image/image-config.js';
import { HOSTILE, type HostileCase, hostileCases, ROOT, readBin, readJson } from '../support/fixtures.js';
import { decode, sha256 } from './support.js';

const REFERENCE = readJson<{ results: Record<string, { rgb_sha256?: string }> }>(`${HOSTILE}reference.json`).results;

/** Where the manifest leaves a choice, ours; everything that Pillow decodes and that is not on this list must load. */
const REFUSED = new Set([
  'edge_bad_adler.png',
  'trunc_idat_no_crc.png',
  'bmp.png',
  'rare_lossless.jpg',
  'rare_arithmetic.jpg',
  'rare_arithmetic_progressive.jpg',
  'rare_dnl.jpg',
  'rare_hierarchical.jpg',
  'edge_lost_last_bytes.jpg',
  'bomb_progressive_scans.jpg',
  'no_dht.jpg',
  'seg_length_1.jpg',
  'seg_length_0.jpg',
  'sof_same_component_ids.jpg',
  'sof_two_components.jpg',
  'scan_garbage.jpg',
  'scan_marker_inside.jpg',
  'rst_out_of_order.jpg',
  'rst_missing.jpg',
]);

function checkError(error: unknown, type: typeof ImageError | typeof ConfigError, entry: HostileCase): void {
  assert.ok(error instanceof type, `untyped ${error}`);
  assert.equal(error.file, entry.file);
  assert.ok(error.message.length <= 300 && !error.message.includes('\n') && error.rule !== '', error.message);
  if (entry.expect === 'unsupported' || entry.expect === 'load-or-unsupported') assert.ok(error.unsupported);
  assert.notEqual(entry.expect, 'load', error.message);
}

describe('hostile pictures', () => {
  for (const entry of hostileCases('png', 'jpeg', 'other-image')) {
    const name = entry.file.slice('image/'.length);
    it(`${entry.expect}: ${name} (${entry.rule})`, async () => {
      const bytes = readBin(`${HOSTILE}${entry.file}`);
      const start = performance.now();
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
      assert.ok(performance.now() - start < 1000 * (entry.max_seconds ?? 2));
      const wanted = entry.expect !== 'error' && entry.expect !== 'unsupported' && !REFUSED.has(name);
      const isPicture = entry.kind !== 'other-image' || entry.expect !== 'error';
      assert.equal(loaded, wanted && isPicture, loaded ? 'was accepted' : 'was refused');
    });
  }

  it('says what the bytes are when they are no picture', async () => {
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
      'bmp.png': /BMP/,
      'tiff.jpg': /TIFF/,
      'avif.jpg': /AVIF/,
      'bad_signature.png': /signature/,
      'rare_12bit.jpg': /12-bit/,
      'random.png': /unknown bytes, beginning with [0-9a-f ]+/,
    };
    for (const [name, pattern] of Object.entries(words)) assert.match(await detail(name), pattern, name);
  });

  it('bombs cost no memory: the whole folder in a child process', () => {
    const measure = (script: string) =>
      Number(
        execFileSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
          cwd: ROOT,
          timeout: 60_000,
          encoding: 'utf8',
        }),
      );
    const rss = 'console.log(process.resourceUsage().maxRSS / 1024);';
    const imports = `import { decodeImage } from './src/image/decode.ts'; import { readFileSync, readdirSync } from 'node:fs';`;
    const folder = './test/fixtures/hostile/image/';
    const all = `for (const f of readdirSync('${folder}')) await decodeImage(new Uint8Array(readFileSync('${folder}' + f))).catch(() => 0);`;
    const idle = measure(imports + rss);
    const busy = measure(imports + all + rss);
    console.log(`      peak ${Math.round(busy - idle)} MB above an idle process`);
    assert.ok(busy - idle < 64, `${busy} MB, idle ${idle} MB`);
  });
});

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
