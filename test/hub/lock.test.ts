import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { HubError } from '../../src/errors.js';
import { acquireLock } from '../../src/hub/cache.js';
import type { HubClient } from '../../src/hub/client.js';
import { withRetries } from '../../src/hub/client.js';
import { withFolder } from '../support/folder.js';
import { IMPATIENT } from './support.js';

/** A file of so many milliseconds ago. */
function writeOld(file: string, text: string, age = 120_000): void {
  writeFileSync(file, text);
  const then = new Date(Date.now() - age);
  utimesSync(file, then, then);
}

/** The mark of who takes over the dead lock `a.lock` with this text. */
const markOf = (folder: string, dead: string): string =>
  join(folder, `.i2t-${createHash('sha256').update(`a.lock\n${dead}`).digest('hex').slice(0, 16)}.lock`);

/** Waits for the lock, finds it held, and leaves nothing behind. */
async function holdOnce(folder: string, waiting: ReturnType<typeof acquireLock>): Promise<void> {
  const lock = await waiting;
  assert.ok(await lock.isHeld());
  await lock.release();
  assert.deepEqual(readdirSync(folder), []);
}

describe('hub: lock', () => {
  const options = { pollMs: 2 };

  it('one at a time, of thirty', () =>
    withFolder(async (folder) => {
      const path = join(folder, 'deep/er/a.lock');
      let [inside, most] = [0, 0];
      const work = async () => {
        const lock = await acquireLock(path, options);
        most = Math.max(most, ++inside);
        await sleep(1);
        assert.ok(await lock.isHeld());
        inside--;
        await lock.release();
      };
      await Promise.all(Array.from({ length: 30 }, work));
      assert.equal(most, 1);
      assert.deepEqual(readdirSync(join(folder, 'deep/er')), []);
    }));

  it('one that many find dead is taken by one', () =>
    withFolder(async (folder) => {
      const path = join(folder, 'a.lock');
      for (let round = 0; round < 10; round++) {
        writeOld(path, round % 2 ? 'not even JSON' : '{"pid":1,"host":"another machine"}');
        const [first, ...others] = Array.from({ length: 8 }, () => acquireLock(path, options));
        let held = 0;
        await Promise.all(
          [first!, ...others].map(async (soon) => {
            const lock = await soon;
            held += (await lock.isHeld()) ? 1 : 0;
            await lock.release();
          }),
        );
        assert.equal(held, 8, 'each held it when its turn came');
        assert.deepEqual(readdirSync(folder), []);
      }
    }));

  it('is taken over although who began to do so was killed', () =>
    withFolder(async (folder) => {
      const path = join(folder, 'a.lock');
      const dead = '{"pid":1,"host":"another machine"}';
      for (const file of [path, markOf(folder, dead)]) writeOld(file, dead);
      await holdOnce(folder, acquireLock(path, options));
    }));

  it('is left to the running process that is taking it over, although it stands still', () =>
    withFolder(async (folder) => {
      const [path, mark] = [join(folder, 'a.lock'), markOf(folder, 'dead')];
      writeOld(path, 'dead');
      writeOld(mark, JSON.stringify({ pid: process.pid, host: hostname(), id: 'of another' }), 30_000);
      const soon = acquireLock(path, options);
      await sleep(100);
      assert.equal(readFileSync(path, 'utf8'), 'dead');
      rmSync(mark);
      await holdOnce(folder, soon);
    }));

  it('what is in the way of taking it over is named', () =>
    withFolder(async (folder) => {
      const [path, mark] = [join(folder, 'a.lock'), markOf(folder, 'dead')];
      writeOld(path, 'dead');
      mkdirSync(mark);
      const old = new Date(Date.now() - 120_000);
      utimesSync(mark, old, old);
      await assert.rejects(acquireLock(path, options), { code: 'not-a-plain-file', file: mark });
    }));

  it('is kept alive while it is held, and lost when another takes it', () =>
    withFolder(async (folder) => {
      const path = join(folder, 'a.lock');
      const staleMs = 6000; // a heartbeat each second
      const lock = await acquireLock(path, { staleMs });
      const old = new Date(Date.now() - 3000);
      utimesSync(path, old, old);
      while (statSync(path).mtimeMs <= old.getTime()) await sleep(5);
      const stop = new AbortController();
      let polls = 0;
      const onBusy = () => void (++polls === 20 && stop.abort(new Error('enough')));
      const late = acquireLock(path, { ...options, staleMs, signal: stop.signal, onBusy });
      await assert.rejects(late, /enough/);
      assert.ok(await lock.isHeld());
      writeFileSync(path, '{"pid":1,"host":"another machine"}');
      assert.equal(await lock.isHeld(), false);
      await lock.release();
      assert.ok(existsSync(path), 'what is not ours is not removed');
    }));
});

describe('hub: retries', () => {
  const client = { limits: { ...IMPATIENT, retries: 3, backoffMs: 1 }, signal: undefined } as HubClient;
  const broken = (code: string) => new HubError({ code, detail: 'x' });
  const failing = (code: string) => {
    const state = { tries: 0 };
    const attempt = () => Promise.reject(broken(code)).finally(() => state.tries++);
    return { state, attempt };
  };

  it('ends after the given number of tries, and at once where there is no hope', async () => {
    for (const [code, tries] of [
      ['connection-lost', 4],
      ['idle-timeout', 4],
      ['forbidden', 1],
      ['hash-mismatch', 1],
    ] as const) {
      const { state, attempt } = failing(code);
      await assert.rejects(withRetries(client, attempt), { code });
      assert.equal(state.tries, tries, code);
    }
  });

  it('counts anew after another MiB, and never for the same bytes twice', async () => {
    const { state, attempt } = failing('connection-lost');
    const arrived = () => Math.min(state.tries, 5) * (1 << 20);
    await assert.rejects(withRetries(client, attempt, { arrived }), { code: 'connection-lost' });
    assert.equal(state.tries, 5 + 3);
    const sawtooth = failing('connection-lost');
    const again = () => (sawtooth.state.tries % 2) * (1 << 20);
    await assert.rejects(withRetries(client, sawtooth.attempt, { arrived: again }), { code: 'connection-lost' });
    assert.ok(sawtooth.state.tries <= 5, `${sawtooth.state.tries}`);
  });

  it('an abort ends a pause', async () => {
    const stop = new AbortController();
    const slow = { ...client, limits: { ...client.limits, backoffMs: 60_000 }, signal: stop.signal };
    const { attempt } = failing('connection-lost');
    const once = () => {
      setImmediate(() => stop.abort(new Error('enough')));
      return attempt();
    };
    await assert.rejects(withRetries(slow, once), /enough/);
  });
});
