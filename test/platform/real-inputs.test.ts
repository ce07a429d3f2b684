import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { encode } from 'fast-png';
import { createInputLoader, type InputLoader } from '../../src/image2text/input-loader.js';
import { heicConverter, type Image2Text, type ImageWarning, loadImage2Text, openVideo, video } from '../../src/node.js';
import { useBackend } from '../support/backends.js';
import { DEMO, EXAMPLES, REAL, readBin } from '../support/fixtures.js';
import { scratch } from '../support/folder.js';

const FILES = `${REAL}pictures/`;
const WIDTH = 73;
const HEIGHT = 80;

describe('images and animations as people have them', () => {
  const path = scratch();
  const warnings: ImageWarning[] = [];
  let model: Image2Text;
  before(async () => {
    await useBackend('simd');
    model = await loadImage2Text(DEMO, { onWarning: (warning) => warnings.push(warning) });
  });
  after(() => {
    model.dispose();
  });

  it('BMP, TIFF, APNG and animated WebP are captioned from their paths as the same pixels in a PNG are', async () => {
    const options = { strategy: 'greedy', maxLength: 20 } as const;
    const { text } = await model.caption(`${FILES}end-cut-1.png`, options);
    for (const name of ['picture.bmp', 'picture.tiff', 'picture.lzw.tiff', 'named.apng', 'animated.webp'])
      assert.equal((await model.caption(FILES + name, options)).text, text, name);
  });

  it('AVIF is decoded from its path, within what lossy decoders differ by', async () => {
    const [avif, png] = await Promise.all(
      ['picture.avif', 'picture.bmp'].map((name) => model.explain(FILES + name, { text: 'a' })),
    );
    const { data } = avif!.images[0]!.image;
    const truth = png!.images[0]!.image.data;
    assert.equal(data.length, truth.length);
    const mean = data.reduce((sum, value, i) => sum + Math.abs(value - truth[i]!), 0) / data.length;
    assert.ok(mean > 0 && mean < 12, `${mean} levels away`);
  });

  it('what was mended is reported with the file it was in, once', async () => {
    warnings.length = 0;
    await model.embed(`${FILES}end-cut-1.png`);
    await model.embed(`${FILES}restart-marker-missing.jpg`);
    await model.embed(`${EXAMPLES}blue-mug-juice.png`);
    assert.deepEqual(
      warnings.map(({ file }) => file),
      ['end-cut-1.png', 'restart-marker-missing.jpg'].map((name) => FILES + name),
    );
    assert.equal(new Set(warnings.map(({ warning }) => warning)).size, warnings.length);
    assert.ok(warnings.every(({ warning }) => warning.length > 10));
  });

  it('without a listener it is a line on the console', async () => {
    const lines: unknown[][] = [];
    const { warn } = console;
    console.warn = (...line: unknown[]) => void lines.push(line);
    try {
      await createInputLoader(model.git, model.imageConfig).load(readBin(`${FILES}end-cut-4.png`));
    } finally {
      console.warn = warn;
    }
    assert.equal(lines.length, 1);
    assert.match(String(lines[0]![0]), /^image: /);
  });

  for (const [name, frames] of [
    ['animated.webp', 3],
    ['animated.png', 2],
    ['named.apng', 2],
  ] as const) {
    it(`${name} is a video of ${frames} frames from its path and from its bytes`, async () => {
      const explanation = await model.explain(video(FILES + name), { text: 'a' });
      const bytes = await model.explain(video(readBin(FILES + name)), { text: 'a' });
      assert.equal(explanation.images.length, frames);
      assert.deepEqual(bytes.images, explanation.images);
      const [first, second] = explanation.images;
      assert.deepEqual([first!.image.width, first!.image.height], [WIDTH, HEIGHT]);
      assert.notDeepEqual(first!.image.data, second!.image.data);
    });
  }

  it('a folder has the images of all formats, and those without an ending by their bytes', async () => {
    mkdirSync(path('mixed/folder'), { recursive: true });
    const names = ['a.bmp', 'b.tif', 'c.tiff', 'd.avif', 'e.apng', 'f.jfif', 'g.pjpeg', 'h'];
    for (const name of [...names, 'notes', 'i.txt', 'j.heic']) writeFileSync(path(`mixed/${name}`), 'any bytes');
    copyFileSync(`${FILES}picture.bmp`, path('mixed/h'));
    assert.deepEqual(
      await openVideo(path('mixed'), 6),
      names.map((name) => path(`mixed/${name}`)),
    );
  });
});

/** The boxes of a HEIF file that say its size, and no image: what converts it is acted by scripts. */
function heif(width: number, height: number): Uint8Array<ArrayBuffer> {
  const bytes = Buffer.alloc(200);
  bytes.write('\0\0\0\x18ftypheic', 0, 'latin1');
  bytes.write('ispe', 100, 'latin1');
  bytes.writeUInt32BE(width, 108);
  bytes.writeUInt32BE(height, 112);
  return new Uint8Array(bytes);
}

