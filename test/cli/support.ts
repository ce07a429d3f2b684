import { spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { getBackend } from '@tensorflow/tfjs-core';
import type { LoadModel } from '../../src/cli/context.js';
import type { Image2Text } from '../../src/node.js';
import { EXAMPLES, ROOT } from '../support/fixtures.js';
import { program } from '../support/program.js';

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface World {
  readonly stdin?: string | Uint8Array | readonly string[];
  /** All three streams are a terminal. */
  readonly tty?: boolean;
  /** Load the model as the command does, and dispose of it. */
  readonly fresh?: boolean;
}

/** Runs a command line in this process. Its modules are imported as they are in a process of its own: mocha requires test files. */
export async function cli(
  args: readonly string[],
  { stdin = '', tty = false, fresh = false }: World = {},
): Promise<Outcome> {
  const [stdout, stderr] = [collector(tty), collector(tty)];
  const chunks = typeof stdin === 'string' || stdin instanceof Uint8Array ? [Buffer.from(stdin)] : stdin;
  const input = Object.assign(Readable.from(chunks), { isTTY: tty });
  const { run } = await import('../../src/cli/program.js');
  const code = await run(args, { stdin: input, stdout, stderr }, fresh ? undefined : keepDemo);
  return { code, stdout: stdout.text(), stderr: stderr.text() };
}

const kept = new Map<string, Promise<Image2Text>>();

/** Loads the demo once for all runs with the same options on the same backend; other checkpoints each time. */
export const keepDemo: LoadModel = async (files, options) => {
  const { loadImage2Text } = await import('../../src/node.js');
  if (files.label !== 'demo') return loadImage2Text(files, options);
  const { signal: _, onProgress: __, ...rest } = options;
  const key = `${getBackend()} ${JSON.stringify(rest)}`;
  let model = kept.get(key);
  if (model === undefined) {
    model = loadImage2Text(files, rest);
    kept.set(key, model);
  }
  return { ...(await model), dispose: () => {} };
};

/** The same with the demo model. */
export const demo = ([name, ...args]: readonly string[], world?: World): Promise<Outcome> =>
  cli([name!, '--model', 'demo', ...args], world);

/** What is left of stderr when the status line, which a slow machine shows, is taken off. */
export const withoutStatus = (stderr: string): string =>
  stderr.replace(/(\r\x1b\[K[^\r\n]*)+(?=\r\x1b\[K)\r\x1b\[K/g, '');

function collector(isTTY: boolean) {
  let all = '';
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      all += chunk.toString();
      done();
    },
  });
  return Object.assign(stream, { isTTY, columns: 100, text: () => all });
}

/** The command as a process of its own. */
export const COMMAND = program('dist/cli/main.js', 'src/cli/main.ts');

/** Starts the command as a process. */
export function start(args: readonly string[]) {
  const [node, ...rest] = COMMAND;
  return spawn(node, [...rest, ...args], { cwd: ROOT });
}

/** Waits for a process to end. */
export function ended(child: ReturnType<typeof start>): Promise<Outcome & { readonly signal: NodeJS.Signals | null }> {
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  return new Promise((done) => {
    child.on('close', (code, signal) => done({ code, signal, stdout, stderr }));
  });
}

/** Names of the example images. */
export const IMAGES = readdirSync(EXAMPLES)
  .filter((name) => /\.(jpg|png)$/.test(name))
  .sort();

/** A new folder with `count` copies of the example images: 00-….jpg, 01-….png, …; some of them in a folder below. */
export function fillFolder(folder: string, count: number): string[] {
  mkdirSync(join(folder, 'more'), { recursive: true });
  return Array.from({ length: count }, (_, n) => {
    const name = IMAGES[n % IMAGES.length]!;
    const at = `${n % 4 === 3 ? 'more/' : ''}${String(n).padStart(2, '0')}-${name}`;
    copyFileSync(EXAMPLES + name, join(folder, at));
    return at;
  });
}

/** All files below a folder that are no images, with their content. */
export function textsBelow(folder: string): Record<string, string> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter(
    (entry) => entry.isFile() && !/\.(jpg|png|gif)$/.test(entry.name),
  );
  return Object.fromEntries(
    files
      .map((entry) => join(entry.parentPath, entry.name))
      .sort()
      .map((path) => [path.slice(folder.length + 1), readFileSync(path, 'utf8')]),
  );
}
