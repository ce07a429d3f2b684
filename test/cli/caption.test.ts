import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { memory } from '@tensorflow/tfjs-core';
import { encode } from 'fast-png';
import { EXAMPLES, HOSTILE, REAL, ROOT } from '../support/fixtures.js';
import { scratch } from '../support/folder.js';
import { demo, fillFolder, IMAGES, withoutStatus } from './support.js';

const BOOK = `${EXAMPLES}red-book-short.png`;
const MUG = `${EXAMPLES}blue-mug-dream.jpg`;
const BOOK_SAYS = 'a red book with the title short';
const MUG_SAYS = 'a blue mug with the word dream on it';

interface Row {
  readonly file: string;
  readonly text: string;
  readonly score: number;
  readonly confidence: number;
  readonly finish: string;
  readonly tokens: readonly { id: number; piece: string; logProb: number }[];
}

const lines = (text: string): string[] => text.split('\n').slice(0, -1);
const parse = (text: string): Row => JSON.parse(text) as Row;

describe('image2text caption', () => {
  const folder = scratch();

  it('one image: its caption alone; several: names before them, in the order given', async () => {
    assert.deepEqual(await demo(['caption', BOOK]), { code: 0, stdout: `${BOOK_SAYS}\n`, stderr: '' });
    const two = await demo(['caption', MUG, BOOK]);
    assert.deepEqual(two, { code: 0, stdout: `${MUG}\t${MUG_SAYS}\n${BOOK}\t${BOOK_SAYS}\n`, stderr: '' });
  });

  it('--json: an object, or an array for several; --jsonl: a line for each', async () => {
    const one = parse((await demo(['caption', BOOK, '--json'])).stdout);
    assert.deepEqual(Object.keys(one), ['file', 'text', 'score', 'confidence', 'finish', 'tokens']);
    assert.deepEqual([one.file, one.text, one.finish], [BOOK, BOOK_SAYS, 'eos']);
    assert.equal(one.tokens.at(-1)!.piece, '[SEP]');
    const many = JSON.parse((await demo(['caption', BOOK, MUG, '--json'])).stdout) as Row[];
    assert.deepEqual(many[0], one);
    const rows = lines((await demo(['caption', BOOK, MUG, '--jsonl'])).stdout).map(parse);
    assert.deepEqual(rows, many);
    const alone = lines((await demo(['caption', BOOK, '--jsonl'])).stdout).map(parse);
    assert.deepEqual(alone, [one]);
  });

  it('a folder with one image is several: scripts need not look into it', async () => {
    const here = join(folder(), 'single');
    fillFolder(here, 1);
    assert.ok(Array.isArray(JSON.parse((await demo(['caption', here, '--json'])).stdout)));
    assert.match(
      (await demo(['caption', here])).stdout,
      /^\S+00-black-round-sign-sky\.jpg\ta black round sign that says sky\n$/,
    );
  });

  it('folders, sorted; --recursive; globs; hidden files and links', async () => {
    const here = join(folder(), 'many');
    const all = fillFolder(here, 5);
    const glob = lines((await demo(['caption', `${here}/**/*-black-*.jpg`])).stdout).map((line) => line.split('\t')[0]);
    assert.deepEqual(
      glob,
      all.filter((name) => name.includes('-black-')).map((name) => `${here}/${name}`),
    );
    mkdirSync(join(here, '.hidden'));
    for (const name of ['._00.jpg', '.hidden/x.jpg']) copyFileSync(BOOK, join(here, name));
    symlinkSync(here, join(here, 'more', 'loop'));
    symlinkSync(BOOK, join(here, 'z-link.png'));
    const flat = lines((await demo(['caption', here])).stdout).map((line) => line.split('\t')[0]);
    assert.deepEqual(
      flat,
      [...all.filter((name) => !name.startsWith('more/')), 'z-link.png'].map((name) => `${here}/${name}`),
    );
    const deep = lines((await demo(['caption', `${here}/`, '--recursive'])).stdout).map((line) => line.split('\t')[0]);
    assert.deepEqual(deep, [...all, 'z-link.png'].map((name) => `${here}/${name}`).sort());
  });

  it('odd names: brackets, spaces, tabs, a dash in front', async () => {
    const here = join(folder(), 'odd');
    mkdirSync(here);
    for (const name of ['a[1].png', 'b c.png', 'd\te.png', '-f.png']) copyFileSync(BOOK, join(here, name));
    assert.equal((await demo(['caption', join(here, 'a[1].png')])).stdout, `${BOOK_SAYS}\n`);
    const { code, stdout } = await demo(['caption', here]);
    assert.equal(code, 0);
    assert.deepEqual(
      lines(stdout),
      ['-f', 'a[1]', 'b c', 'd\\te'].map((name) => `${here}/${name}.png\t${BOOK_SAYS}`),
    );
    const home = process.cwd();
    process.chdir(here);
    try {
      assert.equal((await demo(['caption', '--', '-f.png'])).stdout, `${BOOK_SAYS}\n`);
    } finally {
      process.chdir(home);
    }
  });

  it('stdin, data URLs and file URLs', async () => {
    const bytes = readFileSync(BOOK);
    assert.equal((await demo(['caption', '-'], { stdin: bytes })).stdout, `${BOOK_SAYS}\n`);
    const data = `data:image/png;base64,${bytes.toString('base64')}`;
    assert.equal((await demo(['caption', data])).stdout, `${BOOK_SAYS}\n`);
    assert.equal((await demo(['caption', `file://${BOOK}`])).stdout, `${BOOK_SAYS}\n`);
    const empty = await demo(['caption', '-']);
    assert.deepEqual([empty.code, empty.stdout], [1, '']);
    assert.match(empty.stderr, /^image2text: stdin: .+\n$/);
  });

  it('every option of decoding reaches the model', async () => {
    const say = async (...args: string[]): Promise<Row> =>
      parse((await demo(['caption', MUG, '--json', ...args])).stdout);
    const original = await say();
    const greedy = await say('--strategy', 'greedy');
    assert.ok(Math.abs(greedy.score - greedy.tokens.reduce((sum, { logProb }) => sum + logProb, 0)) < 1e-6);
    assert.notEqual((await say('--strategy', 'beam')).score, original.score);
    assert.notEqual((await say('--length-penalty', '2')).score, original.score);
    assert.notEqual((await say('--num-beams', '1', '--max-new-tokens', '2')).score, original.score);
    assert.equal((await say('--max-new-tokens', '3')).tokens.length, 3);
    assert.equal((await say('--prompt', 'a blue')).text, 'mug with the word dream on it');
    const sample = ['--strategy', 'sample', '--temperature', '9', '--top-k', '0', '--top-p', '1', '--seed'];
    const [one, again, other] = [await say(...sample, '1'), await say(...sample, '1'), await say(...sample, '2')];
    assert.deepEqual(one, again);
    assert.notEqual(one.text, other.text);
    assert.equal((await say('--strategy', 'sample', '--temperature', '9', '--top-k', '1')).text, greedy.text);
    assert.equal((await say('--strategy', 'sample', '--temperature', '9', '--top-p', '0.000001')).text, greedy.text);
    const ids = (await say('--no-repeat-ngram-size', '1', '--repetition-penalty', '1.3')).tokens.map(({ id }) => id);
    assert.equal(new Set(ids).size, ids.length);
    assert.notEqual((await say('--repetition-penalty', '0.01')).text, original.text);
    assert.equal((await say('--prefix', 'Look: ', '--suffix', '!')).text, `Look: ${MUG_SAYS}!`);
  });

  it('every option of seeing reaches the model', async () => {
    const say = async (...args: string[]) => demo(['caption', high, '--json', ...args]);
    const high = join(folder(), 'high.png');
    const data = Uint8Array.from({ length: 320 * 333 * 3 }, (_, i) => (i * i * 7 + i * 13) % 251);
    writeFileSync(high, encode({ width: 320, height: 333, data, channels: 3 }));
    const plain = parse((await say()).stdout);
    assert.notDeepEqual(parse((await say('--preprocessing', 'original')).stdout).tokens, plain.tokens);
    assert.deepEqual(parse((await say('--preprocessing', 'transformers-4.40')).stdout), plain);
    const kept = await say('--preprocessing', 'original', '--keep-ratio', '96,200');
    assert.notDeepEqual(parse(kept.stdout).tokens, plain.tokens);
    const small = await say('--max-megapixels', '0.1');
    assert.deepEqual([small.code, small.stdout], [1, '']);
    assert.match(small.stderr, /high\.png: .*333/);
    assert.equal((await say('--backend', 'cpu')).code, 0);
  });

  it('weights in another format: rounded, and on simd only', async () => {
    const say = async (...args: string[]) => demo(['caption', MUG, '--json', '--strategy', 'greedy', ...args]);
    const [plain, narrow] = [parse((await say()).stdout), parse((await say('--weights', 'bf16')).stdout)];
    assert.equal(narrow.text, plain.text);
    assert.notEqual(narrow.score, plain.score);
    const { code, stdout, stderr } = await say('--weights', 'bf16', '--backend', 'wasm');
    assert.deepEqual([code, stdout], [1, '']);
    assert.match(stderr, /^image2text: wasm: weight-format: .* choose the backend simd, or leave the format out\n$/);
  });

  it('an image that is turned by its EXIF orientation, or left', async () => {
    const jpeg = readFileSync(MUG);
    const tiff = Buffer.from('49492a000800000001001201030001000000060000000000000000', 'hex'); // orientation 6
    const exif = Buffer.concat([
      Buffer.from('ffe1', 'hex'),
      Buffer.from([0, 8 + tiff.length]),
      Buffer.from('Exif\0\0'),
      tiff,
    ]);
    const turned = join(folder(), 'turned.jpg');
    writeFileSync(turned, Buffer.concat([jpeg.subarray(0, 2), exif, jpeg.subarray(2)]));
    assert.notEqual((await demo(['caption', turned])).stdout, `${MUG_SAYS}\n`);
    assert.equal((await demo(['caption', turned, '--ignore-orientation'])).stdout, `${MUG_SAYS}\n`);
  });

  it('--batch changes nothing but the speed', async () => {
    const single = await demo(['caption', EXAMPLES, '--jsonl']);
    const batched = await demo(['caption', EXAMPLES, '--jsonl', '--batch', '5']);
    const [a, b] = [lines(single.stdout).map(parse), lines(batched.stdout).map(parse)];
    assert.equal(a.length, IMAGES.length + 3); // and the GIFs
    assert.deepEqual(
      a.map(({ file, text }) => [file, text]),
      b.map(({ file, text }) => [file, text]),
    );
  });

  it('one bad image is reported, the others are done, code 1', async () => {
    const bad = join(folder(), 'not a\u001b[31m\npicture.png');
    writeFileSync(bad, 'no image at all');
    for (const batch of ['1', '3']) {
      const { code, stdout, stderr } = await demo(['caption', BOOK, bad, MUG, 'no-such-file.png', '--batch', batch]);
      assert.equal(code, 1);
      assert.equal(stdout, `${BOOK}\t${BOOK_SAYS}\n${MUG}\t${MUG_SAYS}\n`);
      assert.equal(lines(stderr).length, 2);
      assert.doesNotMatch(stderr, /\u001b/);
      assert.match(lines(stderr)[1]!, /^image2text: no-such-file\.png: no-such-file: /);
    }
    assert.deepEqual(JSON.parse((await demo(['caption', bad, MUG, '--json'])).stdout).length, 1);
    const damaged = `${REAL}pictures/restart-marker-missing.jpg`;
    const { stderr } = await demo(['caption', damaged, bad, '--batch', '2'], { fresh: true });
    assert.equal(lines(stderr).filter((line) => line.includes(damaged)).length, 1, 'read once, warned of once');
  });

  it('hostile images: a line each, never a stack', async () => {
    const names = [
      'bomb_header_square.png',
      'endless_ff.jpg',
      'trunc_soi_only.jpg',
      'zlib_garbage.png',
      'two_sof.jpg',
      'avif.jpg',
    ];
    const { code, stdout, stderr } = await demo(['caption', ...names.map((name) => `${HOSTILE}image/${name}`)]);
    assert.deepEqual([code, stdout], [1, '']);
    assert.deepEqual(
      lines(stderr).map((line) => line.split(':').length > 2 && line.startsWith('image2text: ')),
      names.map(() => true),
    );
    assert.doesNotMatch(stderr, /internal error/);
  });

  it('a model that cannot be loaded: one line, code 1', async () => {
    for (const model of [`${ROOT}examples`, 'no-such-model', BOOK]) {
      const { code, stdout, stderr } = await demo(['caption', BOOK, '--model', model]);
      assert.deepEqual([code, stdout, lines(stderr).length], [1, '', 1]);
      assert.doesNotMatch(stderr, /internal error/);
    }
  });

  it('in a terminal, words appear as they come, and make the same caption', async () => {
    for (const args of [
      ['--strategy', 'greedy'],
      ['--strategy', 'greedy', '--prefix', '<', '--suffix', '>', '--prompt', 'a red'],
    ]) {
      const streamed = await demo(['caption', BOOK, ...args], { tty: true });
      const whole = await demo(['caption', BOOK, ...args]);
      assert.deepEqual({ ...streamed, stderr: withoutStatus(streamed.stderr) }, whole);
    }
  });

  it('in a terminal, several images have a bar on stderr, with rate and time left; --quiet has none', async () => {
    const ci = process.env['CI'];
    delete process.env['CI'];
    try {
      const { stdout, stderr } = await demo(['caption', BOOK, MUG], { tty: true });
      assert.equal(lines(stdout).length, 2);
      assert.match(stderr, /2\/2 images, \S+ a second, \S+ left/);
      assert.doesNotMatch(stderr, /\u001b[78]/, 'the cursor stays below what was printed');
      assert.equal((await demo(['caption', BOOK, MUG, '--quiet'], { tty: true })).stderr, '');
    } finally {
      if (ci !== undefined) process.env['CI'] = ci;
    }
  });

  it('leaves no tensor behind, done or failed', async () => {
    await demo(['caption', BOOK]);
    const { numTensors } = memory();
    assert.equal((await demo(['caption', BOOK, 'no-such-file.png', '--batch', '2'], { fresh: true })).code, 1);
    assert.equal((await demo(['caption', BOOK, '--temperature', '2'], { fresh: true })).code, 2);
    assert.equal(memory().numTensors, numTensors);
  });
});
