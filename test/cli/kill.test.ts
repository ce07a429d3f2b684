import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { demo, ended, fillFolder, scratch, start, textsBelow } from './support.js';

const COUNT = 40;
const KILLS = 10;

/** Pseudo-random numbers from 0 to 1, the same in every run (mulberry32). */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const count = (folder: string, ending: string): number =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith(ending)).length;

/** Resolves when `done()` is true, or the process has ended. */
async function until(child: ReturnType<typeof start>, done: () => boolean): Promise<void> {
  while (!done() && child.exitCode === null && child.signalCode === null) {
    await new Promise((next) => setTimeout(next, 2));
  }
}

describe('a folder run that is stopped', () => {
  const folder = scratch();
  const args = (here: string, output: string): string[] => [
    ...['caption', here, '--recursive', '--strategy', 'greedy', '--batch', '2'],
    ...['--sidecar', '.txt', '--output', output, '--skip-existing'],
  ];

  it(`kill -9 at ${KILLS} random moments, gone on with each time: the same files as of one run`, async () => {
    const [one, killed] = [join(folder(), 'one'), join(folder(), 'killed')];
    const [lines, killedLines] = [join(folder(), 'one.jsonl'), join(folder(), 'killed.jsonl')];
    for (const here of [one, killed]) fillFolder(here, COUNT);
    assert.equal((await demo(args(one, lines))).code, 0);
    const next = random(20260101);
    const moments: number[] = [];
    for (let n = 0; n < KILLS; n++) {
      const child = start(args(killed, killedLines));
      const result = ended(child);
      const wanted = count(killed, '.txt') + Math.floor(next() * 5); // 0 more: while it starts or writes the first
      await until(child, () => count(killed, '.txt') >= wanted);
      await new Promise((later) => setTimeout(later, next() * 60));
      child.kill('SIGKILL');
      assert.equal((await result).signal, 'SIGKILL');
      moments.push(count(killed, '.txt'));
    }
    assert.ok(moments.at(-1)! > 0 && moments.at(-1)! < COUNT, `sidecars at the kills: ${moments.join()}`);
    console.log(`      sidecars at the kills: ${moments.join()} of ${COUNT}`);
    const { code, stderr } = await demo(args(killed, killedLines));
    assert.deepEqual([code, stderr.split(';').length], [0, 1]);
    assert.deepEqual(textsBelow(killed), textsBelow(one));
    assert.equal(readFileSync(killedLines, 'utf8').replaceAll(killed, one), readFileSync(lines, 'utf8'));
  });

  it('Ctrl-C: code 130, whole files only, nothing said', async () => {
    const here = join(folder(), 'interrupted');
    const output = join(folder(), 'interrupted.jsonl');
    fillFolder(here, COUNT);
    const child = start(args(here, output));
    const result = ended(child);
    await until(child, () => count(here, '.txt') > 0);
    child.kill('SIGINT');
    assert.deepEqual(await result, { code: 130, signal: null, stdout: '', stderr: '' });
    const texts = textsBelow(here);
    assert.ok(Object.keys(texts).length < COUNT);
    for (const [name, text] of Object.entries(texts)) {
      assert.match(name, /\.txt$/);
      assert.match(text, /^a .+\n$/);
    }
    const lines = readFileSync(output, 'utf8').split('\n');
    assert.equal(lines.pop(), '');
    assert.ok(lines.every((line) => JSON.parse(line).text.startsWith('a ')));
  });

  it('a reader that goes ends it quietly', async () => {
    const here = join(folder(), 'pipe');
    fillFolder(here, COUNT);
    const child = start(['caption', here, '--recursive', '--jsonl']);
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    child.stdout.once('data', () => child.stdout.destroy());
    const code = await new Promise((done) => child.on('exit', done));
    assert.deepEqual([code, stderr], [0, '']);
  });
});
