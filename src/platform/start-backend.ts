import { enableProdMode, getBackend, setBackend } from '@tensorflow/tfjs-core';
import { BackendError } from '../errors.js';

/** Backends that Node's door can start by name. */
export const NODE_BACKENDS = ['auto', 'simd', 'wasm', 'cpu', 'webgpu', 'node', 'node-gpu'] as const;
export type NodeBackend = (typeof NODE_BACKENDS)[number];

/** Imports what registers the backend; resolves to the name that tfjs knows it by. */
const START: Readonly<Record<Exclude<NodeBackend, 'auto'>, () => Promise<string>>> = {
  async simd() {
    const { registerSimdBackend } = await import('tfjs-backend-simd');
    registerSimdBackend();
    return 'simd';
  },
  async wasm() {
    await import('@tensorflow/tfjs-backend-wasm');
    return 'wasm';
  },
  async cpu() {
    await import('@tensorflow/tfjs-backend-cpu');
    return 'cpu';
  },
  async webgpu() {
    await provideWebGpu();
    await importOptional('@tensorflow/tfjs-backend-webgpu');
    return 'webgpu';
  },
  async node() {
    await importTensorflow('@tensorflow/tfjs-node');
    return 'tensorflow';
  },
  async 'node-gpu'() {
    await importTensorflow('@tensorflow/tfjs-node-gpu');
    return 'tensorflow';
  },
};

/** What `auto` tries, best first: all of these come with the package. */
const AUTOMATIC = ['simd', 'wasm', 'cpu'] as const;

/**
 * Makes a backend the current one, importing it if need be. `auto` takes the fastest that starts. Call it only where the application
 * has asked: the current backend belongs to the application.
 *
 * @returns the name tfjs knows it by.
 * @throws BackendError naming the package to install, or why it does not start.
 */
export async function startBackend(name: NodeBackend): Promise<string> {
  const failures: BackendError[] = [];
  for (const candidate of name === 'auto' ? AUTOMATIC : [name]) {
    try {
      return await startOne(candidate);
    } catch (error) {
      if (!(error instanceof BackendError)) throw error;
      failures.push(error);
    }
  }
  throw failures[0]!;
}

async function startOne(name: Exclude<NodeBackend, 'auto'>): Promise<string> {
  if (!Object.hasOwn(START, name)) {
    const detail = `there is no backend of this name; known are ${NODE_BACKENDS.join(', ')}`;
    throw new BackendError({ path: String(name), code: 'unknown-backend', detail });
  }
  const registered = await START[name]();
  try {
    if (await setBackend(registered)) return getBackend();
  } catch (cause) {
    throw new BackendError({ path: name, code: 'backend-failed', detail: (cause as Error).message, cause });
  }
  throw new BackendError({ path: name, code: 'backend-failed', detail: 'it does not start on this machine' });
}

/** tfjs-node 4.22.0 calls two functions that Node 23 removed from `util`; they are put back before it is imported. */
async function importTensorflow(name: string): Promise<void> {
  const { createRequire } = await import('node:module');
  const util = createRequire(import.meta.url)('node:util') as Record<string, unknown>;
  util['isNullOrUndefined'] ??= (value: unknown) => value === null || value === undefined;
  util['isArray'] ??= Array.isArray;
  await importOptional(name);
}

/** WebGPU in Node is Dawn, from the npm package `webgpu`; in a page, Deno and newer Nodes it is there already. */
async function provideWebGpu(): Promise<void> {
  const scope = globalThis as { navigator?: { gpu?: unknown } };
  if (scope.navigator?.gpu !== undefined) return;
  const dawn = (await importOptional('webgpu')) as { create(flags: string[]): unknown; globals: object };
  Object.assign(globalThis, dawn.globals);
  if (scope.navigator === undefined) Object.defineProperty(globalThis, 'navigator', { value: {}, configurable: true });
  Object.defineProperty(scope.navigator!, 'gpu', { value: dawn.create([]), configurable: true });
}

async function importOptional(name: string): Promise<unknown> {
  try {
    return await import(name);
  } catch (cause) {
    const missing = (cause as { code?: string }).code === 'ERR_MODULE_NOT_FOUND' && String(cause).includes(`'${name}'`);
    const detail = missing
      ? `the optional package ${name} is not installed: npm install ${name}@${OPTIONAL_VERSIONS[name]}`
      : `${name} does not load: ${(cause as Error).message}`;
    throw new BackendError({ path: name, code: missing ? 'backend-not-installed' : 'backend-failed', detail, cause });
  }
}

const OPTIONAL_VERSIONS: Readonly<Record<string, string>> = {
  webgpu: '0.6.2',
  '@tensorflow/tfjs-backend-webgpu': '4.22.0',
  '@tensorflow/tfjs-node': '4.22.0',
  '@tensorflow/tfjs-node-gpu': '4.22.0',
};

/** Switches off the banners that tfjs prints when it starts; for programs that own their output. It is a setting of the whole process. */
export function quietTensorflow(): void {
  enableProdMode();
}
