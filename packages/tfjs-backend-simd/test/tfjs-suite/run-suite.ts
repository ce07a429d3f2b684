import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import type { SimdBackendOptions } from '../../src/index.js';

/** What became of one spec. */
export interface Outcome {
  readonly name: string;
  readonly status: string;
  readonly messages: readonly string[];
}

/**
 * A folder with a program as one file, `program.cjs`. tfjs publishes its tests and gradients as ES modules whose imports have no
 * extensions, which no version of Node resolves; a bundle needs no resolving. `module` before `main` makes one copy of tfjs-core of
 * it, not two.
 */
export async function bundleProgram(entry: string): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'tfjs-suite-'));
  await build({
    ...{ entryPoints: [fileURLToPath(new URL(entry, import.meta.url))], outfile: join(folder, 'program.cjs') },
    ...{ bundle: true, platform: 'node', format: 'cjs', mainFields: ['module', 'main'], logLevel: 'error' },
    ignoreAnnotations: true, // a test file has side effects, whatever the package says
  });
  return folder;
}

/** Runs a bundled program on one variant of the backend, and reads the results that it leaves. */
export async function runProgram<T>(folder: string, variant: SimdBackendOptions): Promise<T> {
  const results = join(folder, 'results.json');
  rmSync(results, { force: true });
  const options = { maxBuffer: 64 * 2 ** 20 }; // one of tfjs's tests prints a profile of every kernel it runs
  await promisify(execFile)(process.execPath, [join(folder, 'program.cjs'), JSON.stringify(variant), results], options);
  return JSON.parse(readFileSync(results, 'utf8')) as T;
}
