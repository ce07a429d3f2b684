import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isRunning, sweepTemporaries, temporaryIn, writeThrough, writeWhole } from '../../src/platform/write-whole.js';

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
