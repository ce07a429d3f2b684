import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../support/fixtures.js';
import { faultsOfTree, type LockEntry } from '../support/runtime-tree.js';
import { skipWithout } from '../support/skip.js';

interface Manifest {
  readonly version: string;
  readonly exports: Readonly<Record<string, { readonly types: string; readonly default: string } | string>>;
  readonly dependencies: Readonly<Record<string, string>>;
}

const manifest = JSON.parse(readFileSync(`${ROOT}package.json`, 'utf8')) as Manifest;
const entryPoints = Object.entries(manifest.exports).filter(([, target]) => typeof target !== 'string');

/** The two packages of this repository. */
const OURS = /node_modules\/(generative-image2text|tfjs-backend-simd)$/;

/** Both packages as a user gets them, installed into an empty project. */
describe('the packed tarballs', () => {
  let folder = '';
  const run = (...args: string[]) => spawnSync(process.execPath, args, { cwd: folder, encoding: 'utf8' });

  before(function () {
    if (!existsSync(`${ROOT}dist/index.js`)) skipWithout(this, 'build', 'npm run build');
    folder = mkdtempSync(join(tmpdir(), 'image2text-pack-'));
    const npm = (args: string[], cwd: string) =>
      execFileSync('npm', args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    const pack = (workspace: readonly string[]): string => {
      const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', folder, ...workspace];
      const packed = JSON.parse(npm(args, ROOT)) as
        | readonly { filename: string }[]
        | Record<string, { filename: string }>;
      return Object.values(packed)[0]!.filename;
    };
    const tarballs = [pack(['--workspace', 'tfjs-backend-simd']), pack([])];
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'user', private: true, type: 'module' }));
    npm(['install', '--no-audit', '--no-fund', '--prefer-offline', ...tarballs.map((name) => `./${name}`)], folder);
  });
  after(() => {
    if (folder !== '') rmSync(folder, { recursive: true, force: true });
  });

  it('refuses to be a worker where there is none, in words', () => {
    const { stderr, status } = run('--input-type=module', '-e', "await import('generative-image2text/worker')");
    assert.equal(status, 1);
    assert.match(
      stderr,
      /OptionError: port: wrong-type: this is no web worker: start one from generative-image2text\/worker/,
    );
  });

  for (const [name, target] of entryPoints.filter(([entry]) => entry !== './worker')) {
    it(`imports ${name} with an empty stderr`, () => {
      const specifier = `generative-image2text${name.slice(1)}`;
      const { stdout, stderr, status } = run(
        '--input-type=module',
        '-e',
        `console.log(Object.keys(await import('${specifier}')).length)`,
      );
      assert.equal(stderr, '');
      assert.equal(status, 0);
      assert.ok(Number(stdout) > 0, stdout);
      assert.ok(existsSync(join(folder, 'node_modules/generative-image2text', (target as { types: string }).types)));
    });
  }

  it('captions an image with the demo checkpoint, stdout and stderr clean', () => {
    const { stdout, stderr, status } = run(
      'node_modules/generative-image2text/dist/cli/main.js',
      'caption',
      `${ROOT}examples/blue-mug-juice.png`,
      ...['--model', 'demo'],
    );
    assert.deepEqual([stdout, stderr, status], ['a blue mug with the word juice on it\n', '', 0]);
  });

  it('says its version', () => {
    assert.equal(
      run('node_modules/generative-image2text/dist/cli/main.js', '--version').stdout.trim(),
      manifest.version,
    );
  });

  it('installs no script, no command-line package and no backend but ours, and pins every version', () => {
    const lock = JSON.parse(readFileSync(join(folder, 'package-lock.json'), 'utf8')) as {
      packages: Record<string, LockEntry>;
    };
    const installed = Object.entries(lock.packages).filter(([path]) => path !== '');
    // ours are built from the tarballs here: their `prepare` is for a checkout
    const others = installed.filter(([path]) => !OURS.test(path));
    const own = installed
      .filter(([path]) => OURS.test(path))
      .map(([path, entry]) => [path, { license: entry.license! }]);
    assert.deepEqual(faultsOfTree([...others, ...(own as [string, LockEntry][])]), []);
    const unwanted = /commander|cli-progress|tinyglobby|tfjs-backend-(?!simd)|tfjs-node/;
    assert.deepEqual(
      installed.filter(([path]) => unwanted.test(path)),
      [],
    );
    assert.ok(installed.length >= 5, `${installed.length} packages`);
    for (const [name, version] of Object.entries(manifest.dependencies)) assert.match(version, /^\d+\.\d+\.\d+$/, name);
  });

  it('its source maps hold the TypeScript that they are of, and nothing of the machine that built them', () => {
    const installed = (name: string) => join(folder, 'node_modules', name, 'dist');
    for (const [name, dist] of [
      ['generative-image2text', installed('generative-image2text')],
      ['tfjs-backend-simd', installed('tfjs-backend-simd')],
      ['generative-image2text-server', `${ROOT}packages/server/dist`], // packed as it is
    ] as const) {
      const files = (readdirSync(dist, { recursive: true }) as string[]).filter((file) => file.endsWith('.js.map'));
      assert.ok(files.length > 15, `${files.length} maps of ${name}`);
      for (const file of files) {
        const text = readFileSync(join(dist, file), 'utf8');
        const map = JSON.parse(text) as { sources: string[]; sourcesContent?: (string | null)[] };
        assert.equal(map.sourcesContent?.length, map.sources.length, file);
        assert.ok(
          map.sourcesContent!.every((content) => typeof content === 'string' && content.length > 0),
          file,
        );
        assert.ok(
          !map.sources.some((source) => source.startsWith('/') || source.includes('://')),
          `${file}: ${map.sources}`,
        );
        assert.ok(!text.includes(ROOT), `${file} names the folder that it was built in`);
        assert.match(readFileSync(join(dist, file.slice(0, -4)), 'utf8'), /sourceMappingURL=/, file);
      }
    }
  });

  it('its types compile without skipLibCheck, but for what tfjs-core and its @webgpu/types get wrong', () => {
    const imports = entryPoints.map(([name], n) => `import * as e${n} from 'generative-image2text${name.slice(1)}';`);
    writeFileSync(
      join(folder, 'user.ts'),
      [
        ...imports,
        "import * as simd from 'tfjs-backend-simd';",
        `export const all = [simd, ${imports.map((_, n) => `e${n}`)}];`,
      ].join('\n'),
    );
    const options = [
      '--strict',
      '--noEmit',
      '--target',
      'es2022',
      '--lib',
      'es2023,dom',
      '--module',
      'nodenext',
      '--types',
      'node',
    ];
    const types = ['--typeRoots', join(ROOT, 'node_modules/@types')];
    writeFileSync(join(folder, 'wrong.ts'), "import { noSuchThing } from 'generative-image2text';\n");
    const faults = run(join(ROOT, 'node_modules/typescript-7/bin/tsc'), ...options, ...types, 'user.ts', 'wrong.ts')
      .stdout.split('\n')
      .filter((line) => /^(user|wrong)|generative-image2text|tfjs-backend-simd/.test(line));
    assert.equal(faults.length, 1, faults.join('\n'));
    assert.match(faults[0]!, /^wrong\.ts.*noSuchThing/, 'a mistake is found, and no other is there');
  });

  it('is well formed for every resolver (publint)', async () => {
    const { publint } = await import('publint');
    const { messages } = await publint({
      pkgDir: join(folder, 'node_modules/generative-image2text'),
      level: 'warning',
      pack: false,
    });
    assert.deepEqual(messages, []);
    const backend = await publint({
      pkgDir: join(folder, 'node_modules/tfjs-backend-simd'),
      level: 'warning',
      pack: false,
    });
    assert.deepEqual(backend.messages, []);
  });
});
