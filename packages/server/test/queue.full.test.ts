import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadImage2Text } from 'generative-image2text/node';
import type { ResultLine } from '../src/queue/run.js';
import { dataset, needRedis, queue, queueProcess, startRedis, tinyImage } from './queue-support.js';

const COUNT = 5000;
const KILLS = 40;
const WORKERS = 3;
const SHARD = 25;

describe('the queue, at length', function () {
  this.timeout(4 * 3600 * 1000);

  it(`gives what one machine gives though ${WORKERS} workers are killed ${KILLS} times over ${COUNT} images`, async function () {
    if (process.env['IMAGE2TEXT_FULL'] !== '1') return this.skip();
    needRedis(this);
    const redis = await startRedis();
    const folder = mkdtempSync(join(tmpdir(), 'i2t-full-'));
    const workers = new Set<ChildProcess>();
    try {
      mkdirSync(join(folder, 'in'));
      dataset(join(folder, 'in'), COUNT);
      const out = join(folder, 'out');
      const where = ['--redis', redis.url];
      const model = ['--model', 'demo', '--strategy', 'greedy', '--max-new-tokens', '6'];
      const added = await queue(
        'add',
        join(folder, 'in'),
        '--output',
        out,
        '--shard-size',
        String(SHARD),
        ...where,
        ...model,
      );
      const run = added.stdout.trim();
      const done = (): number => readdirSync(join(out, run)).filter((name) => name.startsWith('shard-')).length;
      let kills = 0;
      let ended = 0;
      const hire = (): void => {
        const child = queueProcess(['work', '--once', '--lock', '2', ...where]);
        child.stderr!.resume();
        workers.add(child);
        child.once('exit', (code) => {
          workers.delete(child);
          if (code === 0) ended++;
          else hire();
        });
      };
      for (let n = 0; n < WORKERS; n++) hire();
      const shards = COUNT / SHARD;
      while (kills < KILLS) {
        // A kill whenever one 45th of the shards more is done, so that all fall within the run.
        while (done() < ((kills + 1) * shards) / (KILLS + 5)) await new Promise((resolve) => setTimeout(resolve, 20));
        const all = [...workers];
        all[kills % all.length]!.kill('SIGKILL');
        kills++;
      }
      while (ended < WORKERS) await new Promise((resolve) => setTimeout(resolve, 100));
      assert.equal(done(), shards);
      const file = join(folder, 'all.jsonl');
      assert.equal((await queue('merge', `${out}/${run}`, '--output', file)).code, 0);
      const lines = readFileSync(file, 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as ResultLine);
      const alone = await loadImage2Text('demo');
      try {
        assert.equal(lines.length, COUNT);
        for (let at = 0; at < COUNT; at += 8) {
          const images = Array.from({ length: Math.min(8, COUNT - at) }, (_, n) => new Uint8Array(tinyImage(at + n)));
          const captions = await alone.caption(images, { strategy: 'greedy', maxNewTokens: 6 });
          captions.forEach(({ text, score }, n) => {
            const { key, line, text: found, score: itsScore } = lines[at + n]!;
            assert.deepEqual(
              [key, line, found, itsScore],
              [`${String(at + n).padStart(5, '0')}.png`, at + n + 1, text, score],
            );
          });
        }
      } finally {
        alone.dispose();
      }
      console.log(
        `    ${COUNT} images, ${kills} kills, ${new Set(lines.map(({ text }) => text)).size} different texts`,
      );
    } finally {
      for (const child of workers) {
        child.removeAllListeners('exit');
        child.kill('SIGKILL');
      }
      await redis.remove();
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
