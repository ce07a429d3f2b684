// Writes dist/browser.bundle.js: the entry point of pages with everything that it needs in one ES module, for <script type="module"> from a CDN.
// The decoder of AVIF, larger than all the rest, is in dist/browser.avif.js beside it and loaded when the first such image is met.
// Run by `npm run build`, after tsc.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const dist = fileURLToPath(new URL('../dist/', import.meta.url));
const settings = {
  ...{ bundle: true, format: 'esm', platform: 'browser', target: 'es2022', minify: true },
  ...{ legalComments: 'none', logLevel: 'warning' },
};

const avifStaysOutside = {
  name: 'avif-stays-outside',
  setup: (context) =>
    context.onResolve({ filter: /\/generated\/avif-wasm\.js$/ }, () => ({ path: './browser.avif.js', external: true })),
};

await build({
  ...settings,
  ...{ entryPoints: [`${dist}browser.js`], outfile: `${dist}browser.bundle.js`, plugins: [avifStaysOutside] },
});
await build({
  ...settings,
  ...{ entryPoints: [`${dist}image/generated/avif-wasm.js`], outfile: `${dist}browser.avif.js` },
});
for (const name of ['browser.bundle.js', 'browser.avif.js']) {
  const bytes = readFileSync(dist + name);
  const [plain, zipped] = [bytes.length, gzipSync(bytes).length].map((size) => `${Math.round(size / 1000)} kB`);
  console.log(`dist/${name}: ${plain}, ${zipped} with gzip`);
}
