import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, readFileSync, statSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { openImage } from '../../src/node.js';
import { EXAMPLES } from '../support/fixtures.js';
import { demo, scratch } from './support.js';

const BOOK = `${EXAMPLES}red-book-short.png`;
const SAYS = 'a red book with the title short';

/** Windows has neither `mkfifo` nor `/dev`. */
const onPosix = process.platform === 'win32' ? it.skip : it;

/** A port that nothing listens at: one that the system gave out and took back. */
const closedPort = (): Promise<number> =>
  new Promise((found) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => found(port));
    });
  });

describe('images from pipes, devices and addresses', () => {
  const folder = scratch();
  const pipe = (name: string): string => {
    const path = join(folder(), name);
    assert.equal(spawnSync('mkfifo', [path]).status, 0);
    return path;
  };

  onPosix('a named pipe, whoever comes first', async () => {
    const path = pipe('pipe');
    const reading = openImage(path);
    await new Promise((waited) => setTimeout(waited, 50));
    await writeFile(path, readFileSync(BOOK));
    const { bytes, file } = await reading;
    assert.deepEqual([Buffer.from(bytes), file], [readFileSync(BOOK), path]);
    const writing = writeFile(path, readFileSync(BOOK));
    assert.deepEqual(Buffer.from((await openImage(path)).bytes), readFileSync(BOOK));
    await writing;
  });

  onPosix('a pipe that nobody writes to ends with the signal', async () => {
    const path = pipe('silent');
    await assert.rejects(openImage(path, AbortSignal.timeout(50)), { name: 'TimeoutError' });
  });

  onPosix('a device has the limit of a file; an empty one is no image', async () => {
    await assert.rejects(openImage('/dev/zero'), { name: 'ImageError', code: 'file-too-large', file: '/dev/zero' });
    assert.equal((await openImage('/dev/null')).bytes.length, 0);
    const { code, stderr } = await demo(['caption', '/dev/null']);
    assert.equal(code, 1);
    assert.match(stderr, /^image2text: \/dev\/null: [^\n]+\n$/);
  });

  onPosix('is read once, also where its batch fails and each is tried alone', async () => {
    const path = pipe('batch');
    const writing = writeFile(path, readFileSync(BOOK));
    const { code, stdout, stderr } = await demo(['caption', path, 'no-such.png', '--batch', '2']);
    await writing;
    assert.deepEqual([code, stdout], [1, `${path}\t${SAYS}\n`]);
    assert.match(stderr, /^image2text: no-such\.png: no-such-file: [^\n]+\n$/);
    const stdin = await demo(['caption', '-', 'no-such.png', '--batch', '2'], { stdin: readFileSync(BOOK) });
    assert.deepEqual([stdin.code, stdin.stdout], [1, `stdin\t${SAYS}\n`]);
  });

  onPosix('has no folder for a sidecar', async () => {
    const { code, stderr } = await demo(['caption', pipe('sidecar'), '--sidecar', '.txt']);
    assert.equal(code, 2);
    assert.match(stderr, /sidecar is no file with a folder to write to/);
  });

  onPosix('at an output is not opened: refused at once, or replaced where that is asked for', async () => {
    const photo = join(folder(), 'output.png');
    copyFileSync(BOOK, photo);
    const sidecar = pipe('output.txt');
    const refused = await demo(['caption', photo, '--sidecar', '.txt']);
    assert.deepEqual([refused.code, /output\.txt is there already/.test(refused.stderr)], [2, true], refused.stderr);
    const written = await demo(['caption', photo, '--sidecar', '.txt', '--overwrite']);
    assert.equal(written.code, 0, written.stderr);
    assert.ok(statSync(sidecar).isFile());
    assert.equal(readFileSync(sidecar, 'utf8'), `${SAYS}\n`);
  });

  onPosix('two runs on sidecars whose names are not UTF-8 do not meet', async () => {
    const files = [Buffer.concat([Buffer.from(`${folder()}/`), Buffer.from([0xff]), Buffer.from('.txt')])];
    const inside = [Buffer.concat([Buffer.from(`${folder()}/`), Buffer.from([0xfe]), Buffer.from('/a.txt')])];
    const { lockFolders } = await import('../../src/cli/line-file.js');
    const lock = await lockFolders(files, '.txt', undefined);
    await assert.rejects(lockFolders(files, '.txt', undefined), /another run writes there/);
    await assert.rejects(lockFolders(inside, '.txt', undefined), /another run writes there/);
    await lock.release();
    await (await lockFolders(inside, '.txt', undefined)).release();
  });

  it('an address that cannot be fetched: with the reason', async () => {
    const refused = `http://127.0.0.1:${await closedPort()}/x.png`;
    await assert.rejects(openImage(refused), { code: 'cannot-fetch', detail: 'fetch failed (ECONNREFUSED)' });
    await assert.rejects(openImage('http://127.0.0.1:9/x.png'), { code: 'cannot-fetch', detail: /\(bad port\)/ });
    await assert.rejects(openImage('http://image.invalid/x.png'), { code: 'cannot-fetch', detail: /\(E[A-Z_]+\)/ });
  });
});
