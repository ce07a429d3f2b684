import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from '../support/fixtures.js';
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
      const { stdout } = await run(ROOT + binary, [...args, file]);
      const { stdout: expected } = await run(process.execPath, [file]);
      assert.equal(stdout, expected);
      assert.equal(JSON.parse(stdout).text, SAID);
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
  this.timeout(400_000);

  it('makes one file that runs in an empty folder with an empty PATH', async function () {
    if (!existsSync(`${ROOT}dist/cli/main.js`)) skipWithout(this, 'build', 'npm run build');
    const folder = mkdtempSync(join(tmpdir(), 'i2t-binary-'));
    const cache = mkdtempSync(join(tmpdir(), 'i2t-cache-'));
    try {
      const binary = join(cache, 'image2text');
      await run(process.execPath, [`${ROOT}scripts/build-binary.mjs`, binary]);
      const options = { cwd: folder, env: { PATH: '', XDG_CACHE_HOME: cache } };
      const image = `${ROOT}examples/red-book-short.png`;
      assert.equal((await run(binary, ['caption', image, '--model', 'demo'], options)).stdout, `${SAID}\n`);
      assert.equal((await run(binary, ['caption', image, '--model', 'demo'], options)).stdout, `${SAID}\n`); // unpacked already
      assert.match((await run(binary, ['serve', '--help'], options)).stdout, /--max-requests/);
      assert.match((await run(binary, ['queue', 'add', '--help'], options)).stdout, /--shard-size/);
      await assert.rejects(run(binary, ['caption', 'nothing.png', '--model', 'demo'], options), {
        code: 1,
        stderr: /no-such-file/,
      });
      assert.deepEqual(readdirSync(folder), []);
    } finally {
      for (const one of [folder, cache]) rmSync(one, { recursive: true, force: true });
    }
  });
});
