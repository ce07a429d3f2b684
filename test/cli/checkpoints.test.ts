import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DEMO, EXAMPLES, readBin } from '../support/fixtures.js';
import { withFolder } from '../support/folder.js';
import { startHub } from '../support/local-hub.js';
import { cli } from './support.js';

type Name = 'convert' | 'doctor' | 'download' | 'models' | 'verify';

async function run(name: Name, ...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
  const { code, stdout, stderr } = await cli([name, ...args]);
  return { code, out: stdout, err: stderr };
}

describe('commands for checkpoints', () => {
  it('models: a table of 17 within 80 columns, or JSON', async () => {
    const { code, out } = await run('models');
    const rows = out.trim().split('\n');
    assert.deepEqual([code, rows.length], [0, 1 + 2 * 17]);
    assert.deepEqual(
      rows.filter((row) => row.length > 80),
      [],
    );
    assert.match(
      out,
      /^microsoft\/git-large-textcaps +1577 MB +224 px +- +106\.3 CIDEr x100\n {2}captions that read text/m,
    );
    assert.equal((JSON.parse((await run('models', '--json')).out) as unknown[]).length, 17);
  });

  it('convert: writes, says how far the captions move, and refuses to overwrite', async () => {
    await withFolder(async (folder) => {
      const to = join(folder, 'int8');
      const images = [`${EXAMPLES}red-book-short.png`, `${EXAMPLES}black-shirt-press.jpg`];
      const done = await run('convert', DEMO, to, '--dtype', 'int8', '--backend', 'wasm', '--compare', ...images);
      assert.equal(done.code, 0, done.err);
      assert.match(done.out, /tensors as int8, 2\.1 MB \(from safetensors, 7\.1 MB\)/);
      assert.match(done.out, /logits move by at most 0\.\d+ on 2 images\n100\.0 % of their captions stay the same/);
      const again = await run('convert', DEMO, to);
      assert.deepEqual([again.code, /destination-exists/.test(again.err)], [2, true]);
      const json = await run('convert', to, join(folder, 'f16'), '--max-shard-size', '1MB', '--json');
      const { files, comparison } = JSON.parse(json.out) as { files: { name: string }[]; comparison?: unknown };
      assert.ok(files.some(({ name }) => name === 'model.safetensors.index.json') && comparison === undefined);
      const wrong = await run('convert', DEMO, to, '--max-shard-size', 'huge');
      assert.deepEqual([wrong.code, /200MB/.test(wrong.err)], [2, true]);
    });
  });

  it('verify: exit code 1 and the numbers, for a checkpoint that is not the published one', async () => {
    const flags = ['--as', 'microsoft/git-base', '--image', `${EXAMPLES}red-book-short.png`, '--backend', 'wasm'];
    const { code, out } = await run('verify', DEMO, ...flags);
    assert.equal(code, 1);
    assert.match(
      out,
      /logit 0 {2}published -1\.2832 {2}here .* DIFFERS\n[\s\S]*3 of 3 differ by more than 0\.0001: logit 0, 1, 2/,
    );
    const short = await run('verify', DEMO, ...flags.with(1, 'git-base'));
    assert.deepEqual([short.code, short.out], [1, out]);
    const { code: usage, err } = await run('verify', DEMO, '--backend', 'cpu');
    assert.deepEqual([usage, /which-checkpoint/.test(err)], [2, true]);
  });

  it('download: the folder on stdout, and convert takes the same name', async () => {
    const hub = await startHub();
    const before = process.env['HF_ENDPOINT'];
    try {
      const names = ['config.json', 'vocab.txt', 'preprocessor_config.json', 'model.safetensors'];
      const files = names.map((name) => [name, { content: readBin(DEMO + name), lfs: name.endsWith('s') }]);
      const commit = hub.commit('someone/git-demo', Object.fromEntries(files));
      process.env['HF_ENDPOINT'] = hub.url;
      await withFolder(async (folder) => {
        const cache = ['--cache-dir', join(folder, 'cache')];
        const { code, out, err } = await run('download', 'someone/git-demo', ...cache);
        assert.deepEqual([code, err], [0, '']);
        assert.ok(out.endsWith(`${commit}\n`));
        assert.deepEqual(readFileSync(join(out.trim(), 'vocab.txt')), readFileSync(`${DEMO}vocab.txt`));
        const json = JSON.parse((await run('download', 'someone/git-demo', ...cache, '--json')).out) as {
          commit: string;
        };
        assert.equal(json.commit, commit);
        mkdirSync(join(folder, 'to'));
        assert.equal((await run('convert', 'someone/git-demo', join(folder, 'to'), ...cache)).code, 0);
        assert.equal((await run('download', 'someone/else', ...cache)).code, 1);
      });
    } finally {
      if (before === undefined) delete process.env['HF_ENDPOINT'];
      else process.env['HF_ENDPOINT'] = before;
      await hub.close();
    }
  });

  it('without --model: says what it is about to fetch; offline says how to go on instead', () =>
    withFolder(async (folder) => {
      const before = { ...process.env };
      const caption = () => cli(['caption', `${EXAMPLES}red-book-short.png`, '--cache-dir', folder]);
      try {
        process.env['HF_ENDPOINT'] = 'http://127.0.0.1:9'; // nobody answers
        const fetched = await caption();
        assert.equal(fetched.code, 1);
        assert.match(fetched.stderr, /fetching microsoft\/git-base-textcaps, 70[67] MB, into .*--model demo needs no/);
        process.env['HF_HUB_OFFLINE'] = '1';
        const offline = await caption();
        assert.equal(offline.code, 1);
        assert.doesNotMatch(offline.stderr, /fetching/);
        assert.match(offline.stderr, /--model demo/);
      } finally {
        for (const name of ['HF_ENDPOINT', 'HF_HUB_OFFLINE']) {
          if (before[name] === undefined) delete process.env[name];
          else process.env[name] = before[name];
        }
      }
    }));

  it('doctor: a report of every backend', async () => {
    const { code, out } = await run('doctor', '--timeout', '280');
    assert.equal(code, 0);
    for (const line of [
      /^Node +\d+/m,
      /^backend wasm +works/m,
      /^backend node-gpu +not installed/m,
      /^default backend +\w+/m,
    ])
      assert.match(out, line);
  });
});