describe('HEIF through programs of the user (acted by scripts)', () => {
  const path = scratch();
  const [width, height] = [40, 30];
  const pixels = Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 7) % 256);
  let made = 0;
  let model: Image2Text;
  /** A program that runs `code` in Node: `input` and `output` are its files. */
  const program = (code: string): string => {
    const file = path(`program-${made++}`);
    const files = `const input = process.argv.find((a) => a.endsWith('.heic')).replace('file:', ''), output = process.argv.at(-1);`;
    writeFileSync(file, `#!${process.execPath}\nconst fs = require('fs');\n${files}\n${code}\n`, { mode: 0o755 });
    return file;
  };
  const converts = (w: number, h: number, note = ''): string => {
    const png = path(`made-${made++}.png`);
    writeFileSync(png, encode({ data: pixels.slice(0, w * h * 3), width: w, height: h, channels: 3 }));
    return program(`fs.copyFileSync(${JSON.stringify(png)}, output);${note}`);
  };
  const fails = (words: string): string => program(`console.error(${JSON.stringify(words)}); process.exitCode = 1;`);
  const missing = '/nowhere/at-all';
  const loader = (options: Parameters<typeof heicConverter>[0]): InputLoader =>
    createInputLoader(model.git, model.imageConfig, { convertHeic: heicConverter(options) });
  const temporary = () => readdirSync(tmpdir()).filter((name) => name.startsWith('image2text-heif-'));
  const given = process.env['TMPDIR'];

  before(async function () {
    if (process.platform === 'win32') this.skip();
    process.env['TMPDIR'] = path('.'); // another run of the tests has its files in the common one
    await useBackend('simd');
    model = await loadImage2Text(DEMO);
  });
  after(() => {
    if (given === undefined) delete process.env['TMPDIR'];
    else process.env['TMPDIR'] = given;
    model?.dispose();
  });

  it('heif-convert first, then ffmpeg; the file reaches them whole and nothing is left', async () => {
    const before = temporary();
    const copy = path('copy.heic');
    const keeping = converts(width, height, `fs.copyFileSync(input, ${JSON.stringify(copy)});`);
    const data = heif(width, height);
    const image = await loader({ heifConvert: keeping, ffmpeg: missing }).open(data);
    assert.deepEqual(image, { data: pixels, width, height });
    assert.deepEqual(new Uint8Array(readFileSync(copy)), data);
    assert.deepEqual(await loader({ heifConvert: missing, ffmpeg: converts(width, height) }).open(data), image);
    const turned = await loader({ heifConvert: converts(height, width), ffmpeg: missing }).open(data);
    assert.deepEqual([(turned as { width: number }).width], [height]);
    assert.deepEqual(temporary(), before);
  });

  it('one tile of the image is not taken for the image', async () => {
    const open = () => loader({ heifConvert: missing, ffmpeg: converts(20, 30) }).open(heif(width, height));
    await assert.rejects(open, { code: 'heic', unsupported: true, message: /made 20 by 30 pixels of 40 by 30/ });
  });

  it('without a program, and where one fails, the error says how to go on', async () => {
    const before = temporary();
    const none = () => loader({ heifConvert: missing, ffmpeg: missing }).open(new File([heif(9, 9)], 'me.heic'));
    await assert.rejects(none, { name: 'ImageError', file: 'me.heic', code: 'heic', message: /apt install libheif/ });
    const failing = () => loader({ heifConvert: fails('no HEVC decoder'), ffmpeg: missing }).open(heif(9, 9));
    await assert.rejects(failing, { code: 'heic', message: /no HEVC decoder/ });
    const huge = () => loader({ heifConvert: missing, ffmpeg: missing }).open(heif(40_000, 40_000));
    await assert.rejects(huge, { code: 'image-too-large' });
    const alone = createInputLoader(model.git, model.imageConfig);
    await assert.rejects(alone.open(heif(9, 9)), { code: 'heic', message: /convert it first/ });
    assert.deepEqual(temporary(), before);
  });

  it('an abort and the time limit end the program and remove its files', async () => {
    const before = temporary();
    const note = path('pid');
    const stubborn = program(`fs.writeFileSync(${JSON.stringify(note)}, String(process.pid));
      process.on('SIGTERM', () => {}); setInterval(() => {}, 1000);`);
    const controller = new AbortController();
    const call = loader({ heifConvert: stubborn, ffmpeg: missing }).open(heif(width, height), controller.signal);
    while (!existsSync(note) || readFileSync(note, 'utf8') === '')
      await new Promise((resolve) => setTimeout(resolve, 10));
    controller.abort(new Error('enough'));
    await assert.rejects(call, /enough/);
    const late = () =>
      heicConverter({ heifConvert: stubborn, ffmpeg: missing, timeLimitMs: 300 })(heif(9, 9), 'me.heic', 100);
    await assert.rejects(late, { code: 'ffmpeg-too-slow' });
    for (const wait = 5; temporary().length > before.length; )
      await new Promise((resolve) => setTimeout(resolve, wait)); // the aborted call returned before its program was gone
    const last = Number(readFileSync(note, 'utf8')); // 0 where the second was killed while it wrote its number
    if (last !== 0) assert.throws(() => process.kill(last, 0), { code: 'ESRCH' });
  });
});
