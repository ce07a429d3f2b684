import assert from 'node:assert/strict';
import { existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { downloadFile, listFiles, modelInfo, snapshotDownload } from '@huggingface/hub';
import { downloadSnapshot, type SnapshotOptions } from '../../src/hub/snapshot.js';
import { withFolder } from '../support/folder.js';
import { etagOf, type HubFile, sha256, startHub } from '../support/local-hub.js';
import { FILE, hubErrorOf, REPO, seededBytes } from './support.js';

const WEIGHTS: HubFile = { content: seededBytes(500_000, 7), lfs: true };

describe('hub: caches and clients of others', () => {
  /** The layout of Python's huggingface_hub, with what it leaves beside: locks, notes of absent files. */
  function pythonCache(cacheDir: string, commit: string, files: Record<string, HubFile>): string {
    const root = join(cacheDir, 'models--owner--name');
    for (const [name, file] of Object.entries(files)) {
      const blob = join(root, 'blobs', etagOf(file));
      const pointer = join(root, 'snapshots', commit, name);
      for (const path of [blob, pointer]) mkdirSync(dirname(path), { recursive: true });
      writeFileSync(blob, file.content);
      symlinkSync(join('../../blobs', etagOf(file)), pointer);
      mkdirSync(join(cacheDir, '.locks/models--owner--name'), { recursive: true });
      writeFileSync(join(cacheDir, '.locks/models--owner--name', `${etagOf(file)}.lock`), '');
    }
    mkdirSync(join(root, 'refs'));
    writeFileSync(join(root, 'refs/main'), commit);
    mkdirSync(join(root, '.no_exist', commit), { recursive: true });
    writeFileSync(join(root, '.no_exist', commit, 'added_tokens.json'), '');
    writeFileSync(join(cacheDir, 'version.txt'), '1');
    return root;
  }
  const small: Record<string, HubFile> = {
    'config.json': { content: Buffer.from('{}') },
    'vocab.txt': { content: Buffer.from('[UNK]\n') },
    [FILE]: WEIGHTS,
  };
  const commit = 'c'.repeat(40);
  const offline = (cacheDir: string, options: SnapshotOptions = {}) =>
    downloadSnapshot(REPO, { cacheDir, localFilesOnly: true, env: {}, ...options });

  it('what Python fetched is found, by branch and by commit', () =>
    withFolder(async (cacheDir) => {
      const root = pythonCache(cacheDir, commit, small);
      const found = await offline(cacheDir);
      assert.deepEqual(found, {
        directory: join(root, 'snapshots', commit),
        commit,
        files: ['config.json', 'vocab.txt', FILE],
      });
      assert.deepEqual(await offline(cacheDir, { revision: commit }), found);
      assert.equal((await hubErrorOf(offline(cacheDir, { revision: 'v2' }))).code, 'not-cached');
      assert.equal((await hubErrorOf(offline(cacheDir, { files: ['added_tokens.json'] }))).code, 'file-not-found');
      assert.equal((await hubErrorOf(offline(cacheDir, { files: ['tokenizer.json'] }))).code, 'not-cached');
    }));

  it('a half-written, damaged or emptied cache of Python is never used', () =>
    withFolder(async (cacheDir) => {
      const root = pythonCache(cacheDir, commit, small);
      const blob = join(root, 'blobs', etagOf(WEIGHTS));
      writeFileSync(blob, WEIGHTS.content.subarray(0, 1000));
      assert.equal((await hubErrorOf(offline(cacheDir))).code, 'damaged-cache');
      rmSync(blob);
      const { message } = await hubErrorOf(offline(cacheDir));
      assert.match(message, /owner\/name@main\/model\.safetensors: not-cached/);
      rmSync(join(root, 'snapshots', commit, FILE));
      assert.equal((await hubErrorOf(offline(cacheDir))).code, 'not-cached');
      writeFileSync(join(root, 'refs/main'), '../../../etc');
      assert.equal((await hubErrorOf(offline(cacheDir))).code, 'not-cached');
    }));

  it('the genuine @huggingface/hub speaks with our server, and its cache is ours', () =>
    withFolder(async (cacheDir) => {
      const hub = await startHub();
      try {
        const head = hub.commit(REPO, small);
        const repo = { type: 'model' as const, name: REPO };
        assert.equal((await modelInfo({ name: REPO, hubUrl: hub.url, additionalFields: ['sha'] })).sha, head);
        const listed = [];
        for await (const entry of listFiles({ repo, recursive: true, hubUrl: hub.url })) listed.push(entry);
        assert.equal(listed.find(({ path }) => path === FILE)?.lfs?.oid, sha256(WEIGHTS.content));
        const blob = await downloadFile({ repo, path: FILE, hubUrl: hub.url, xet: false });
        assert.deepEqual(Buffer.from(await blob!.arrayBuffer()), WEIGHTS.content);
        const { debug } = console;
        console.debug = () => undefined; // it tells what it does
        await snapshotDownload({ repo, hubUrl: hub.url, cacheDir }).finally(() => Object.assign(console, { debug }));
        const found = await offline(cacheDir);
        assert.deepEqual([found.commit, found.files], [head, Object.keys(small)]);
        assert.ok(existsSync(join(found.directory, FILE)));
      } finally {
        await hub.close();
      }
    }));
});
