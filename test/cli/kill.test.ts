import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, watch } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../support/fixtures.js';
import { scratch } from '../support/folder.js';
import { FULL } from '../support/full.js';
import { seeded } from '../support/fuzz.js';
import { cli, ended, fillFolder, start, textsBelow } from './support.js';

const COUNT = 20;
const KILLS = FULL ? 5 : 2;

const count = (folder: string, ending: string): number =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith(ending)).length;

/** Calls back whenever a sidecar is written below a folder. */
function onSidecar(folder: string, callback: () => void): () => void {
  const watchers = [folder, join(folder, 'more')].map((at) =>
    watch(at, (_, name) => {
      if (name?.endsWith('.txt')) callback();
    }),
  );
  return () => {
    for (const watcher of watchers) watcher.close();
  };
}

describe('a folder run that is stopped', () => {
  const folder = scratch();
  const args = (here: string, output: string): string[] => [
    ...['caption', here, '--model', 'demo', '--recursive', '--strategy', 'greedy', '--batch', '2'],
    ...['--sidecar', '.txt', '--output', output, '--skip-existing'],
  ];

  it(`kill -9 at ${KILLS} moments, gone on with each time: the same files as of one run`, async () => {
    const [one, killed] = [join(folder(), 'one'), join(folder(), 'killed')];
    const [lines, killedLines] = [join(folder(), 'one.jsonl'), join(folder(), 'killed.jsonl')];
    for (const here of [one, killed]) fillFolder(here, COUNT);
    assert.equal((await cli(args(one, lines))).code, 0);
    const next = seeded(20260101);
    const moments: number[] = [];
    for (let n = 0; n < KILLS; n++) {
      const child = start(args(killed, killedLines));
      const result = ended(child);
      // at a sidecar that the seed chooses: its line may be there, cut off, or missing
      const wanted = count(killed, '.txt') + 1 + Math.floor(next() * 2);
      const stop = onSidecar(killed, () => {
        if (count(killed, '.txt') >= wanted) child.kill('SIGKILL');
      });
      const { signal } = await result;
      stop();
      assert.equal(signal, 'SIGKILL');
      moments.push(count(killed, '.txt'));
    }
    assert.ok(moments.at(-1)! > 0, `sidecars at the kills: ${moments.join()}`);
    console.log(`      sidecars at the kills: ${moments.join()} of ${COUNT}`);
    const { code } = await cli(args(killed, killedLines));
    assert.equal(code, 0);
    assert.deepEqual(textsBelow(killed), textsBelow(one));
    assert.equal(readFileSync(killedLines, 'utf8').replaceAll(killed, one), readFileSync(lines, 'utf8'));
    assert.deepEqual(
      readdirSync(killed).filter((name) => name.startsWith('.i2t')),
      [],
    );
  });

  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    it(`${signal}: code ${code}, whole files only, and a line that says how to go on`, async () => {
      const here = join(folder(), signal);
      const output = join(folder(), `${signal}.jsonl`);
      fillFolder(here, COUNT);
      const child = start(args(here, output));
      let sent = false; // a second one would end the process at once
      const stop = onSidecar(here, () => {
        if (!sent) sent = child.kill(signal);
      });
      const result = await ended(child);
      stop();
      assert.deepEqual([result.code, result.signal, result.stdout], [code, null, '']);
      assert.match(
        result.stderr,
        /^image2text: stopped: \d+ of 20 images are done; the same command with --skip-existing goes on\n$/,
      );
      const texts = textsBelow(here);
      const written = Object.keys(texts).length;
      assert.ok(written > 0 && written < COUNT, `${written} sidecars`);
      for (const [name, text] of Object.entries(texts)) {
        assert.match(name, /\.txt$/);
        assert.match(text, /^a .+\n$/);
      }
      const lines = readFileSync(output, 'utf8').split('\n');
      assert.equal(lines.pop(), '');
      assert.ok(lines.every((line) => JSON.parse(line).text.startsWith('a ')));
    });
  }

  it('a second Ctrl-C ends a run at once that hangs in its first', async () => {
    const script = `import { inContext } from './src/cli/context.ts';
      await inContext(process, ({ signal }) => new Promise(() => {
        setInterval(() => undefined, 1000);
        signal.addEventListener('abort', () => process.stdout.write('stopping'));
        process.stdout.write('ready');
      }));`;
    const args = ['--import', 'tsx', '--input-type=module', '--eval', script];
    const child = spawn(process.execPath, args, { cwd: ROOT });
    let said = '';
    child.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      if (said === 'ready' || said === 'readystopping') child.kill('SIGINT');
    });
    const { signal } = await ended(child);
    assert.deepEqual([signal, said], ['SIGINT', 'readystopping']);
  });

  it('a reader that goes ends it quietly', async () => {
    const here = join(folder(), 'pipe');
    fillFolder(here, COUNT);
    const child = start(['caption', here, '--model', 'demo', '--recursive', '--jsonl']);
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    child.stdout.once('data', () => child.stdout.destroy());
    const code = await new Promise((done) => child.on('exit', done));
    assert.deepEqual([code, stderr], [0, '']);
  });
});
