import { execFile } from 'node:child_process';
import { access, constants, lstat, readdir, stat } from 'node:fs/promises';
import { availableParallelism, freemem, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { type EnvironmentVariables, hubCache } from '../hub/cache-paths.js';
import { freeBytes } from './files.js';

/** What `doctor` looks at besides the backends. Nothing here throws. */

export interface MachineFacts {
  readonly node: string;
  readonly platform: string;
  readonly cores: number;
  /** Bytes that this process may use in all: the machine's, or less in a container. */
  readonly memory: number;
  readonly freeMemory: number;
}

export function machineFacts(): MachineFacts {
  const limit = process.constrainedMemory?.() ?? 0;
  const memory = limit > 0 && limit < totalmem() ? limit : totalmem();
  return {
    node: process.versions.node,
    platform: `${process.platform} ${process.arch}`,
    cores: availableParallelism(),
    memory,
    freeMemory: Math.min(freemem(), memory),
  };
}

/** The folder that downloads go to. */
export interface CacheFacts {
  readonly folder: string;
  /** Models in it, and the bytes of their files. */
  readonly models: number;
  readonly bytes: number;
  readonly writable: boolean;
  readonly freeDisk: number | undefined;
}

export async function cacheFacts(env: EnvironmentVariables): Promise<CacheFacts> {
  const folder = hubCache(env);
  const names = (await readdir(folder).catch(() => [])).filter((name) => name.startsWith('models--'));
  let bytes = 0;
  for (const name of names) bytes += await sizeBelow(join(folder, name));
  const existing = await existingAbove(folder);
  const writable = await access(existing, constants.W_OK).then(
    () => true,
    () => false,
  );
  return { folder, models: names.length, bytes, writable, freeDisk: await freeBytes(existing) };
}

/** Links are not followed: a cache names each blob once and points to it. */
async function sizeBelow(folder: string): Promise<number> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  let bytes = 0;
  for (const entry of entries) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) bytes += await sizeBelow(path);
    else if (entry.isFile())
      bytes += await lstat(path).then(
        ({ size }) => size,
        () => 0,
      );
  }
  return bytes;
}

async function existingAbove(path: string): Promise<string> {
  if (
    await stat(path).then(
      () => true,
      () => false,
    )
  )
    return path;
  const parent = dirname(path);
  return parent === path ? path : existingAbove(parent);
}

/** Variables that change what this library does, its dependencies included. */
const VARIABLES = [
  ...[
    'HF_HOME',
    'HF_HUB_CACHE',
    'HUGGINGFACE_HUB_CACHE',
    'XDG_CACHE_HOME',
    'HF_ENDPOINT',
    'HF_HUB_OFFLINE',
    'TRANSFORMERS_OFFLINE',
  ],
  ...[
    'HF_HUB_DISABLE_SYMLINKS',
    'HF_HUB_DISABLE_IMPLICIT_TOKEN',
    'HF_TOKEN',
    'HUGGING_FACE_HUB_TOKEN',
    'HF_TOKEN_PATH',
  ],
  ...['HTTPS_PROXY', 'HTTP_PROXY', 'ALL_PROXY', 'NO_PROXY', 'https_proxy', 'http_proxy', 'all_proxy', 'no_proxy'],
  ...[
    'NODE_OPTIONS',
    'NODE_EXTRA_CA_CERTS',
    'VK_DRIVER_FILES',
    'VK_ICD_FILENAMES',
    'CUDA_VISIBLE_DEVICES',
    'TF_NUM_INTRAOP_THREADS',
  ],
] as const;

/** Those that are set, secrets hidden. */
export function environmentFacts(env: EnvironmentVariables): Readonly<Record<string, string>> {
  const set = VARIABLES.filter((name) => env[name] !== undefined && env[name] !== '');
  return Object.fromEntries(set.map((name) => [name, /TOKEN$/.test(name) ? '(set)' : withoutPassword(env[name]!)]));
}

const withoutPassword = (text: string): string => text.replace(/\/\/[^/@]*@/g, '//***@');

/** The first line of `program -version`, or undefined where there is no such program. */
export function programVersion(program: string, signal?: AbortSignal): Promise<string | undefined> {
  return new Promise((resolve) => {
    try {
      const options = { timeout: 5000, ...(signal && { signal }) };
      execFile(program, ['-version'], options, (error, out) =>
        resolve(error === null ? out.split('\n')[0]!.trim() : undefined),
      );
    } catch {
      resolve(undefined); // an abort before it starts
    }
  });
}
