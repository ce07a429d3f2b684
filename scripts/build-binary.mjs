// One file that is the whole command, the demo and the server included, and needs no Node: `npm run binary [-- FILE]`, after `npm run build`.
// It is this Node with an archive appended (a single executable application). At its first start it unpacks that into the user's cache, because
// the threads of the backend are files of their own; later starts find it there.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants } from 'node:zlib';
import { build } from 'esbuild';
import { inject } from 'postject';

const root = fileURLToPath(new URL('..', import.meta.url));
const target = resolve(process.argv[2] ?? `image2text${process.platform === 'win32' ? '.exe' : ''}`);
if (!existsSync(`${root}dist/cli/main.js`)) throw new Error('run npm run build first');

/** Where a file of the repository goes in the archive, whose layout is that of an installation. */
const placeOf = (path) =>
  path.startsWith('node_modules/')
    ? path
    : path.startsWith('packages/tfjs-backend-simd/')
      ? path.replace('packages/', 'node_modules/')
      : path.startsWith('packages/server/')
        ? path.replace('packages/server/', 'node_modules/generative-image2text-server/')
        : `node_modules/generative-image2text/${path}`;

/** Files that are reached by imports, and what is opened by name. */
async function filesNeeded() {
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: ['dist/cli/main.js', 'dist/node.js', 'packages/server/dist/index.js'],
    bundle: true,
    write: false,
    outdir: 'nowhere',
    splitting: true,
    format: 'esm',
    platform: 'node',
    metafile: true,
    logLevel: 'error',
    external: ['@tensorflow/tfjs-backend-*', '@tensorflow/tfjs-node*', 'webgpu', '@aws-sdk/*', 'bullmq'],
    plugins: [
      {
        name: 'server-by-name', // the command imports it by a name that a bundler does not see
        setup: (context) => context.onResolve({ filter: /^generative-image2text-server$/ }, () => ({ external: true })),
      },
    ],
  });
  const below = (folder) =>
    readdirSync(root + folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(root.length));
  const files = new Set([
    ...Object.keys(metafile.inputs).filter((path) => !path.startsWith('(')),
    ...['dist', 'packages/tfjs-backend-simd/dist', 'packages/server/dist', 'weights/demo'].flatMap(below),
    ...['weights/models.json', 'weights/published-logits.json', 'THIRD_PARTY_NOTICES.md', 'LICENSE'].filter((path) =>
      existsSync(root + path),
    ),
    'package.json',
    'packages/tfjs-backend-simd/package.json',
    'packages/server/package.json',
  ]);
  for (const path of [...files]) {
    const [folder] = /^.*node_modules\/(?:@[^/]+\/)?[^/]+\//.exec(path) ?? [];
    if (folder === undefined) continue;
    files.add(`${folder}package.json`);
    for (const wasm of readdirSync(root + folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.endsWith('.wasm'),
    ))
      files.add(folder + wasm);
    for (const license of readdirSync(root + folder).filter((name) => /^licen[cs]e/i.test(name)))
      files.add(folder + license);
  }
  return [...files].filter((path) => !path.endsWith('.map') && !path.endsWith('.d.ts')).sort();
}

