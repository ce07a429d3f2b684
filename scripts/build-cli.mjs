// Bundles the command-line packages (commander and the like) into dist/cli, so that they are no dependencies of a program that only uses the
// library. What is outside dist/cli (the library itself, and every other package) stays an import. Run by `npm run build`, after tsc.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('../dist/cli/', import.meta.url));
/** What only the command uses; THIRD_PARTY_NOTICES.md names them and what comes with them. */
const BUNDLED = new Set(['commander', 'tinyglobby']);

const libraryStaysOutside = {
  name: 'library-stays-outside',
  setup(context) {
    context.onResolve({ filter: /.*/ }, ({ path, resolveDir, kind }) => {
      if (kind === 'entry-point' || resolveDir.includes('node_modules')) return undefined;
      if (!path.startsWith('.')) return BUNDLED.has(path) ? undefined : { path, external: true };
      const target = resolve(resolveDir, path);
      if (target.startsWith(root)) return undefined;
      return { path: relative(root, target).replaceAll('\\', '/'), external: true };
    });
  },
};

const { outputFiles } = await build({
  entryPoints: [`${root}main.js`, `${root}image-threads.js`], // the second is started as a thread
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  outdir: root,
  write: false,
  legalComments: 'inline',
  banner: {
    js: "import { createRequire as __createRequire } from 'node:module';\nconst require = __createRequire(import.meta.url);",
  },
  plugins: [libraryStaysOutside],
  logLevel: 'warning',
});
rmSync(root, { recursive: true });
mkdirSync(root, { recursive: true });
for (const { path, contents } of outputFiles) writeFileSync(path, contents);
