import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadImage2Text } from 'generative-image2text/node';
import { ROOT } from '../../../test/support/fixtures.js';
import { FULL, itInFull } from '../../../test/support/full.js';
import { skipWithout } from '../../../test/support/skip.js';
import type { ResultLine } from '../src/queue/run.js';
import {
  dataset,
  needRedis,
  queue,
  queueProcess,
  type Redis,
  startBucket,
  startRedis,
  tinyImage,
} from './queue-support.js';
import { until } from './support.js';

const MODEL = ['--model', 'demo', '--strategy', 'greedy', '--max-new-tokens', '6'];

describe('the queue', () => {
  let redis: Redis;
  let folder: string;
  before(async function () {
    needRedis(this);
    redis = await startRedis();
  });
  after(() => redis?.remove());
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'i2t-queue-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const at = (name: string): string => join(folder, name);
  const redisOf = (): string[] => ['--redis', redis.url];
  const names = new Map<string, number>();
  /** A queue that no other test uses. */
  const fresh = (): string[] => {
    names.set('n', (names.get('n') ?? 0) + 1);
    return ['--queue', `test-${names.get('n')}`];
  };
  const lines = (file: string): ResultLine[] =>
    readFileSync(file, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as ResultLine);
  async function add(source: string, name: string[], ...more: string[]): Promise<string> {
    const added = await queue('add', source, '--output', at('out'), ...redisOf(), ...name, ...MODEL, ...more);
    assert.equal(added.code, 0, added.stderr);
    return added.stdout.trim();
  }
  const work = (name: string[], ...more: string[]) => queue('work', '--once', ...redisOf(), ...name, ...more);
  async function expected(images: readonly Buffer[]): Promise<string[]> {
    const model = await loadImage2Text('demo');
    try {
      const options = { strategy: 'greedy', maxNewTokens: 6 } as const;
      return (
        await model.caption(
          images.map((image) => new Uint8Array(image)),
          options,
        )
      ).map(({ text }) => text);
    } finally {
      model.dispose();
    }
  }
  const images = (count: number): Buffer[] => Array.from({ length: count }, (_, n) => tinyImage(n));

  it('captions a folder as one machine does, says how far it is, and merges', async () => {
    mkdirSync(at('in/below'), { recursive: true });
    dataset(at('in'), 22);
    writeFileSync(at('in/below/x.png'), tinyImage(22));
    writeFileSync(at('in/00005.png'), 'no image'); // the others are done
    const name = fresh();
    const run = await add(at('in'), name, '--shard-size', '5');
    const before = await queue('status', `${at('out')}/${run}`, ...redisOf(), ...name);
    assert.match(before.stdout, /0 of 5 shards[\s\S]*5 waiting/);
    assert.equal((await queue('merge', `${at('out')}/${run}`, '--output', at('all.jsonl'))).code, 2); // not done yet
    const worked = await work(name);
    assert.deepEqual([worked.code, /5 shards done/.test(worked.stderr)], [0, true], worked.stderr);
    const after = await queue('status', `${at('out')}/${run}`, ...redisOf(), ...name);
    assert.match(after.stdout, /5 of 5 shards \(100 %\)[\s\S]*inputs.jsonl line 6: 00005.png: not-an-image/);
    const merged = await queue('merge', `${at('out')}/${run}`, '--output', at('all.jsonl'));
    assert.equal(merged.code, 1); // one image failed, and is named
    assert.match(merged.stdout, /23 images, 1 failed/);
    const again = await queue('merge', `${at('out')}/${run}`, '--output', at('all.jsonl'));
    assert.deepEqual([again.code, /all\.jsonl exists already/.test(again.stderr)], [2, true], again.stderr);
    const all = lines(at('all.jsonl'));
    assert.deepEqual(
      all.map(({ line }) => line),
      Array.from({ length: 23 }, (_, n) => n + 1),
    );
    const texts = await expected(images(23));
    assert.deepEqual(
      all.map(({ text }) => text),
      texts.map((text, n) => (n === 5 ? undefined : text)),
    );
    assert.deepEqual(
      readdirSync(`${at('out')}/${run}`).filter((file) => file.startsWith('.')),
      [],
    );
    await queue('merge', `${at('out')}/${run}`, '--output', at('all.tsv'));
    assert.equal(readFileSync(at('all.tsv'), 'utf8').split('\n')[0], `00000.png\t[{"caption":"${texts[0]}"}]`);
  });

  it('has the same name for the same work, and adds only what is missing', async () => {
    mkdirSync(at('in'));
    dataset(at('in'), 6);
    const name = fresh();
    const run = await add(at('in'), name, '--shard-size', '2');
    assert.equal(await add(at('in'), name, '--shard-size', '2'), run);
    await work(name);
    const again = await queue(
      'add',
      at('in'),
      '--output',
      at('out'),
      ...redisOf(),
      ...name,
      ...MODEL,
      '--shard-size',
      '2',
    );
    assert.match(again.stderr, /0 added, 0 in the queue already, 3 done/);
    const shards = readdirSync(`${at('out')}/${run}`).filter((file) => file.startsWith('shard-'));
    rmSync(`${at('out')}/${run}/${shards[1]}`); // a result that was lost is made again, though the queue has it as done
    const third = await queue(
      'add',
      at('in'),
      '--output',
      at('out'),
      ...redisOf(),
      ...name,
      ...MODEL,
      '--shard-size',
      '2',
    );
    assert.match(third.stderr, /1 added, 0 in the queue already, 2 done/);
    await work(name);
    assert.deepEqual(
      readdirSync(`${at('out')}/${run}`).filter((file) => file.startsWith('shard-')),
      shards,
    );
    for (const other of [
      ['--temperature', '2', '--strategy', 'sample'],
      ['--weights', 'int8'],
      ['--question', 'what?'],
    ])
      assert.notEqual(await add(at('in'), fresh(), '--shard-size', '2', ...other), run);
    writeFileSync(at('in/more.png'), tinyImage(7));
    assert.notEqual(await add(at('in'), fresh(), '--shard-size', '2'), run);
  });

  it('reads TSV with and without its line index, tar files, and lists', async () => {
    const count = 7;
    const texts = await expected(images(count));
    const tsv = images(count).map((image, n) => `key${n}\t${image.toString('base64')}\n`);
    writeFileSync(at('a.tsv'), tsv.join(''));
    writeFileSync(at('b.tsv'), tsv.join(''));
    let offset = 0;
    const starts = tsv.map((line) => {
      offset += line.length;
      return offset - line.length;
    });
    writeFileSync(at('b.lineidx'), starts.join('\n'));
    writeFileSync(
      at('c.tar'),
      tar(images(count).map((image, n) => [`${'long/'.repeat(n === 3 ? 30 : 0)}img${n}.png`, image])),
    );
    dataset(folder, count);
    writeFileSync(
      at('d.jsonl'),
      Array.from(
        { length: count },
        (_, n) => `${n % 2 === 0 ? JSON.stringify({ id: n, path: `0000${n}.png` }) : `"0000${n}.png"`}\n`,
      ).join(''),
    );
    for (const source of ['a.tsv', 'b.tsv', 'c.tar', 'd.jsonl']) {
      const name = fresh();
      const run = await add(at(source), name, '--shard-size', '3');
      assert.equal((await work(name)).code, 0);
      const file = at(`${source}.jsonl`);
      assert.equal((await queue('merge', `${at('out')}/${run}`, '--output', file)).code, 0, source);
      assert.deepEqual(
        lines(file).map(({ text }) => text),
        texts,
        source,
      );
    }
    writeFileSync(at('b.lineidx'), '0\n99999999\n');
    const wrong = await queue('add', at('b.tsv'), '--output', at('out'), ...redisOf(), ...fresh(), ...MODEL);
    assert.match(wrong.stderr, /line-index/);
  });

  it('refuses jobs that are not what their name says, and machines with another model', async () => {
    mkdirSync(at('in'));
    dataset(at('in'), 2);
    const name = fresh();
    await add(at('in'), name);
    const other = at('other');
    const { cpSync } = await import('node:fs');
    cpSync('weights/demo', other, { recursive: true });
    writeFileSync(join(other, 'generation_config.json'), '{"num_beams": 2}');
    const refused = await work(name, '--model', other);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /the one here is/);
    assert.match((await work(name)).stderr, /1 shard done/); // the shard went back to the queue
    const { Queue } = await import('bullmq');
    const jobs = new Queue(name[1]!, { connection: { url: redis.url } });
    const [job] = await jobs.getJobs(['completed']);
    await jobs.add('shard', { ...job!.data, spec: { ...job!.data.spec, weights: 'int8' } });
    await jobs.close();
    const changed = await work(name);
    assert.equal(changed.code, 1);
    assert.match(changed.stderr, /changed-job/);
  });

  it('publishes into a bucket with conditional writes', async () => {
    const bucket = await startBucket();
    const aws = {
      AWS_ENDPOINT_URL_S3: bucket.endpoint,
      AWS_ACCESS_KEY_ID: 'a',
      AWS_SECRET_ACCESS_KEY: 'b',
      AWS_REGION: 'x',
    };
    const before = { ...process.env };
    Object.assign(process.env, aws);
    try {
      mkdirSync(at('in'));
      dataset(at('in'), 7);
      const name = fresh();
      const added = await queue(
        'add',
        at('in'),
        '--output',
        's3://b/pre',
        ...redisOf(),
        ...name,
        ...MODEL,
        '--shard-size',
        '2',
      );
      assert.equal(added.code, 0, added.stderr);
      const run = added.stdout.trim();
      assert.equal((await work(name)).code, 0);
      assert.equal((await queue('merge', `s3://b/pre/${run}`, '--output', at('all.jsonl'))).code, 0);
      assert.deepEqual(
        lines(at('all.jsonl')).map(({ text }) => text),
        await expected(images(7)),
      );
      assert.equal([...bucket.objects.keys()].filter((key) => key.startsWith(`b/pre/${run}/shard-`)).length, 4);
      const sdk = await import('@aws-sdk/client-s3');
      const { bucketStore } = await import('../src/queue/store.js');
      const client = new sdk.S3Client({ endpoint: bucket.endpoint, forcePathStyle: true });
      const store = bucketStore(sdk, client, 'b', '');
      const refused = bucket.refused();
      const published = await Promise.all([1, 2, 3].map((n) => store.publish('one', Buffer.from(String(n)))));
      assert.equal(published.filter(Boolean).length, 1);
      assert.equal(bucket.refused(), refused + 2);
      assert.equal(Buffer.from((await store.read('one'))!).toString(), String(published.indexOf(true) + 1));
    } finally {
      bucket.stop();
      for (const key of Object.keys(aws)) delete process.env[key];
      Object.assign(process.env, before);
    }
  });

  describe('when things break', () => {
    const busy = async (run: string, count: number): Promise<void> =>
      until(() => readdirSync(`${at('out')}/${run}`).filter((file) => file.startsWith('shard-')).length >= count);

    it('loses and doubles nothing when workers are killed and Redis is gone for a while', async () => {
      const count = FULL ? 120 : 60;
      mkdirSync(at('in'));
      dataset(at('in'), count);
      const name = fresh();
      const run = await add(at('in'), name, '--shard-size', '10');
      const args = ['work', '--once', '--lock', '1', ...redisOf(), ...name];
      const first = queueProcess(args);
      const second = queueProcess(args);
      await busy(run, 2);
      first.kill('SIGKILL');
      await redis.stop();
      await new Promise((resolve) => setTimeout(resolve, 1500));
      await redis.start();
      const third = queueProcess(args);
      const ends = [second, third].map((child) => new Promise((resolve) => child.once('exit', resolve)));
      await busy(run, count / 10);
      assert.deepEqual(await Promise.all(ends), [0, 0]);
      assert.equal((await queue('merge', `${at('out')}/${run}`, '--output', at('all.jsonl'))).code, 0);
      assert.deepEqual(
        lines(at('all.jsonl')).map(({ line }) => line),
        Array.from({ length: count }, (_, n) => n + 1),
      );
      assert.deepEqual(
        lines(at('all.jsonl')).map(({ text }) => text),
        await expected(images(count)),
      );
    });

    it('lets two workers that have the same shard publish it once', async () => {
      const { folderStore } = await import('../src/queue/store.js');
      const store = folderStore(folder);
      const published = await Promise.all(
        Array.from({ length: 8 }, (_, n) => store.publish('run/one', Buffer.from(`from ${n}`))),
      );
      assert.equal(published.filter(Boolean).length, 1);
      assert.equal(Buffer.from((await store.read('run/one'))!).toString(), `from ${published.indexOf(true)}`);
      assert.deepEqual(readdirSync(at('run')), ['one']);
    });

    // a lock's time passes at each death
    itInFull('gives up an image that kills its workers, and does the others', async () => {
      mkdirSync(at('in'));
      dataset(at('in'), 6);
      const name = fresh();
      const run = await add(at('in'), name);
      const poison = `${ROOT}packages/server/test/poisoned-worker.mjs`;
      let deaths = 0;
      for (;;) {
        const child = spawn(process.execPath, [poison, redis.url, name[1]!, '00003.png'], { stdio: 'inherit' });
        const code = await new Promise<number | null>((resolve) => child.once('exit', resolve));
        if (code === 0) break;
        assert.ok(++deaths < 12, 'it never ends');
      }
      assert.ok(deaths >= 4, `${deaths} deaths`);
      assert.equal((await queue('merge', `${at('out')}/${run}`, '--output', at('all.jsonl'))).code, 1);
      const all = lines(at('all.jsonl'));
      assert.equal(all[3]!.error?.code, 'killed-its-worker');
      const texts = await expected(images(6));
      assert.deepEqual(
        all.map(({ text }) => text),
        texts.map((text, n) => (n === 3 ? undefined : text)),
      );
    });

    it('goes on when a full disk has room again', async () => {
      mkdirSync(at('in'));
      dataset(at('in'), 4);
      const name = fresh();
      const run = await add(at('in'), name, '--shard-size', '2');
      const { folderStore } = await import('../src/queue/store.js');
      const { openBull } = await import('../src/queue/connection.js');
      const { work: workWith } = await import('../src/queue/worker.js');
      let full = 3;
      const said: string[] = [];
      const done = await workWith(await openBull(redis.url), {
        ...{ queue: name[1]!, lock: 5, maxBatch: 8, fetch: 'none', once: true, signal: new AbortController().signal },
        log: (line) => said.push(line),
        openStore: async (output) => {
          const store = folderStore(output);
          return {
            ...store,
            async publish(file, bytes) {
              if (full-- > 0)
                throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
              return store.publish(file, bytes);
            },
          };
        },
      });
      assert.equal(done, 2);
      assert.equal(said.filter((line) => line.includes('ENOSPC')).length, 3);
      assert.equal((await queue('merge', `${at('out')}/${run}`, '--output', at('all.jsonl'))).code, 0);
    });

    it('goes on when a disk that was really full has room again, and leaves nothing behind', async function () {
      mkdirSync(at('in'));
      mkdirSync(at('out'));
      dataset(at('in'), 4);
      try {
        execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', at('out')], { stdio: 'ignore' });
      } catch {
        skipWithout(this, 'a file system of its own', 'mount -t tmpfs needs root');
      }
      try {
        const name = fresh();
        const run = await add(at('in'), name, '--shard-size', '2');
        const fill = (): void => {
          const file = openSync(at('out/filler'), 'a');
          try {
            for (;;) writeSync(file, Buffer.alloc(4096));
          } catch (error) {
            assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
          } finally {
            closeSync(file);
          }
        };
        fill();
        const { openBull } = await import('../src/queue/connection.js');
        const { work: workWith } = await import('../src/queue/worker.js');
        const said: string[] = [];
        const done = await workWith(await openBull(redis.url), {
          ...{ queue: name[1]!, lock: 5, maxBatch: 8, fetch: 'none', once: true, signal: new AbortController().signal },
          log(line) {
            said.push(line);
            if (!line.includes('ENOSPC')) return;
            assert.deepEqual(
              readdirSync(`${at('out')}/${run}`).filter((file) => file.startsWith('.') || file.startsWith('shard-')),
              [],
            );
            rmSync(at('out/filler'));
          },
        });
        assert.equal(done, 2);
        assert.equal(said.filter((line) => line.includes('ENOSPC')).length, 1, said.join('\n'));
        fill();
        const full = await queue('merge', `${at('out')}/${run}`, '--output', at('out/all.jsonl'));
        assert.deepEqual([full.code, /ENOSPC/.test(full.stderr)], [1, true], full.stderr);
        assert.deepEqual(readdirSync(at('out')).sort(), ['filler', run]);
        rmSync(at('out/filler'));
        assert.equal((await queue('merge', `${at('out')}/${run}`, '--output', at('out/all.jsonl'))).code, 0);
        assert.deepEqual(
          lines(at('out/all.jsonl')).map(({ text }) => text),
          await expected(images(4)),
        );
      } finally {
        execFileSync('umount', [at('out')]);
      }
    });

    it('gives its shard back at once when it is told to end in the middle of it', async () => {
      const count = 20;
      dataset(folder, count - 1);
      let asked = 0;
      let received = (): void => {};
      const inside = new Promise<void>((resolve) => (received = resolve));
      const slow = createServer((_, response) => {
        if (asked++ === 0)
          received(); // the first worker waits for the last image of its shard, until it is told to end
        else response.end(tinyImage(count - 1));
      });
      await new Promise<void>((resolve) => slow.listen(0, '127.0.0.1', resolve));
      try {
        const names = Array.from({ length: count - 1 }, (_, n) => `${String(n).padStart(5, '0')}.png`);
        const last = `http://127.0.0.1:${(slow.address() as AddressInfo).port}/last.png`;
        writeFileSync(at('list.jsonl'), [...names, last].map((one) => `${JSON.stringify(one)}\n`).join(''));
        const name = fresh();
        const run = await add(at('list.jsonl'), name);
        const worker = queueProcess(['work', '--lock', '600', '--fetch', 'all', ...redisOf(), ...name]);
        let said = '';
        worker.stderr!.on('data', (chunk) => (said += chunk));
        const ended = new Promise((resolve) => worker.once('exit', resolve));
        await Promise.race([inside, ended]);
        worker.kill('SIGTERM');
        assert.equal(await ended, 0, said);
        assert.match(said, /0 shards done/);
        const waiting = await queue('status', `${at('out')}/${run}`, ...redisOf(), ...name);
        assert.match(waiting.stdout, /0 of 1 shards[\s\S]*1 waiting/); // not held for the 600 seconds of its lock
        assert.deepEqual(readdirSync(`${at('out')}/${run}`).sort(), ['inputs.jsonl', 'run.json']);
        assert.match((await work(name, '--fetch', 'all')).stderr, /1 shard done/);
        assert.equal((await queue('merge', `${at('out')}/${run}`, '--output', at('all.jsonl'))).code, 0);
        assert.deepEqual(
          lines(at('all.jsonl')).map(({ text }) => text),
          await expected(images(count)),
        );
      } finally {
        slow.close();
        slow.closeAllConnections();
      }
    });

    it('says what is wrong with a command line, or with Redis', async () => {
      const wrong: [string[], RegExp][] = [
        [['add', folder, '--output', 'x'], /--model/],
        [['add', folder, '--model', 'demo'], /--output/],
        [['add', '--output', 'x', '--model', 'demo'], /name what is to be captioned/],
        [['add', folder, '--output', 'gs://x', '--model', 'demo'], /folder or to s3/],
        [['add', at('nothing'), '--output', folder, '--model', 'demo'], /no such file/],
        [['status', folder], /OUTPUT\/run-/],
        [['merge', folder], /--output/],
        [['bake'], /the commands are/],
      ];
      for (const [args, message] of wrong) {
        const { code, stderr } = await queue(...args);
        assert.deepEqual([code, message.test(stderr)], [2, true], `${args.join(' ')}: ${stderr}`);
      }
    });
  });
});

/** A tar file (ustar with GNU's long names). */
function tar(files: readonly (readonly [string, Buffer])[]): Buffer {
  const parts: Buffer[] = [];
  const member = (name: string, bytes: Buffer, type: string): void => {
    const header = Buffer.alloc(512);
    header.write(name.slice(0, 100), 0);
    header.write('0000644\0', 100);
    header.write(`${bytes.length.toString(8).padStart(11, '0')}\0`, 124);
    header.fill(' ', 148, 156);
    header.write(type, 156);
    header.write('ustar\x0000', 257);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
    parts.push(header, bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512));
  };
  for (const [name, bytes] of files) {
    if (name.length > 100) member('././@LongLink', Buffer.from(`${name}\0`), 'L');
    member(name, bytes, '0');
    member(name.replace(/\.png$/, '.txt'), Buffer.from('beside it'), '0');
  }
  return Buffer.concat([...parts, Buffer.alloc(1024)]);
}