/** An optional peer of the server as one module, since Node resolves its files by other rules than a bundler does. */
async function bundled(name, exported) {
  const { outputFiles, metafile } = await build({
    absWorkingDir: root,
    stdin: { contents: `export ${exported} from '${name}';`, resolveDir: `${root}packages/server` },
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'node',
    minify: true,
    legalComments: 'inline',
    logLevel: 'error',
    external: ['pg', 'redis', 'bullmq-otel', 'msgpackr-extract'],
    metafile: true,
    banner: { js: "import { createRequire } from 'node:module';const require = createRequire(import.meta.url);" },
  });
  const folder = `node_modules/${name}/`;
  const { version, license } = JSON.parse(readFileSync(`${root}${folder}package.json`, 'utf8'));
  const manifest = { name, version, license, type: 'module', exports: './index.js' };
  const packages = new Set(
    Object.keys(metafile.inputs).flatMap((path) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+\//.exec(path) ?? []),
  );
  const licenses = [...packages].flatMap((place) =>
    readdirSync(root + place)
      .filter((file) => /^licen[cs]e/i.test(file))
      .map((file) => place + file),
  );
  return [
    [`${folder}index.js`, Buffer.from(outputFiles[0].contents)],
    [`${folder}package.json`, Buffer.from(JSON.stringify(manifest))],
    ...licenses.map((path) => [`${folder}licenses/${path.replaceAll('/', '-')}`, readFileSync(root + path)]),
  ];
}

const files = [
  ...(await filesNeeded()).map((path) => [placeOf(path), readFileSync(root + path)]),
  ...(await bundled('bullmq', '{ Queue, UnrecoverableError, WaitingError, Worker }')),
  ...(await bundled('@aws-sdk/client-s3', '{ GetObjectCommand, ListObjectsV2Command, PutObjectCommand, S3Client }')),
];
const index = JSON.stringify(files.map(([name, bytes]) => [name, bytes.length]));
const archive = Buffer.concat([Buffer.from(`${index}\n`), ...files.map(([, bytes]) => bytes)]);
const hash = createHash('sha256').update(archive).digest('hex').slice(0, 16);

const main = `
const { brotliDecompressSync } = require('node:zlib');
const { createRequire } = require('node:module');
const { getRawAsset } = require('node:sea');
const { existsSync, lstatSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } = require('node:fs');
const { homedir, tmpdir } = require('node:os');
const { dirname, join } = require('node:path');
process.removeAllListeners('warning');
const home = () => { try { return join(homedir(), '.cache'); } catch { return tmpdir(); } };
function unpack(base) {
  const place = join(base, 'image2text-binary', '${hash}');
  mkdirSync(dirname(place), { recursive: true, mode: 0o700 });
  const { uid, mode } = lstatSync(dirname(place)); // what is run from there must be ours
  if (process.getuid !== undefined && (uid !== process.getuid() || (mode & 0o022) !== 0 || (mode & 0o170000) !== 0o040000))
    throw new Error(dirname(place) + ': others may write there: remove it, or set XDG_CACHE_HOME to a folder of your own');
  if (existsSync(place)) return place;
  const fresh = mkdtempSync(place + '-');
  try {
    const archive = brotliDecompressSync(Buffer.from(getRawAsset('archive')));
    const end = archive.indexOf(10);
    let at = end + 1;
    for (const [name, size] of JSON.parse(archive.subarray(0, end).toString())) {
      const path = join(fresh, name);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, archive.subarray(at, at + size));
      at += size;
    }
    writeFileSync(join(fresh, 'start.cjs'), "import('./node_modules/generative-image2text/dist/cli/main.js');");
    try { renameSync(fresh, place); } catch (error) { if (!existsSync(place)) throw error; } // another start was first
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
  return place;
}
let place;
try {
  try { place = unpack(process.env.XDG_CACHE_HOME || home()); } catch { place = unpack(tmpdir()); }
} catch (error) {
  console.error('image2text: ' + error.message);
  process.exit(1);
}
createRequire(join(place, 'start.cjs'))('./start.cjs');
`;

const folder = mkdtempSync(join(tmpdir(), 'image2text-binary-'));
try {
  const at = (name) => join(folder, name);
  writeFileSync(at('main.cjs'), main);
  const quality = { [constants.BROTLI_PARAM_QUALITY]: 5, [constants.BROTLI_PARAM_LGWIN]: 24 };
  writeFileSync(at('archive'), brotliCompressSync(archive, { params: quality }));
  const config = {
    main: at('main.cjs'),
    output: at('blob'),
    disableExperimentalSEAWarning: true,
    assets: { archive: at('archive') },
  };
  writeFileSync(at('config.json'), JSON.stringify(config));
  execFileSync(process.execPath, ['--experimental-sea-config', at('config.json')], { stdio: 'ignore' });
  copyFileSync(process.execPath, target);
  chmodSync(target, 0o755);
  await inject(target, 'NODE_SEA_BLOB', readFileSync(at('blob')), {
    sentinelFuse: 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2',
    ...(process.platform === 'darwin' ? { machoSegmentName: 'NODE_SEA' } : {}),
  });
} finally {
  rmSync(folder, { recursive: true, force: true });
}
console.log(`${target}: ${files.length} files, Node ${process.versions.node}`);
