// Writes dist/browser.bundle.js: the entry point of pages with everything that it needs in one ES module, for <script type="module"> from a CDN.
// The decoder of AVIF, larger than all the rest, is in dist/browser.avif.js beside it and loaded when the first such image is met; our kernels for
// tfjs's webgpu backend are in dist/browser.webgpu.js and loaded where that backend is used.
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

/** Bundles beside the first, with what each is made of. */
const OUTSIDE = { 'browser.avif.js': 'image/generated/avif-wasm.js', 'browser.webgpu.js': 'webgpu/index.js' };

const staysOutside = {
  name: 'stays-outside',
  setup(context) {
    context.onResolve({ filter: /\.js$/ }, ({ path, kind }) => {
      const name = path.split('/').slice(-2).join('/');
      const found = Object.entries(OUTSIDE).find(([, module]) => kind !== 'entry-point' && module.endsWith(name));
      return found && { path: `./${found[0]}`, external: true };
    });
  },
};

await build({
  ...settings,
  ...{ entryPoints: [`${dist}browser.js`], outfile: `${dist}browser.bundle.js`, plugins: [staysOutside] },
});
for (const [name, module] of Object.entries(OUTSIDE)) {
  await build({ ...settings, ...{ entryPoints: [dist + module], outfile: dist + name } });
}
for (const name of ['browser.bundle.js', ...Object.keys(OUTSIDE)]) {
  const bytes = readFileSync(dist + name);
  const [plain, zipped] = [bytes.length, gzipSync(bytes).length].map((size) => `${Math.round(size / 1000)} kB`);
  console.log(`dist/${name}: ${plain}, ${zipped} with gzip`);
}
