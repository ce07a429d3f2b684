import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { trainingFolder } from '../../src/platform/training-data.js';
import { isRunning, sweepTemporaries, temporaryIn, writeThrough, writeWhole } from '../../src/platform/write-whole.js';
import { textPieces } from '../../src/training/checkpoint.js';

describe('platform: writing whole files', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'image2text-write-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('writes, replaces, and takes names as long as the file system does', async () => {
    for (const name of ['a.txt', 'x'.repeat(255)]) {
      for (const text of ['first', 'second']) {
        await writeWhole(join(folder, name), text);
        assert.equal(readFileSync(join(folder, name), 'utf8'), text);
      }
    }
    await writeWhole(join(folder, 'b'), Uint8Array.of(1, 2));
    assert.deepEqual([...readFileSync(join(folder, 'b'))], [1, 2]);
    assert.equal(readdirSync(folder).length, 3);
  });

  it('a link with the name of the file is replaced, not followed', async () => {
    const [target, path] = [join(folder, 'theirs'), join(folder, 'ours')];
    writeFileSync(target, 'theirs');
    symlinkSync(target, path);
    await writeWhole(path, 'ours');
    assert.deepEqual([readFileSync(target, 'utf8'), readFileSync(path, 'utf8')], ['theirs', 'ours']);
  });

  it('a failure leaves the old file and nothing else', async () => {
    const path = join(folder, 'a');
    await writeWhole(path, 'old');
    const failing = writeThrough(path, async (file) => {
      await file.writeFile('half');
      throw new Error('stop');
    });
    await assert.rejects(failing, /stop/);
    mkdirSync(join(folder, 'a-folder'));
    await assert.rejects(writeWhole(join(folder, 'a-folder'), 'x'));
    await assert.rejects(writeWhole(join(folder, 'none/a'), 'x'), { code: 'ENOENT' });
    assert.deepEqual(readdirSync(folder).sort(), ['a', 'a-folder']);
    assert.equal(readFileSync(path, 'utf8'), 'old');
  });

  it('sweeps what dead processes of this machine left, and nothing else', async () => {
    const mine = temporaryIn(folder);
    const gone = spawnSync(process.execPath, ['-e', '']).pid;
    assert.ok(isRunning(process.pid) && !isRunning(gone));
    const dead = mine.replace(`-${process.pid}-`, `-${gone}-`);
    const elsewhere = dead.replace(/\.i2t-..../, '.i2t-zzzz');
    for (const path of [mine, dead, elsewhere, join(folder, 'photo.txt')]) writeFileSync(path, '');
    await sweepTemporaries(folder);
    assert.deepEqual(
      readdirSync(folder).sort(),
      [mine, elsewhere, 'photo.txt'].map((path) => path.slice(path.lastIndexOf('/') + 1)).sort(),
    );
    await sweepTemporaries(join(folder, 'none'));
  });
});

describe('platform: a folder that training writes into', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'image2text-folder-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const plants: Readonly<Record<string, (path: string, target: string) => void>> = {
    'a link': (path, target) => symlinkSync(target, path),
    'a dangling link': (path, target) => symlinkSync(`${target}-none`, path),
    'a hard link': (path, target) => linkSync(target, path),
    'a FIFO': (path) => void execFileSync('mkfifo', [path]),
  };
  for (const [what, plant] of Object.entries(plants)) {
    it(`${what} in the place of the log is refused and left alone; a file that is written as a whole replaces it`, async function () {
      if (process.platform === 'win32') return this.skip();
      const target = join(folder, 'theirs');
      writeFileSync(target, 'theirs');
      const run = await trainingFolder(join(folder, 'run'));
      for (const name of ['log.jsonl', 'report.html']) plant(join(folder, 'run', name), target);
      await assert.rejects(run.append('log.jsonl', 'ours\n'), { name: 'Image2TextError', code: 'not-a-plain-file' });
      await run.write('report.html', textPieces('ours'));
      assert.equal(readFileSync(target, 'utf8'), 'theirs');
      assert.ok(!existsSync(`${target}-none`));
      assert.equal(readFileSync(join(folder, 'run/report.html'), 'utf8'), 'ours');
      rmSync(join(folder, 'run/log.jsonl'));
      for (const line of ['one\n', 'two\n']) await run.append('log.jsonl', line);
      assert.equal(readFileSync(join(folder, 'run/log.jsonl'), 'utf8'), 'one\ntwo\n');
    });
  }

  it('a link in the place of a folder of the run leads nowhere', async () => {
    mkdirSync(join(folder, 'theirs'));
    const run = await trainingFolder(join(folder, 'run'));
    symlinkSync(join(folder, 'theirs'), join(folder, 'run/best'));
    const refused = { name: 'Image2TextError', code: 'not-a-plain-file' };
    await assert.rejects(run.write('best/config.json', textPieces('{}')), refused);
    await assert.rejects(run.append('best/log.jsonl', 'x'), refused);
    assert.deepEqual(readdirSync(join(folder, 'theirs')), []);
    await run.write('last/config.json', textPieces('{}'));
    assert.equal(readFileSync(join(folder, 'run/last/config.json'), 'utf8'), '{}');
  });
});
