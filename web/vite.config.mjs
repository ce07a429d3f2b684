// The page as static files that run under any path: `npm run web` builds web/dist, `npm run web:dev` serves it while it is written.
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

const web = fileURLToPath(new URL('.', import.meta.url));
const root = fileURLToPath(new URL('..', import.meta.url));

/** The demo checkpoint and the sample images, by their paths in the page. */
const served = () => [
  ...readdirSync(`${root}weights/demo`).map((name) => `weights/demo/${name}`),
  ...readdirSync(`${root}examples`)
    .filter((name) => /\.(?:png|jpg|gif)$/.test(name))
    .map((name) => `examples/${name}`),
];

/** Bytes of the published checkpoints in f32, by their names. */
const published = () => {
  const { models } = JSON.parse(readFileSync(`${root}weights/models.json`, 'utf8'));
  return Object.fromEntries(models.map(({ id, parameters }) => [id, 4 * parameters]));
};

/** Puts the demo and the samples beside the page, and lists for the service worker what works without a network. */
const files = {
  name: 'files-of-the-page',
  configureServer: ({ middlewares }) => {
    middlewares.use((request, response, next) => {
      const path = new URL(`http://x${request.url}`).pathname.slice(1);
      if (!served().includes(path)) return next();
      response.end(readFileSync(root + path));
    });
  },
  generateBundle(_, bundle) {
    for (const path of served()) this.emitFile({ type: 'asset', fileName: path, source: readFileSync(root + path) });
    // AVIF's decoder is larger than the page; it is kept when it was needed once.
    const chunks = Object.keys(bundle).filter((name) => !/avif|\.wasm$|\.map$/.test(name));
    const list = ['./', ...chunks.filter((name) => name !== 'index.html'), ...served()];
    const source = readFileSync(`${web}sw.js`, 'utf8');
    const version = [...chunks].sort().join('|');
    let hash = 0;
    for (const c of version) hash = (Math.imul(hash, 31) + c.charCodeAt(0)) | 0;
    const filled = source
      .replace("'VERSION'", `'${(hash >>> 0).toString(16)}'`)
      .replace("['FILES']", JSON.stringify(list));
    this.emitFile({ type: 'asset', fileName: 'sw.js', source: filled });
  },
};

// biome-ignore lint/style/noDefaultExport: Vite asks for it
export default defineConfig({
  root: web,
  base: './',
  define: { __PUBLISHED__: JSON.stringify(published()) },
  build: { outDir: `${web}dist`, emptyOutDir: true, target: 'es2022', modulePreload: { polyfill: false } },
  worker: { format: 'es' },
  plugins: [files],
});
