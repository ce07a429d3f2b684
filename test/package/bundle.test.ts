import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { build } from 'esbuild';
import { ROOT } from '../support/fixtures.js';

interface Bundle {
  /** Every file that was looked at. */
  readonly inputs: string[];
  /** Files of which something is left in what a page loads at once, and in what it loads when it is asked for. */
  readonly atOnce: string[];
  readonly later: string[];
  /** Size of what is loaded at once. */
  readonly bytes: number;
}

/** Bundles an entry point for the browser and lists what went in. */
async function bundle(entry: string): Promise<Bundle> {
  const { metafile } = await build({
    entryPoints: [`${ROOT}${entry}`],
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
  const outputs = metafile.outputs;
  const first = Object.keys(outputs).find((name) => outputs[name]!.entryPoint?.endsWith(entry))!;
  const names = new Set([first]);
  for (const name of names) {
    for (const { path, kind } of outputs[name]!.imports) if (kind === 'import-statement') names.add(path);
  }
  const used = (files: string[]) =>
    files.flatMap((name) =>
      Object.entries(outputs[name]!.inputs).flatMap(([input, { bytesInOutput }]) => (bytesInOutput > 0 ? [input] : [])),
    );
  return {
    inputs: Object.keys(metafile.inputs),
    atOnce: used([...names]),
    later: used(Object.keys(outputs).filter((name) => !names.has(name))),
    bytes: [...names].reduce((sum, name) => sum + outputs[name]!.bytes, 0),
  };
}

const kilobytes = (bytes: number): string => `${(bytes / 1024).toFixed(0)} kB minified, tfjs-core included`;

describe('bundles', () => {
  it('index.ts pulls in no node: module and no backend', async () => {
    const { inputs, atOnce, bytes } = await bundle('src/index.ts');
    assert.ok(inputs.some((input) => input.endsWith('src/model/git.ts')));
    assert.deepEqual(
      inputs.filter((input) => /(^|[/])node:|tfjs-backend|tfjs-node|src\/(platform|cli|parity|hub)\//.test(input)),
      [],
    );
    console.log(`      index.ts: ${kilobytes(bytes)}`);
    assert.deepEqual(
      atOnce.filter((input) => input.includes('src/webgpu/')),
      [],
      'kernels for webgpu are loaded where that backend is used',
    );
    assert.deepEqual(
      atOnce.filter((input) => /zod\/v4\/(locales|classic)\/|webp_dec/.test(input)),
      [],
      'all of zod would be 400 kB more than the part that is used',
    );
    assert.ok(bytes < 460 * 1024, kilobytes(bytes)); // 366 kB before decoders, option tables and pipeline tasks came in 0.2
  });

  it('the entry point of pages pulls in no node: module, and no backend but simd, which comes when it is started', async () => {
    const { inputs, atOnce, bytes } = await bundle('src/browser.ts');
    console.log(`      the entry point of pages: ${kilobytes(bytes)}`);
    assert.ok(inputs.some((input) => input.endsWith('src/platform/browser.ts')));
    assert.deepEqual(
      inputs.filter((input) => /(^|[/])node:|tfjs-backend-(?!simd)|tfjs-node|src\/(cli|parity)\//.test(input)),
      [],
    );
    assert.deepEqual(
      atOnce.filter((input) => /tfjs-backend-simd|src\/webgpu\//.test(input)),
      [],
    );
  });

  it('our kernels for webgpu bring no second tfjs', async () => {
    const { inputs, atOnce, bytes } = await bundle('src/webgpu/index.ts');
    console.log(`      kernels for webgpu: ${(bytes / 1024).toFixed(0)} kB minified`);
    assert.ok(inputs.some((input) => input.endsWith('src/webgpu/linear.ts')));
    assert.deepEqual(
      atOnce.filter((input) => input.includes('node_modules')),
      [],
    );
  });

  it('the backend pulls in no node: module, and each of its binaries is a chunk of its own', async () => {
    const { inputs, atOnce, later, bytes } = await bundle('packages/tfjs-backend-simd/src/index.ts');
    console.log(`      the backend: ${kilobytes(bytes)}`);
    const isBinary = (input: string) => input.includes('src/generated/');
    assert.deepEqual(
      inputs.filter((input) => /(^|[/])node:|tfjs-backend-(?!simd)|tfjs-node|^src\//.test(input)),
      [],
    );
    assert.deepEqual(atOnce.filter(isBinary), []);
    assert.equal(later.filter(isBinary).length, 4);
  });

  it('every import of a page is an address that a bundler can read', async () => {
    const { inputs } = await bundle('src/browser.ts');
    const sources = [...inputs, ...(await bundle('packages/tfjs-backend-simd/src/index.ts')).inputs].filter((input) =>
      /^(src|packages)\//.test(input),
    );
    const odd = sources.filter((input) => {
      const code = readFileSync(`${ROOT}${input}`, 'utf8').replace(/\/\*[\s\S]*?\*\/|\/\/ .*/g, '');
      return /\bimport\((?!\s*'[^']+'\s*\))|\brequire\b(?!\('node:worker_threads'\))|import\.meta/.test(code);
    });
    assert.ok(sources.length > 100, `${sources.length} files`);
    assert.deepEqual(odd, []);
  });

  it('errors keep their names when everything else loses its own', async () => {
    const { outputFiles } = await build({
      ...{ entryPoints: [`${ROOT}src/errors.ts`], bundle: true, format: 'esm', minify: true, write: false },
    });
    const exported: Record<string, unknown> = await import(
      `data:text/javascript,${encodeURIComponent(outputFiles[0]!.text)}`
    );
    const classes = Object.entries(exported).filter(([name]) => name.endsWith('Error'));
    assert.ok(classes.length >= 10);
    for (const [name, value] of classes) {
      const error = new (value as new (facts: object) => Error)({ code: 'some-rule', detail: 'x' });
      assert.deepEqual([error.name, String(error)], [name, `${name}: some-rule: x`]);
    }
  });

  it('would notice a node: import', async () => {
    await assert.rejects(bundle('src/node.ts'), /node:fs/);
  });
});

describe('the bundle of training', () => {
  it('pulls in no node: module and no backend', async () => {
    const { inputs } = await bundle('src/training/index.ts');
    assert.ok(inputs.some((input) => input.endsWith('src/training/trainer.ts')));
    assert.deepEqual(
      inputs.filter((input) =>
        /(^|[/])node:|tfjs-backend|tfjs-node|src\/(platform|cli|parity|hub|tools)\//.test(input),
      ),
      [],
    );
  });
});
