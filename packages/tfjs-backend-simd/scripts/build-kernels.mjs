// Compiles the kernels of assembly/ to WebAssembly and writes them as ES modules to src/generated, one for each of {plain, relaxed SIMD}
// x {unshared, shared memory}. Does nothing where they are up to date; `--force` builds anyway.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const assembly = join(root, 'assembly');
const generated = join(root, 'src/generated');
const { tilesSource } = await import(pathToFileURL(join(assembly, 'tiles.mjs')).href);

const RELAXED = ['--enable', 'relaxed-simd'];

const VARIANTS = ['plain', 'relaxed'].flatMap((simd) =>
  ['unshared', 'shared'].map((memory) => ({
    name: `${simd}-${memory}`,
    flags: [...(simd === 'relaxed' ? RELAXED : []), ...(memory === 'shared' ? ['--sharedMemory'] : [])],
  })),
);

/** The text of a module of assembly/, of which one is written by a script and one is shared with TypeScript. */
function sourceOf(name) {
  if (name === 'tiles.ts') return tilesSource();
  const path = name === 'abi.ts' ? join(root, 'src/abi.ts') : join(assembly, name);
  return existsSync(path) ? readFileSync(path, 'utf8') : null;
}

/** Hash of everything that the binaries depend on. */
export function sourceHash() {
  const hash = createHash('sha256');
  const compiler = readFileSync(createRequire(import.meta.url).resolve('assemblyscript/package.json'), 'utf8');
  hash.update(JSON.parse(compiler).version);
  hash.update(readFileSync(fileURLToPath(import.meta.url)));
  hash.update(sourceOf('abi.ts'));
  for (const file of readdirSync(assembly).sort()) hash.update(file).update(readFileSync(join(assembly, file)));
  return hash.digest('hex');
}

/** Compiles `entry` of assembly/; returns the bytes of the module. */
export async function compile(flags, entry = 'index.ts') {
  const asc = await import('assemblyscript/asc');
  const memory = ['--importMemory', '--initialMemory', '4', '--maximumMemory', '65536', '--memoryBase', '1024'];
  const features = ['--enable', 'simd', '--enable', 'threads', '--disableWarning', '201'];
  let binary;
  const { error, stderr } = await asc.main(
    [entry, '--outFile', 'out.wasm', '--runtime', 'stub', '--noAssert', '-O3', ...memory, ...features, ...flags],
    {
      readFile: sourceOf,
      writeFile(_name, contents) {
        binary = contents;
      },
      listFiles: () => [],
    },
  );
  if (error || !binary) throw new Error(`the kernels do not compile: ${error?.message}\n${stderr.toString()}`);
  return binary;
}

/** What this machine can do at best (assembly/probe.ts), for tests and benches: not part of what is shipped. */
export const compileProbe = (relaxed) => compile(relaxed ? RELAXED : [], 'probe.ts');

/** The ES module that holds a binary, formatted as the linter wants it. */
const moduleOf = (binary, hash) =>
  `// Written by scripts/build-kernels.mjs from assembly (sha256 of the sources ${hash}).\nexport const base64 =\n  '${Buffer.from(binary).toString('base64')}';\n`;

async function build() {
  const hash = sourceHash();
  const path = (name) => join(generated, `${name}.ts`);
  const fresh = VARIANTS.every(({ name }) => existsSync(path(name)) && readFileSync(path(name), 'utf8').includes(hash));
  if (fresh && !process.argv.includes('--force')) return;
  mkdirSync(generated, { recursive: true });
  for (const { name, flags } of VARIANTS) {
    const binary = await compile(flags);
    writeFileSync(path(name), moduleOf(binary, hash));
    console.log(`src/generated/${name}.ts: ${binary.length} bytes of WebAssembly`);
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await build();
