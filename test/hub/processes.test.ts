import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { build } from 'esbuild';
import { downloadSnapshot } from '../../src/hub/snapshot.js';
import { ROOT } from '../support/fixtures.js';
import { withFolder } from '../support/folder.js';
import { FULL } from '../support/full.js';
import { seeded } from '../support/fuzz.js';
import { type HubFile, type LocalHub, sha256, startHub } from '../support/local-hub.js';
import {
  assertDisconnected,
  assertTidy,
  FILE,
  filesBelow,
  hubErrorOf,
  IMPATIENT,
  REPO,
  seededBytes,
} from './support.js';

const CHUNK = 64 << 10; // what a process may hold in its hands when it dies
const WEIGHTS: HubFile = { content: seededBytes(8 << 20, 11), lfs: true };
const SMALL = { 'config.json': '{}', 'vocab.txt': '[UNK]\n' };
const BLOB = `models--owner--name/blobs/${sha256(WEIGHTS.content)}`;

describe('hub: several processes, and their deaths', () => {
  let hub: LocalHub;
  let folder: string;
  let script: string;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'image2text-child-'));
    script = join(folder, 'download-child.mjs'); // bundled: a child starts in 60 ms instead of 500
    const entryPoints = [`${ROOT}test/hub/download-child.ts`];
    await build({ entryPoints, outfile: script, bundle: true, platform: 'node', format: 'esm', target: 'node20' });
  });
  after(() => rmSync(folder, { recursive: true, force: true }));
  beforeEach(async () => {
    hub = await startHub();
    hub.commit(REPO, { ...SMALL, [FILE]: WEIGHTS });
  });
  afterEach(() => hub.close());

  const start = (cacheDir: string): ChildProcess =>
    spawn(process.execPath, [script, hub.url, cacheDir, REPO], { stdio: ['ignore', 'pipe', 'pipe'], env: {} });

  async function finished(child: ChildProcess): Promise<string> {
    let [said, complained] = ['', ''];
    child.stdout!.on('data', (text) => (said += text));
    child.stderr!.on('data', (text) => (complained += text));
    const [code] = await once(child, 'close');
    assert.equal(code, 0, complained);
    return said;
  }

  /**
   * Lets the server send no more than half a chunk ahead of what lies in the partial file, so that the bytes it counts are those
   * that the process got, and not those in the buffers of the kernel; and calls `reached` after `place` bytes.
   */
  function sendClosely(cacheDir: string, place: number, reached: () => void | Promise<void>): void {
    const path = join(cacheDir, `${BLOB}.node.incomplete`);
    const stored = () => (existsSync(path) ? statSync(path).size : 0);
    let start: number | undefined;
    let before = 0;
    hub.pace = { bytes: CHUNK / 4, ms: 0 };
    hub.onSent = async (sent) => {
      if (sent >= place) await reached();
      const request = hub.requests.at(-1)!;
      if (!request.path.includes('/storage/')) return;
      if (start === undefined) [start, before] = [stored(), sent - CHUNK / 4];
      while (start + sent - before > stored() + CHUNK / 2 && hub.openConnections() > 0) await sleep(1);
    };
  }

  const KILLS = FULL ? 20 : 6;
  it(`killed ${KILLS} times at random places: the right bytes, and none fetched twice beyond a chunk per kill`, () =>
    withFolder(async (cacheDir) => {
      const random = seeded(2026);
      const size = WEIGHTS.content.length;
      const places = Array.from({ length: KILLS }, () => Math.floor(random() * 0.95 * size)).sort((a, b) => a - b);
      let stored = 0;
      for (const [i, path] of places.entries()) {
        const child = start(cacheDir);
        const gone = once(child, 'close');
        const kill = async () => {
          child.kill('SIGKILL');
          await gone;
          await assertDisconnected(hub);
        };
        sendClosely(cacheDir, path + i * (CHUNK / 4), kill); // earlier kills cost bytes, too
        await gone;
        assert.equal(child.signalCode, 'SIGKILL', `run ${i} was not killed`);
        assert.ok(!existsSync(join(cacheDir, BLOB)), 'no partial file under a final name');
        const from = /\d+/.exec(hub.requests.findLast(({ path }) => path.includes('/storage/'))?.headers.range ?? '0');
        assert.equal(Number(from), stored, 'what lies on the disk is not asked for again');
        stored = statSync(join(cacheDir, `${BLOB}.node.incomplete`)).size;
      }
      hub.onSent = undefined;
      const directory = await finished(start(cacheDir));
      assert.deepEqual(readFileSync(join(directory, FILE)), WEIGHTS.content);
      assertTidy(cacheDir);
      const twice = hub.bytesSent - size - Object.values(SMALL).join('').length;
      console.log(
        `      ${KILLS} kills: ${twice} bytes of ${size} fetched twice, ${(twice / KILLS / 1024).toFixed(1)} KiB a kill`,
      );
      assert.ok(twice <= KILLS * CHUNK, `${twice} bytes were fetched twice`);
      await assertDisconnected(hub);
    }));

  it('two at once: one download, one good copy', () =>
    withFolder(async (cacheDir) => {
      hub.pace = { bytes: CHUNK, ms: 2 };
      const [first, second] = await Promise.all([finished(start(cacheDir)), finished(start(cacheDir))]);
      assert.equal(first, second);
      assert.deepEqual(readFileSync(join(first, FILE)), WEIGHTS.content);
      assert.equal(hub.bytesSent, WEIGHTS.content.length + Object.values(SMALL).join('').length);
      assertTidy(cacheDir);
    }));

  it('one of two dies: the other takes over where it stopped', () =>
    withFolder(async (cacheDir) => {
      const doomed = start(cacheDir);
      const gone = once(doomed, 'close');
      const listings = () => hub.requests.filter(({ path }) => path.includes('/api/')).length;
      const heir = await new Promise<string>((resolve) => {
        sendClosely(cacheDir, WEIGHTS.content.length / 2, async () => {
          hub.onSent = undefined;
          const next = finished(start(cacheDir));
          while (listings() < 2) await sleep(1); // it has the listing and goes for the lock; the first one gets nothing meanwhile
          doomed.kill('SIGKILL');
          await gone;
          resolve(next);
        });
      });
      assert.deepEqual(readFileSync(join(heir, FILE)), WEIGHTS.content);
      assert.ok(hub.bytesSent < WEIGHTS.content.length + 4 * CHUNK, `${hub.bytesSent} bytes sent`);
      assertTidy(cacheDir);
    }));

  it('a partial file that is wrong, too long, or of another program does no harm', () =>
    withFolder(async (cacheDir) => {
      const get = () => downloadSnapshot(REPO, { cacheDir, endpoint: hub.url, env: {}, limits: IMPATIENT });
      mkdirSync(join(cacheDir, 'models--owner--name/blobs'), { recursive: true });
      for (const bytes of [Buffer.from('wrong'), Buffer.alloc(9 << 20), WEIGHTS.content.subarray(0, 1 << 20)]) {
        rmSync(join(cacheDir, BLOB), { force: true });
        writeFileSync(join(cacheDir, `${BLOB}.node.incomplete`), bytes);
        writeFileSync(join(cacheDir, `${BLOB}.incomplete`), 'Python is still busy here');
        const { directory } = await get();
        assert.deepEqual(readFileSync(join(directory, FILE)), WEIGHTS.content);
        assert.deepEqual(
          filesBelow(cacheDir).filter((name) => /incomplete/.test(name)),
          [`${BLOB}.incomplete`],
        );
      }
    }));

  it('a lock that a dead process left is taken away, one of a living process is waited for', () =>
    withFolder(async (cacheDir) => {
      const lock = join(cacheDir, '.locks/models--owner--name', `${sha256(WEIGHTS.content)}.node.lock`);
      const dead = start(join(cacheDir, 'elsewhere'));
      dead.kill('SIGKILL');
      await once(dead, 'close');
      mkdirSync(join(cacheDir, '.locks/models--owner--name'), { recursive: true });
      const options = { cacheDir, endpoint: hub.url, env: {}, limits: IMPATIENT };
      writeFileSync(lock, JSON.stringify({ pid: process.pid, host: hostname(), id: 'x' }));
      await assert.rejects(downloadSnapshot(REPO, { ...options, signal: AbortSignal.timeout(300) }), /timeout/i);
      assert.ok(existsSync(lock), 'a lock of others is not removed');
      writeFileSync(lock, JSON.stringify({ pid: dead.pid, host: hostname(), id: 'x' }));
      await downloadSnapshot(REPO, options);
      assertTidy(cacheDir);
    }));

  it('the disk is full in the middle of a download: a typed error, and nothing is left', function () {
    if (process.platform === 'win32') return this.skip();
    return withFolder(async (cacheDir) => {
      const command = `ulimit -f 2048; exec "$0" "$@"`; // blocks of 512 or 1024 bytes: less than the weights, more than all else
      const child = spawn('sh', ['-c', command, process.execPath, script, hub.url, cacheDir, REPO], { env: {} });
      let complaint = '';
      child.stderr.on('data', (text) => (complaint += text));
      const [code] = await once(child, 'close');
      assert.notEqual(code, 0);
      assert.match(complaint, /HubError.*: disk-full: no space is left/);
      assert.ok(!existsSync(join(cacheDir, BLOB)));
      assertTidy(cacheDir);
    });
  });

  it('a damaged blob is never used, whoever damaged it', () =>
    withFolder(async (cacheDir) => {
      const options = { cacheDir, endpoint: hub.url, env: {}, limits: IMPATIENT };
      await downloadSnapshot(REPO, options);
      const damaged = Buffer.from(WEIGHTS.content);
      damaged[damaged.length >> 1]! ^= 1;
      writeFileSync(join(cacheDir, BLOB), damaged);
      assert.equal(
        (await hubErrorOf(downloadSnapshot(REPO, { ...options, localFilesOnly: true }))).code,
        'damaged-cache',
      );
      const { directory } = await downloadSnapshot(REPO, options);
      assert.deepEqual(readFileSync(join(directory, FILE)), WEIGHTS.content);
    }));
});
