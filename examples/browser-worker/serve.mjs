// Bundles this page with its worker and serves it: `node examples/browser-worker/serve.mjs [port]`.
import { readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = fileURLToPath(new URL('.', import.meta.url));
const root = join(here, '../..');

/** With these two headers browsers let threads share memory. Every file has them, workers above all. */
const HEADERS = {
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-embedder-policy': 'require-corp',
};

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.png': 'image/png',
  '.jpg': 'image/jpeg',
};

/** The page and the worker as modules, and what they load only when they need it beside them. */
const { outputFiles } = await build({
  entryPoints: [join(here, 'page.js'), join(here, 'worker.js')],
  bundle: true,
  splitting: true,
  format: 'esm',
  minify: true,
  outdir: here,
  write: false,
});
const bundled = new Map(outputFiles.map(({ path, contents }) => [`/${path.slice(here.length)}`, contents]));
const samples = readdirSync(join(root, 'examples')).filter((name) => /\.(?:png|jpe?g)$/.test(name));
bundled.set('/samples.json', JSON.stringify(samples.map((name) => `examples/${name}`)));

/** The bundle, the page, the demo checkpoint, the sample images; nothing else. */
async function contentsOf(path) {
  if (bundled.has(path)) return bundled.get(path);
  if (path === '/index.html') return readFile(join(here, path));
  if (/^\/(?:examples|weights\/demo)\/[\w.-]+$/.test(path)) return readFile(join(root, path)).catch(() => undefined);
  return undefined;
}

const server = createServer(async ({ url }, response) => {
  const { pathname } = new URL(`http://localhost${url}`); // not as a base: "//" is no address of its own, and would end this program
  const path = pathname === '/' ? '/index.html' : pathname;
  const contents = await contentsOf(path);
  const type = TYPES[extname(path)] ?? 'application/octet-stream';
  response.writeHead(contents === undefined ? 404 : 200, { ...HEADERS, 'content-type': type }).end(contents);
});
server.listen(Number(process.argv[2] ?? 8000), '127.0.0.1', () => {
  console.log(`http://localhost:${server.address().port}/`);
});
