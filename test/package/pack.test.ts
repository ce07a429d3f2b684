import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../support/fixtures.js';

interface Manifest {
  readonly version: string;
  readonly exports: Readonly<Record<string, { readonly types: string; readonly default: string } | string>>;
  readonly dependencies: Readonly<Record<string, string>>;
}

const manifest = JSON.parse(readFileSync(`${ROOT}package.json`, 'utf8')) as Manifest;
const doors = Object.entries(manifest.exports).filter(([, target]) => typeof target !== 'string');

/** The tarball as a user gets it, beside this repository's installed dependencies. */
describe('the packed tarball', function () {
  this.timeout(180_000);
  let folder = '';
  const run = (...args: string[]) => spawnSync(process.execPath, args, { cwd: folder, encoding: 'utf8' });

  before(function () {
    if (!existsSync(`${ROOT}dist/index.js`)) this.skip(); // `npm test` builds first
    folder = mkdtempSync(join(tmpdir(), 'image2text-pack-'));
    const npm = (args: string[], cwd: string) =>
      execFileSync('npm', args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    const [packed] = JSON.parse(npm(['pack', '--json', '--ignore-scripts', '--pack-destination', folder], ROOT)) as [
      { filename: string },
    ];
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'user', private: true, type: 'module' }));
    npm(['install', '--no-audit', '--no-fund', '--prefer-offline', packed.filename], folder);
  });
  after(() => {
    if (folder !== '') rmSync(folder, { recursive: true, force: true });
  });

  for (const [name, target] of doors) {
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
    );
    assert.deepEqual([stdout, stderr, status], ['a blue mug with the word juice on it\n', '', 0]);
  });

  it('says its version', () => {
    assert.equal(
      run('node_modules/generative-image2text/dist/cli/main.js', '--version').stdout.trim(),
      manifest.version,
    );
  });

  it('has no dependency that runs a script while installing, and pins every version', () => {
    const lock = JSON.parse(readFileSync(join(folder, 'package-lock.json'), 'utf8')) as {
      packages: Record<string, { hasInstallScript?: boolean; dev?: boolean }>;
    };
    const scripts = Object.entries(lock.packages).filter(
      ([path, entry]) => entry.hasInstallScript && !path.endsWith('generative-image2text'),
    );
    assert.deepEqual(
      scripts.map(([path]) => path),
      [],
    );
    for (const [name, version] of Object.entries(manifest.dependencies)) assert.match(version, /^\d+\.\d+\.\d+$/, name);
  });

  it('is well formed for every resolver (publint)', async () => {
    const { publint } = await import('publint');
    const { messages } = await publint({
      pkgDir: join(folder, 'node_modules/generative-image2text'),
      level: 'warning',
      pack: false,
    });
    assert.deepEqual(messages, []);
  });
});
