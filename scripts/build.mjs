// `npm run build`: the two packages' and the library's `dist`. With --if-changed it does nothing where neither the sources nor what was built
// from them differ from what the last build left, by the hash of every byte of both: `npm test` after `npm ci` builds once.
import { execSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const stamp = join(root, 'node_modules/.cache/build.sha256');

const SOURCES = ['src', 'scripts', 'package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.build.json'];
const PACKAGE = ['src', 'assembly', 'scripts', 'package.json', 'tsconfig.build.json'];
const PACKAGES = ['packages/tfjs-backend-simd', 'packages/server'];

/** Hash of names and bytes of all that a build reads and writes; undefined where nothing was built. */
function hash() {
  if (![...PACKAGES, '.'].every((folder) => existsSync(join(root, folder, 'dist')))) return undefined;
  const digest = createHash('sha256').update(process.version);
  const add = (path) => {
    const at = join(root, path);
    if (!existsSync(at)) return;
    if (statSync(at).isDirectory()) for (const name of readdirSync(at).sort()) add(join(path, name));
    else digest.update(`\0${path}\0`).update(readFileSync(at));
  };
  for (const path of [...SOURCES, 'dist']) add(path);
  for (const folder of PACKAGES) for (const path of [...PACKAGE, 'dist']) add(join(folder, path));
  return digest.digest('hex');
}

/** Whether `dist` is what a build of the sources as they are now would leave. */
export const isBuilt = () => existsSync(stamp) && readFileSync(stamp, 'utf8') === hash();

function build() {
  const run = (command) => execSync(command, { cwd: root, stdio: 'inherit' });
  rmSync(stamp, { force: true });
  run('npm run -s build:generated');
  rmSync(join(root, 'dist'), { recursive: true, force: true });
  run('node node_modules/typescript-7/bin/tsc -p tsconfig.build.json');
  run('node scripts/build-cli.mjs');
  run('node scripts/build-bundle.mjs');
  run('npm run -s build --workspace generative-image2text-server');
  mkdirSync(join(root, 'node_modules/.cache'), { recursive: true });
  writeFileSync(stamp, hash());
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (!process.argv.includes('--if-changed') || !isBuilt()) build();
  else console.log('dist is up to date');
}
