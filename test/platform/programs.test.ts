import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import type { RgbImage } from '../../src/image/raw-image.js';
import { videoOpener } from '../../src/node.js';
import { readPpmStream } from '../../src/platform/ffmpeg.js';
import { refusal } from '../pipeline/support.js';
import { scratch } from '../support/folder.js';
import { seeded } from '../support/fuzz.js';

const UNIX = process.platform !== 'win32';

describe('programs that read videos: missing, stubborn, failing (acted by scripts)', () => {
  const path = scratch();
  let made = 0;
  /** A program that runs `code` in Node. */
  const program = (code: string): string => {
    const file = path(`program-${made++}`);
    writeFileSync(file, `#!${process.execPath}\n${code}\n`, { mode: 0o755 });
    return file;
  };
  const counts = () => program(`console.log('3')`);
  before(function () {
    if (!UNIX) this.skip();
    writeFileSync(path('video.mkv'), 'any bytes');
  });

  it('a missing program: which, and how to get it', async () => {
    const missing = (options: object) => videoOpener(options)(path('video.mkv'), 6);
    for (const options of [{ ffprobe: path('nowhere') }, { ffprobe: counts(), ffmpeg: path('nowhere') }]) {
      assert.equal(await refusal(() => missing(options)), 'ImageError undefined: ffmpeg-missing');
      await assert.rejects(missing(options), /nowhere is not installed: .*apt install ffmpeg/);
    }
    assert.equal(await refusal(() => missing({ ffprobe: path('video.mkv') })), 'ImageError undefined: ffmpeg-failed');
  });

  it('what a failing program said last becomes the message', async () => {
    const fail = program(`console.error('first\\n[mov @ 0x1] moov atom not found'); process.exitCode = 1`);
    const open = videoOpener({ ffprobe: counts(), ffmpeg: fail });
    await assert.rejects(open(path('video.mkv'), 6), {
      name: 'ImageError',
      message: `${path('video.mkv')}: ffmpeg-failed: moov atom not found`,
    });
    const chatty = videoOpener({ ffprobe: program(`process.stdout.write('9'.repeat(5e6))`) });
    assert.equal(await refusal(() => chatty(path('video.mkv'), 6)), 'ImageError undefined: ffmpeg-failed');
    const silent = videoOpener({ ffprobe: counts(), ffmpeg: program(`process.exitCode = 3`) });
    await assert.rejects(silent(path('video.mkv'), 6), /ffmpeg-failed: ffmpeg does not say why/);
    const odd = videoOpener({ ffprobe: counts(), ffmpeg: program(`console.log('hello')`) });
    assert.equal(await refusal(() => odd(path('video.mkv'), 6)), 'ImageError undefined: ppm-stream');
    const none = videoOpener({ ffprobe: program(`console.log('N/A')`) });
    assert.equal(await refusal(() => none(path('video.mkv'), 6)), 'ImageError undefined: no-frames');
  });

  /** A program that tells its process id and then hangs, whatever it is asked. */
  const stubborn = () => {
    const note = path(`pid-${made++}`);
    const code = `require('fs').writeFileSync(${JSON.stringify(note)}, String(process.pid));
      process.on('SIGTERM', () => {}); setInterval(() => {}, 1000);`;
    return { file: program(code), pid: () => (existsSync(note) ? Number(readFileSync(note, 'utf8') || 0) : 0) };
  };
  const gone = (pid: number): boolean => {
    try {
      process.kill(pid, 0);
      return false;
    } catch {
      return true;
    }
  };

  it('a canceled program is killed and gone when the call ends', async () => {
    for (const which of ['ffprobe', 'ffmpeg'] as const) {
      const { file, pid } = stubborn();
      const controller = new AbortController();
      const open = videoOpener({ ffprobe: counts(), [which]: file });
      const call = open(path('video.mkv'), 6, controller.signal);
      const settled = call.catch((error: Error) => error);
      while (pid() === 0) await wait(5);
      assert.equal(gone(pid()), false);
      controller.abort();
      const error = await settled;
      assert.equal((error as Error).name, 'AbortError');
      assert.equal(gone(pid()), true, `${which} is still there`);
    }
  });

  it('so is one that takes too long', async () => {
    // A busy machine may not have started it by then: it is given more time.
    for (let timeLimitMs = 1000; ; timeLimitMs *= 2) {
      const { file, pid } = stubborn();
      const open = videoOpener({ ffprobe: file, timeLimitMs });
      assert.equal(await refusal(() => open(path('video.mkv'), 6)), 'ImageError undefined: ffmpeg-too-slow');
      if (pid() === 0) continue;
      assert.ok(gone(pid()));
      break;
    }
  });

  it('a signal that fired before starts nothing', async () => {
    const { file, pid } = stubborn();
    const call = videoOpener({ ffprobe: file })(path('video.mkv'), 6, AbortSignal.abort());
    await assert.rejects(call, { name: 'AbortError' });
    assert.equal(pid(), 0);
  });
});

