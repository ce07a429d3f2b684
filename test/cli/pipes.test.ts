import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { constants, copyFileSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { type FileHandle, open, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { Context } from '../../src/cli/context.js';
import { commandLine, expandInputs, pathOf, textOf } from '../../src/cli/inputs.js';
import { openLineFile } from '../../src/cli/line-files.js';
import { openImage } from '../../src/node.js';
import { EXAMPLES } from '../support/fixtures.js';
import { scratch } from '../support/folder.js';
import { demo } from './support.js';

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
    const isRead = async (): Promise<FileHandle | undefined> =>
      open(path, constants.O_WRONLY | constants.O_NONBLOCK).catch((error: NodeJS.ErrnoException) => {
        assert.equal(error.code, 'ENXIO'); // nobody reads it yet
        return undefined;
      });
    let first = await isRead();
    while (first === undefined) first = await isRead();
    await writeFile(path, readFileSync(BOOK));
    await first.close();
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

  onPosix('an output that is a pipe is refused where nobody reads it, and written where somebody does', async () => {
    const path = pipe('lines.jsonl');
    const silent = await demo(['caption', BOOK, '--output', path]);
    assert.deepEqual([silent.code, /is a pipe that nobody reads/.test(silent.stderr)], [2, true], silent.stderr);
    const reading = readFile(path, 'utf8');
    const file = await openLineFile(path, { keyOf: () => undefined, mayBegin: () => false });
    await file.append(['one', 'two']);
    await file.close();
    assert.equal(await reading, 'one\ntwo\n');
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
    const { lockFolders } = await import('../../src/cli/line-files.js');
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

/** Linux alone has names of any bytes. */
const onLinux = process.platform === 'linux' ? it : it.skip;

describe('names that are not UTF-8', () => {
  const folder = scratch();

  it('are text that keeps their bytes', () => {
    for (const bytes of [
      [0x61, 0xff],
      [0xfe, 0x2e],
      [0xc3, 0xa9],
      [0xe9, 0xc3, 0xa9],
      [0xf0, 0x9f, 0x98, 0x80, 0x80],
    ]) {
      const path = pathOf(textOf(Uint8Array.from(bytes)));
      assert.deepEqual([...Buffer.from(path as string)], bytes);
    }
  });

  onLinux('come whole from the command line of this process', () => {
    const file = join(folder(), 'cmdline');
    writeFileSync(file, Buffer.from('node\0main.js\0caption\0a\xff\0--json\0', 'latin1'));
    assert.deepEqual(commandLine(['caption', 'a\ufffd', '--json'], file), ['caption', 'a\udcff', '--json']);
    assert.deepEqual(commandLine(['caption', 'a'], '/nowhere'), ['caption', 'a']);
    assert.deepEqual(commandLine(['a\ufffd'], '/nowhere'), ['a\ufffd']);
  });

  onLinux('are found by name, by glob and as folders; only images and videos may have them', async () => {
    const at = (name: number[]) => Buffer.concat([Buffer.from(`${folder()}/`), Buffer.from(name)]);
    for (const byte of [0xfe, 0xff]) copyFileSync(BOOK, at([0x61, byte, 0x2e, 0x70, 0x6e, 0x67]));
    mkdirSync(at([0xe9]));
    copyFileSync(BOOK, Buffer.concat([at([0xe9]), Buffer.from('/x.png')]));
    const context = { signal: new AbortController().signal } as Context;
    const names = async (name: string) => {
      const { inputs } = await expandInputs([name], context);
      for (const input of inputs) assert.equal(((await input.read()) as File).size, readFileSync(BOOK).length);
      return inputs.map((input) => input.name.slice(folder().length));
    };
    assert.deepEqual(await names(`${folder()}/a\udcff.png`), ['/a\udcff.png']);
    assert.deepEqual(await names(`${folder()}/a*.png`), ['/a\udcfe.png', '/a\udcff.png']);
    assert.deepEqual(await names(`${folder()}/\udce9`), ['/\udce9/x.png']);
    copyFileSync(`${EXAMPLES}video-1.gif`, at([0x76, 0xe9]));
    const video = await demo(['video', `${folder()}/v\udce9`]);
    assert.deepEqual(
      [video.code, video.stdout],
      [0, (await demo(['video', `${EXAMPLES}video-1.gif`])).stdout],
      video.stderr,
    );
    const refused = await demo(['caption', BOOK, '--output', `${folder()}/\udcff.jsonl`]);
    assert.deepEqual([refused.code, /output: .* is not UTF-8/.test(refused.stderr)], [2, true], refused.stderr);
  });
});
