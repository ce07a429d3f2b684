import assert from 'node:assert/strict';
import { existsSync, lstatSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { scanCacheDir } from '@huggingface/hub';
import { downloadFile } from '../../src/hub/download.js';
import { downloadSnapshot, type SnapshotOptions } from '../../src/hub/snapshot.js';
import type { LoadEvent } from '../../src/load-events.js';
import { withFolder } from '../support/folder.js';
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
  TOKEN,
} from './support.js';

const WEIGHTS: HubFile = { content: seededBytes(500_000, 7), lfs: true };
const FILES: Record<string, HubFile | string> = {
  'README.md': '# a model',
  'config.json': '{"model_type":"git"}',
  'preprocessor_config.json': '{"size":224}',
  'generation_config.json': '{"max_length":20}',
  'tokenizer_config.json': '{"do_lower_case":true}',
  'vocab.txt': '[PAD]\n[UNK]\n',
  'onnx/model.onnx': 'no',
  [FILE]: WEIGHTS,
  'pytorch_model.bin': { content: seededBytes(1000, 8), lfs: true },
  'flax_model.msgpack': { content: seededBytes(1000, 9), lfs: true },
};
const NEEDED = [
  'config.json',
  'preprocessor_config.json',
  'generation_config.json',
  'tokenizer_config.json',
  'vocab.txt',
  FILE,
];

