import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { needRedis, startBucket, startRedis } from '../../packages/server/test/queue-support.js';
import { ROOT } from '../support/fixtures.js';
import { FULL } from '../support/full.js';
import { skipWithout } from '../support/skip.js';

const run = promisify(execFile);

/** Other runtimes, where `.ci/run` puts them: npm's packages `bun` and `deno`, whose binaries come in packages for each platform, without install scripts. */
const RUNTIMES = {
  bun: { binary: '.nodes/bun/node_modules/@oven/bun-linux-x64/bin/bun', args: [] },
  deno: { binary: '.nodes/deno/node_modules/@deno/linux-x64-glibc/deno', args: ['run', '-A', '--no-lock'] },
} as const;

const PROGRAM = `
import { loadImage2Text } from '${ROOT}dist/node.js';
const model = await loadImage2Text('demo');
const image = '${ROOT}examples/red-book-short.png';
const { text, confidence } = await model.caption(image);
let streamed = '';
for await (const piece of model.stream(image)) streamed += piece;
const [{ label }] = await model.classify(image, ['a blue mug', 'a red book']);
model.dispose();
console.log(JSON.stringify({ text, confidence: confidence.toFixed(4), streamed, label }));
`;
const SAID = 'a red book with the title short';

for (const [name, { binary, args }] of Object.entries(RUNTIMES)) {
  describe(`the built package under ${name}`, () => {
    before(function () {
      if (!existsSync(`${ROOT}dist/node.js`)) skipWithout(this, 'build', 'npm run build');
      if (!existsSync(ROOT + binary))
        skipWithout(this, name, `npm install --ignore-scripts --prefix .nodes/${name} ${name}`);
    });

    it('as a library, with the same results as under Node', async () => {
      const file = `${ROOT}.nodes/${name}/program.mjs`; // below the package's node_modules, where Deno looks
      writeFileSync(file, PROGRAM);
      try {
        const { stdout } = await run(ROOT + binary, [...args, file]);
        const { stdout: expected } = await run(process.execPath, [file]);
        assert.equal(stdout, expected);
        assert.equal(JSON.parse(stdout).text, SAID);
      } finally {
        rmSync(file); // lint looks at it
      }
    });

    it('as a command', async () => {
      const command = [
        ...args,
        `${ROOT}dist/cli/main.js`,
        'caption',
        `${ROOT}examples/red-book-short.png`,
        '--model',
        'demo',
      ];
      assert.equal((await run(ROOT + binary, command)).stdout, `${SAID}\n`);
    });
  });
}

describe('npm run binary', function () {
  if (!FULL) return; // builds a file of a hundred megabytes and unpacks it several times
  this.timeout(400_000);
  let folder = '';
  let cache = '';
  let binary = '';
  const options = () => ({ cwd: folder, env: { PATH: '', XDG_CACHE_HOME: cache } as NodeJS.ProcessEnv });

  before(async function () {
    if (!existsSync(`${ROOT}dist/cli/main.js`)) skipWithout(this, 'build', 'npm run build');
    folder = mkdtempSync(join(tmpdir(), 'i2t-binary-'));
    cache = mkdtempSync(join(tmpdir(), 'i2t-cache-'));
    binary = join(cache, 'image2text');
    await run(process.execPath, [`${ROOT}scripts/build-binary.mjs`, binary]);
  });
  after(() => {
    for (const one of [folder, cache]) if (one !== '') rmSync(one, { recursive: true, force: true });
  });

  it('makes one file that runs in an empty folder with an empty PATH', async () => {
    const image = `${ROOT}examples/red-book-short.png`;
    assert.equal((await run(binary, ['caption', image, '--model', 'demo'], options())).stdout, `${SAID}\n`);
    assert.equal((await run(binary, ['caption', image, '--model', 'demo'], options())).stdout, `${SAID}\n`); // unpacked already
    assert.match((await run(binary, ['serve', '--help'], options())).stdout, /--max-requests/);
    assert.match((await run(binary, ['queue', 'add', '--help'], options())).stdout, /--shard-size/);
    await assert.rejects(run(binary, ['caption', 'nothing.png', '--model', 'demo'], options()), {
      code: 1,
      stderr: /no-such-file/,
    });
    assert.deepEqual(readdirSync(folder), []);
  });

  it('has the queue in it, and the client of buckets', async function () {
    needRedis(this);
    const [redis, bucket] = await Promise.all([startRedis(), startBucket()]);
    try {
      const { env } = options();
      const aws = { AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b', AWS_ENDPOINT_URL_S3: bucket.endpoint };
      const queue = async (...args: string[]) =>
        (await run(binary, ['queue', ...args], { cwd: folder, env: { ...env, ...aws, AWS_REGION: 'x' } })).stdout;
      const source = `${ROOT}examples/video-1`;
      const name = await queue('add', source, '--output', 's3://b/p', '--model', 'demo', '--redis', redis.url);
      await queue('work', '--once', '--redis', redis.url);
      await queue('merge', `s3://b/p/${name.trim()}`, '--output', join(cache, 'all.jsonl'));
      const lines = readFileSync(join(cache, 'all.jsonl'), 'utf8').trimEnd().split('\n');
      const captions = ['caption', source, '--model', 'demo', '--jsonl'];
      const { stdout } = await run(binary, captions, options());
      const textOf = (line: string): string => JSON.parse(line).text;
      assert.deepEqual(lines.map(textOf), stdout.trimEnd().split('\n').map(textOf));
      const without = { cwd: folder, env: { ...env, ...aws, AWS_CONFIG_FILE: '/dev/null', HOME: folder } };
      await assert.rejects(run(binary, ['queue', 'merge', `s3://b/p/${name.trim()}`, '--output', 'x.jsonl'], without), {
        code: 1,
        stderr: /^image2text: s3:\/\/b: store: Region is missing \(AWS_REGION\)\n$/,
      });
    } finally {
      await redis.remove();
      bucket.stop();
    }
  });

  it('starts nothing that others may have written', async function () {
    if (process.getuid === undefined) return void this.skip();
    const open = mkdtempSync(join(tmpdir(), 'i2t-open-'));
    try {
      mkdirSync(join(open, 'image2text-binary'));
      chmodSync(join(open, 'image2text-binary'), 0o777);
      const env = { PATH: '', XDG_CACHE_HOME: open, TMPDIR: open };
      await assert.rejects(run(binary, ['--version'], { cwd: folder, env }), { stderr: /others may write/ });
    } finally {
      rmSync(open, { recursive: true, force: true });
    }
  });
});