describe('images out of a stream of PPM files', () => {
  const image = (width: number, height: number, seed: number): RgbImage => {
    const random = seeded(seed);
    return { width, height, data: Uint8Array.from({ length: width * height * 3 }, () => random() * 256) };
  };
  const encode = (images: readonly RgbImage[]): Uint8Array =>
    Buffer.concat(
      images.flatMap(({ data, width, height }) => [Buffer.from(`P6\n${width} ${height}\n255\n`), Buffer.from(data)]),
    );
  async function* chunks(bytes: Uint8Array, random: () => number, largest: number) {
    for (let at = 0; at < bytes.length; ) {
      const end = at + 1 + Math.floor(random() * largest);
      yield bytes.subarray(at, end);
      at = end;
    }
  }
  const images = [image(3, 5, 1), image(1, 1, 2), image(40, 7, 3)];

  it('whatever the chunks', async () => {
    const bytes = encode(images);
    for (let seed = 0; seed < 50; seed++) {
      const found = await readPpmStream(chunks(bytes, seeded(seed), [1, 4, 50, 2000][seed % 4]!), 1000);
      assert.deepEqual(found, images);
    }
    assert.deepEqual(await readPpmStream(chunks(new Uint8Array(), seeded(1), 1), 1000), []);
  });

  it('refuses what ends early at every byte, and what is none', async () => {
    const bytes = encode([image(2, 2, 1)]);
    for (let end = 1; end < bytes.length; end++) {
      const call = () => readPpmStream(chunks(bytes.subarray(0, end), seeded(1), 9), 1000);
      assert.equal(await refusal(call), 'ImageError undefined: ppm-stream', `${end} bytes`);
    }
    for (const text of ['P5\n2 2\n255\n', 'P6\n2 2\n65535\n', 'P6\n0 2\n255\n', 'P6\n-1 2\n255\n', 'x'.repeat(99)]) {
      const call = () => readPpmStream(chunks(Buffer.from(text), seeded(1), 9), 1000);
      assert.equal(await refusal(call), 'ImageError undefined: ppm-stream', text);
    }
  });

  it('refuses a size before it allocates', async () => {
    const before = process.memoryUsage().arrayBuffers;
    const huge = Buffer.from('P6\n100000 100000\n255\n');
    const call = () => readPpmStream(chunks(huge, seeded(1), 9), 1e8);
    assert.equal(await refusal(call), 'ImageError undefined: too-many-pixels');
    assert.ok(process.memoryUsage().arrayBuffers - before < 1e6);
    const many = encode([image(9, 9, 1), image(9, 9, 2)]);
    assert.equal(
      await refusal(() => readPpmStream(chunks(many, seeded(1), 9), 161)),
      'ImageError undefined: too-many-pixels',
    );
  });
});