describe('hub: snapshots', () => {
  let hub: LocalHub;
  let commit: string;
  beforeEach(async () => {
    hub = await startHub();
    commit = hub.commit(REPO, FILES);
  });
  afterEach(async () => {
    await assertDisconnected(hub);
    await hub.close();
  });
  const get = (cacheDir: string, options: SnapshotOptions = {}) =>
    downloadSnapshot(REPO, { cacheDir, endpoint: hub.url, env: {}, limits: IMPATIENT, ...options });
  const root = (cacheDir: string) => join(cacheDir, 'models--owner--name');

  it('takes what a GIT checkpoint needs, into the layout that Python reads', () =>
    withFolder(async (cacheDir) => {
      const snapshot = await get(cacheDir);
      assert.deepEqual(snapshot, { directory: join(root(cacheDir), 'snapshots', commit), commit, files: NEEDED });
      assert.deepEqual(readFileSync(join(snapshot.directory, FILE)), WEIGHTS.content);
      assert.equal(readFileSync(join(root(cacheDir), 'refs/main'), 'utf8'), commit);
      assert.equal(readlinkSync(join(snapshot.directory, FILE)), `../../blobs/${sha256(WEIGHTS.content)}`);
      assertTidy(cacheDir);
      assert.equal(hub.requests.length, 1 + NEEDED.length + 1, 'info, files, one redirect to the storage');
      const { repos } = await scanCacheDir(cacheDir);
      assert.equal(repos.length, 1);
      const [revision] = repos[0]!.revisions;
      assert.deepEqual(
        [revision!.commitOid, revision!.refs, revision!.files.length],
        [commit, ['main'], NEEDED.length],
      );
    }));

  it('a second call asks only for the commit, a full commit for nothing', () =>
    withFolder(async (cacheDir) => {
      const first = await get(cacheDir);
      const count = hub.requests.length;
      assert.deepEqual(await get(cacheDir), first);
      assert.equal(hub.requests.length, count + 1);
      assert.deepEqual(await get(cacheDir, { revision: commit }), first);
      assert.equal(hub.requests.length, count + 1);
    }));

  it('a revision that moved: the ref follows, the old snapshot stays, shared blobs are not fetched again', () =>
    withFolder(async (cacheDir) => {
      const old = await get(cacheDir);
      const moved = hub.commit(REPO, { ...FILES, 'config.json': '{"model_type":"git","new":1}' });
      const sent = hub.bytesSent;
      const { directory } = await get(cacheDir);
      assert.equal(hub.bytesSent - sent, 28);
      assert.equal(readFileSync(join(root(cacheDir), 'refs/main'), 'utf8'), moved);
      assert.match(readFileSync(join(directory, 'config.json'), 'utf8'), /new/);
      assert.equal(readFileSync(join(old.directory, 'config.json'), 'utf8'), FILES['config.json']);
      assert.equal((await get(cacheDir, { revision: commit, localFilesOnly: true })).directory, old.directory);
    }));

  it('a commit that the server answers with another one is refused; a cached file of a commit needs no server', () =>
    withFolder(async (cacheDir) => {
      const options = { cacheDir, endpoint: hub.url, env: {}, limits: IMPATIENT };
      const path = await downloadFile(REPO, 'config.json', { ...options, revision: commit });
      const count = hub.requests.length;
      assert.equal(await downloadFile(REPO, 'config.json', { ...options, revision: commit }), path);
      assert.equal(hub.requests.length, count);
      assert.ok(!existsSync(join(root(cacheDir), 'refs')), 'a commit has no ref');
      hub.commit(REPO, FILES, 'd'.repeat(40)); // a branch that calls itself a commit
      for (const work of [
        get(cacheDir, { revision: 'd'.repeat(40) }),
        downloadFile(REPO, FILE, { ...options, revision: 'd'.repeat(40) }),
      ]) {
        assert.equal((await hubErrorOf(work)).code, 'commit-header');
      }
    }));

  it('tells its progress as transformers.js does', () =>
    withFolder(async (cacheDir) => {
      const events: LoadEvent[] = [];
      await get(cacheDir, { onProgress: (event) => events.push(event) });
      const ofWeights = events.filter((event) => 'file' in event && event.file === FILE);
      assert.deepEqual(ofWeights.slice(0, 2), [
        { status: 'initiate', name: REPO, file: FILE },
        { status: 'download', name: REPO, file: FILE },
      ]);
      assert.deepEqual(ofWeights.at(-1), { status: 'done', name: REPO, file: FILE });
      const size = WEIGHTS.content.length;
      const last = ofWeights.findLast((event) => event.status === 'progress');
      assert.deepEqual(last, { status: 'progress', name: REPO, file: FILE, progress: 100, loaded: size, total: size });
      const totals = events.filter((event) => event.status === 'progress_total');
      assert.equal(new Set(totals.map(({ total }) => total)).size, 1, 'the total is known from the start');
      assert.ok(
        totals.every(({ loaded }, i) => i === 0 || loaded >= totals[i - 1]!.loaded),
        'it only grows',
      );
      assert.equal(totals.at(-1)!.progress, 100);
      assert.deepEqual(Object.keys(totals.at(-1)!.files), NEEDED);
    }));

  it('shards: the index first, then what it names', () =>
    withFolder(async (cacheDir) => {
      const shard = (n: number) => `model-0000${n}-of-00002.safetensors`;
      const index = JSON.stringify({ metadata: {}, weight_map: { b: shard(2), a: shard(1), c: shard(2) } });
      const files = { 'config.json': '{}', 'vocab.txt': '', 'model.safetensors.index.json': index };
      hub.commit(REPO, { ...files, [shard(1)]: WEIGHTS, [shard(2)]: 'two' }, 'sharded');
      const { files: names } = await get(cacheDir, { revision: 'sharded' });
      assert.deepEqual(names, ['config.json', 'vocab.txt', 'model.safetensors.index.json', shard(1), shard(2)]);
      assert.deepEqual((await get(cacheDir, { revision: 'sharded', localFilesOnly: true })).files, names);
      hub.commit(REPO, { ...files, [shard(1)]: WEIGHTS }, 'sharded');
      assert.equal((await hubErrorOf(get(cacheDir, { revision: 'sharded' }))).code, 'file-not-found');
      for (const index of ['{}', '[]', 'null', '{', '{"weight_map":[]}', '{"weight_map":{}}']) {
        hub.commit(REPO, { 'config.json': '{}', 'model.safetensors.index.json': index }, 'evil');
        assert.equal((await hubErrorOf(get(cacheDir, { revision: 'evil' }))).code, 'shard-index', index);
      }
      for (const name of ['../x.safetensors', 'a/b.safetensors', 'x.py', 'C:x.bin', 5]) {
        const evil = JSON.stringify({ weight_map: { a: name } });
        hub.commit(REPO, { 'config.json': '{}', 'model.safetensors.index.json': evil }, 'evil');
        assert.match((await hubErrorOf(get(cacheDir, { revision: 'evil' }))).code, /^(?:shard-index|file-name)$/);
      }
    }));

  it('prefers safetensors, falls back to PyTorch, and says what is missing', () =>
    withFolder(async (cacheDir) => {
      hub.commit(REPO, { 'config.json': '{}', 'pytorch_model.bin': 'x' }, 'torch');
      assert.deepEqual((await get(cacheDir, { revision: 'torch' })).files, ['config.json', 'pytorch_model.bin']);
      hub.commit(REPO, { 'model.pt': 'x' }, 'original');
      assert.deepEqual((await get(cacheDir, { revision: 'original' })).files, ['model.pt']);
      hub.commit(REPO, { 'config.json': '{}', 'tf_model.h5': 'x' }, 'none');
      assert.equal((await hubErrorOf(get(cacheDir, { revision: 'none' }))).code, 'no-weights');
      assert.deepEqual((await get(cacheDir, { files: ['README.md', 'onnx/model.onnx'] })).files, [
        'README.md',
        'onnx/model.onnx',
      ]);
      assert.equal(readFileSync(join(root(cacheDir), 'snapshots', commit, 'onnx/model.onnx'), 'utf8'), 'no');
      assert.equal((await hubErrorOf(get(cacheDir, { files: ['nope.txt'] }))).file, `${REPO}@main/nope.txt`);
    }));

  it('missing and gated repositories say what to do; the token is used and never shown', () =>
    withFolder(async (cacheDir) => {
      const missing = await hubErrorOf(downloadSnapshot('owner/other', { cacheDir, endpoint: hub.url, env: {} }));
      assert.deepEqual([missing.code, missing.file], ['repo-not-found', 'owner/other@main']);
      assert.equal((await hubErrorOf(get(cacheDir, { revision: 'v9' }))).code, 'revision-not-found');
      hub.rules.gated = TOKEN;
      assert.match((await hubErrorOf(get(cacheDir))).message, /accept its conditions at .*\/owner\/name.*HF_TOKEN/);
      assert.equal((await hubErrorOf(get(cacheDir, { token: `${TOKEN}2` }))).code, 'forbidden');
      assert.equal((await get(cacheDir, { token: TOKEN })).commit, commit);
      const storage = hub.requests.filter(({ path }) => path.includes('/storage/'));
      assert.equal(storage.length, 1);
      assert.equal((await get(cacheDir, { env: { HF_TOKEN: TOKEN } })).commit, commit);
    }));

  it('a mirror whose listing has no sizes is asked file by file; one that ignores Range works too', () =>
    withFolder(async (cacheDir) => {
      hub.rules.bareListing = true;
      hub.rules.ignoreRange = true;
      const { directory } = await get(cacheDir);
      assert.deepEqual(readFileSync(join(directory, FILE)), WEIGHTS.content);
      assert.equal(hub.requests.filter(({ method }) => method === 'HEAD').length, NEEDED.length);
    }));

  it('copies where symbolic links are not to be had, and repairs them', () =>
    withFolder(async (cacheDir) => {
      const env = { HF_HUB_DISABLE_SYMLINKS: '1' };
      const { directory } = await get(cacheDir, { env });
      const path = join(directory, FILE);
      assert.ok(lstatSync(path).isFile());
      assert.deepEqual((await get(cacheDir, { env, localFilesOnly: true })).files, NEEDED);
      rmSync(path);
      writeFileSync(path, 'damaged');
      await get(cacheDir, { env });
      assert.deepEqual(readFileSync(path), WEIGHTS.content);
    }));

  it('no server in reach: the cache answers, or the error says so', () =>
    withFolder(async (cacheDir) => {
      const first = await get(cacheDir);
      const gone = await startHub();
      await gone.close();
      assert.deepEqual(await get(cacheDir, { endpoint: gone.url }), first);
      const error = await hubErrorOf(downloadSnapshot('owner/other', { cacheDir, endpoint: gone.url, env: {} }));
      assert.equal(error.code, 'unreachable');
    }));

  it('a Hub that is busy or broken does not stop who has it all; who has not is told its answer', () =>
    withFolder(async (cacheDir) => {
      const first = await get(cacheDir);
      for (const status of [429, 500, 503]) {
        hub.handler = (_, response) => response.writeHead(status).end() !== undefined;
        assert.deepEqual(await get(cacheDir), first, `${status}`);
        const code = status === 429 ? 'rate-limited' : 'server-error';
        assert.equal((await hubErrorOf(get(join(cacheDir, 'empty')))).code, code);
      }
      hub.handler = (_, response) => response.writeHead(403).end() !== undefined;
      assert.equal((await hubErrorOf(get(cacheDir))).code, 'forbidden');
    }));

  it('what an asynchronous listener rejects with ends the download, and never the process', () =>
    withFolder(async (cacheDir) => {
      const reason = new Error('listener');
      let calls = 0;
      const onProgress = async () => {
        if (++calls === 2) throw reason;
      };
      await assert.rejects(get(cacheDir, { onProgress }), (error) => error === reason);
      await get(cacheDir);
    }));

  it('cacheDir may begin with ~ or a variable', () =>
    withFolder(async (home) => {
      const { directory } = await get('~/cache', { env: { HOME: home } });
      assert.ok(directory.startsWith(join(home, 'cache', 'models--owner--name')));
      assert.equal((await get('$HOME/cache', { env: { HOME: home } })).directory, directory);
    }));

  it('an abort ends it at once with the given reason, and a later run completes', () =>
    withFolder(async (cacheDir) => {
      hub.pace = { bytes: 8192, ms: 5 };
      const stop = new AbortController();
      const reason = new Error('enough');
      hub.onSent = () => stop.abort(reason);
      await assert.rejects(get(cacheDir, { signal: stop.signal }), (error) => error === reason);
      await assertDisconnected(hub);
      await assert.rejects(get(cacheDir, { signal: AbortSignal.abort(reason) }), (error) => error === reason);
      hub.pace = undefined;
      await get(cacheDir);
      assertTidy(cacheDir);
    }));

  it('wrong listings are typed errors', () =>
    withFolder(async (cacheDir) => {
      const bodies = [
        '',
        '[]',
        'null',
        '{"sha":1,"siblings":[]}',
        '{"sha":"main","siblings":[]}',
        '{"siblings":{}}',
        '<html>',
      ];
      for (const body of bodies) {
        hub.handler = (_, response) => response.end(body) !== undefined;
        assert.match((await hubErrorOf(get(cacheDir))).code, /^(?:listing|commit-header)$/, body);
      }
      const siblings = [null, 5, { rfilename: 7 }, { rfilename: '../../evil', size: -1 }, { rfilename: 'config.json' }];
      const body = JSON.stringify({ sha: commit, siblings });
      hub.handler = (_, response) => response.end(body) !== undefined;
      assert.equal((await hubErrorOf(get(cacheDir))).code, 'no-weights');
      assert.deepEqual(filesBelow(cacheDir), []);
    }));
});
