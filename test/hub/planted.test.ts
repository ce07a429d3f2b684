import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, linkSync, lstatSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { downloadFile } from '../../src/hub/download.js';
import { downloadSnapshot } from '../../src/hub/snapshot.js';
import { withFolder } from '../support/folder.js';
import { type LocalHub, sha256, startHub } from '../support/local-hub.js';
import { FILE, hubErrorOf, IMPATIENT, REPO, seededBytes } from './support.js';

/** Things of others in the places where a cache writes: they are never written through, and never waited for. */
describe('hub: planted files', () => {
  const content = seededBytes(100_000, 12);
  const etag = sha256(content);
  const partial = `models--owner--name/blobs/${etag}.node.incomplete`;
  const lock = `.locks/models--owner--name/${etag}.node.lock`;
  let hub: LocalHub;
  beforeEach(async () => {
    hub = await startHub();
    hub.commit(REPO, { 'config.json': '{}', 'vocab.txt': '', [FILE]: { content, lfs: true } });
  });
  afterEach(() => hub.close());
  const options = (cacheDir: string) => ({ cacheDir, endpoint: hub.url, env: {}, limits: IMPATIENT });

  const plants: Record<string, (path: string, target: string) => void> = {
    'a symbolic link': (path, target) => symlinkSync(target, path),
    'a dangling link': (path, target) => symlinkSync(`${target}-none`, path),
    'a hard link': (path, target) => linkSync(target, path),
    'a FIFO': (path) => void execFileSync('mkfifo', [path]),
  };
  for (const [what, plant] of Object.entries(plants)) {
    for (const place of [partial, lock]) {
      if (what === 'a hard link' && place === lock) continue; // a lock of somebody else, waited for as long as it is fresh
      it(`${what} in the place of ${place === lock ? 'a lock' : 'a partial file'} is refused and left alone`, function () {
        if (process.platform === 'win32') return this.skip();
        return withFolder(async (folder) => {
          const [cacheDir, target] = [join(folder, 'cache'), join(folder, 'theirs')];
          writeFileSync(target, 'theirs');
          mkdirSync(dirname(join(cacheDir, place)), { recursive: true });
          plant(join(cacheDir, place), target);
          const error = await hubErrorOf(downloadFile(REPO, FILE, options(cacheDir)));
          assert.equal(error.code, 'not-a-plain-file');
          assert.equal(error.file, join(cacheDir, place));
          assert.equal(readFileSync(target, 'utf8'), 'theirs');
          assert.ok(!existsSync(`${target}-none`));
          rmSync(join(cacheDir, place));
          assert.deepEqual(readFileSync(await downloadFile(REPO, FILE, options(cacheDir))), content);
        });
      });
    }
  }

  it('links and FIFOs with the names of a ref, a note, a blob and a pointer are replaced, and their targets left alone', function () {
    if (process.platform === 'win32') return this.skip();
    return withFolder(async (folder) => {
      for (const what of ['a symbolic link', 'a FIFO']) {
        const [cacheDir, target] = [join(folder, what), join(folder, `${what}: theirs`)];
        writeFileSync(target, 'theirs');
        const { directory } = await downloadSnapshot(REPO, options(cacheDir));
        const places = [
          'models--owner--name/refs/main',
          `.locks/models--owner--name/${etag}.node.verified`,
          `models--owner--name/blobs/${etag}`,
        ].map((place) => join(cacheDir, place));
        for (const path of [...places, join(directory, 'vocab.txt')]) {
          rmSync(path);
          plants[what]!(path, target);
        }
        await downloadSnapshot(REPO, options(cacheDir));
        assert.equal(readFileSync(target, 'utf8'), 'theirs');
        assert.deepEqual(readFileSync(join(directory, FILE)), content);
        assert.equal(readFileSync(join(directory, 'vocab.txt'), 'utf8'), '');
        for (const path of places) assert.ok(lstatSync(path).isFile(), path);
      }
    });
  });

  it('a file name of 239 bytes is stored', () =>
    withFolder(async (cacheDir) => {
      const name = `${'n'.repeat(234)}.json`;
      hub.commit(REPO, { [name]: '{"a":1}' });
      assert.equal(readFileSync(await downloadFile(REPO, name, options(cacheDir)), 'utf8'), '{"a":1}');
    }));
});
