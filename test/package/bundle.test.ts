import assert from 'node:assert/strict';
import { build } from 'esbuild';
import { ROOT } from '../support/fixtures.js';

/** Bundles a door for the browser and lists what went in. */
async function bundle(entry: string): Promise<{ inputs: string[]; bytes: number }> {
  const { metafile, outputFiles } = await build({
    entryPoints: [`${ROOT}src/${entry}`],
    bundle: true,
    format: 'esm',
    platform: 'browser',
    splitting: true,
    outdir: 'nowhere',
    write: false,
    metafile: true,
    minify: true,
    logLevel: 'silent',
    loader: { '.wasm': 'file' },
  });
  return { inputs: Object.keys(metafile.inputs), bytes: outputFiles[0]!.contents.length };
}

describe('bundles', () => {
  it('the front door pulls in no node: module and no backend', async () => {
    const { inputs, bytes } = await bundle('index.ts');
    assert.ok(inputs.some((input) => input.endsWith('src/model/git.ts')));
    assert.deepEqual(
      inputs.filter((input) => /(^|[/])node:|tfjs-backend|tfjs-node|src\/(platform|cli|parity|hub)\//.test(input)),
      [],
    );
    console.log(`      front door: ${(bytes / 1024).toFixed(0)} kB minified, tfjs-core included`);
  });

  it("the page's door pulls in no node: module and no backend", async () => {
    const { inputs } = await bundle('browser.ts');
    assert.ok(inputs.some((input) => input.endsWith('src/platform/browser-pictures.ts')));
    assert.deepEqual(
      inputs.filter((input) => /(^|[/])node:|tfjs-backend|tfjs-node|src\/(cli|parity)\//.test(input)),
      [],
    );
  });

  it('would notice a node: import', async () => {
    await assert.rejects(bundle('node.ts'), /node:fs/);
  });
});
