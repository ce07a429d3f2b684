import { backend, enableProdMode, engine, getBackend } from '@tensorflow/tfjs-core';
import type { SimdBackend } from 'tfjs-backend-simd';
import { BackendError } from '../errors.js';
import { activateBackend } from '../image2text/load.js';

/** Backends that can be started by name in Node. */
export const NODE_BACKENDS = ['auto', 'simd', 'wasm', 'cpu', 'webgpu', 'node', 'node-gpu'] as const;
export type NodeBackend = (typeof NODE_BACKENDS)[number];

/** Backends that can be started by name in a page. */
export const PAGE_BACKENDS = ['auto', 'simd', 'wasm', 'cpu', 'webgpu', 'webgl'] as const;
export type PageBackend = (typeof PAGE_BACKENDS)[number];

type StartableBackend = Exclude<NodeBackend | PageBackend, 'auto'>;

/** Imports an optional package by its name; a page has none, because its bundler must see what it imports. */
type ImportPackage = ((name: string) => Promise<unknown>) | undefined;

/** Registers a backend; resolves to the name that tfjs knows it by. */
const START: Readonly<Record<StartableBackend, (load: ImportPackage) => Promise<string>>> = {
  async simd() {
    if (isRegistered('simd')) return 'simd'; // maybe with options, and maybe by another copy of the package
    const { registerSimdBackend } = await import('tfjs-backend-simd');
    registerSimdBackend();
    return 'simd';
  },
  wasm: (load) => importBackend('@tensorflow/tfjs-backend-wasm', 'wasm', load),
  cpu: (load) => importBackend('@tensorflow/tfjs-backend-cpu', 'cpu', load),
  webgl: (load) => importBackend('@tensorflow/tfjs-backend-webgl', 'webgl', load),
  async webgpu(load) {
    await provideWebGpu(load);
    return importBackend('@tensorflow/tfjs-backend-webgpu', 'webgpu', load);
  },
  node(load) {
    restoreUtil();
    return importBackend('@tensorflow/tfjs-node', 'tensorflow', load);
  },
  'node-gpu'(load) {
    restoreUtil();
    return importBackend('@tensorflow/tfjs-node-gpu', 'tensorflow', load);
  },
};

/** What `auto` tries, best first; the later ones where they are installed. */
const AUTOMATIC = ['simd', 'wasm', 'cpu'] as const;

/** Starts backends. */
export interface BackendStarter<Name extends string> {
  /**
   * Makes a backend the current one, importing it if need be. `auto` takes the fastest that starts. Call it only where the application
   * has asked: the current backend belongs to the application.
   *
   * @returns the name tfjs knows it by.
   * @throws BackendError naming the package to install, or with why it does not start.
   */
  startBackend(name: Name): Promise<string>;
  /**
   * The backend for a model that is about to be loaded: the one that is asked for; without a wish the application's own, if it has registered
   * any, which stays as it is; otherwise the best that starts.
   *
   * @throws as `startBackend`.
   */
  ensureBackend(wish: string | undefined): Promise<void>;
}

/** @param known the backends that can be started here, whatever the application has registered besides. */
export function createBackendStarter<Name extends NodeBackend | PageBackend>(
  known: readonly Name[],
  load?: ImportPackage,
): BackendStarter<Name> {
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(start: () => Promise<T>): Promise<T> => {
    const started = last.then(start); // tfjs can start one at a time
    last = started.catch(() => undefined);
    return started;
  };
  const startFirst = async (names: readonly string[]): Promise<string> => {
    const failures: BackendError[] = [];
    for (const name of names) {
      try {
        return await startOne(name, known, load);
      } catch (error) {
        if (!(error instanceof BackendError)) throw error;
        failures.push(error);
      }
    }
    throw failures[0]!;
  };
  const startBackend = (name: string): Promise<string> =>
    inTurn(() => startFirst(name === 'auto' ? AUTOMATIC : [name]));
  return {
    startBackend,
    async ensureBackend(wish) {
      if (wish !== undefined && wish !== 'auto') await startBackend(wish);
      else await inTurn(async () => isAnyRegistered() || (await startFirst(AUTOMATIC)));
    },
  };
}

async function startOne(name: string, known: readonly string[], load: ImportPackage): Promise<string> {
  if (known.includes(name)) return activateBackend(await START[name as StartableBackend](load), name);
  if (isRegistered(name)) return activateBackend(name); // the application's own
  const detail = `there is no backend of this name; known are ${known.join(', ')}`;
  throw new BackendError({ path: String(name), code: 'unknown-backend', detail });
}

const isRegistered = (name: string): boolean => Object.hasOwn(engine().registryFactory, name);
const isAnyRegistered = (): boolean => Object.keys(engine().registryFactory).length > 0;

/**
 * Backends for transformers.js's names of devices. Its `cpu` and `wasm` are its fast ways on a processor, as `simd` is here; tfjs's backends
 * of these names are meant where the application has registered them.
 */
const DEVICES: Readonly<Record<string, NodeBackend | PageBackend>> = {
  gpu: 'webgpu',
  cuda: 'node-gpu',
  cpu: 'simd',
  wasm: 'simd',
};

/** The backend of a device, by transformers.js's name of the device or our own of the backend. */
export const backendOfDevice = (device: string): string =>
  Object.hasOwn(DEVICES, device) && !isRegistered(device) ? DEVICES[device]! : device;

/** Threads of `simd`, where it is the current backend, whichever copy of its package registered it. Results are the same for every number. */
export function useThreads(count: number | undefined): void {
  if (count !== undefined && getBackend() === 'simd') (backend() as SimdBackend).pool.setThreads(count);
}

/** tfjs-node 4.22.0 calls two functions that Node 23 removed from `util`; they are put back before it is imported. */
function restoreUtil(): void {
  type Builtins = { process?: { getBuiltinModule?(name: string): Record<string, unknown> } };
  const util = (globalThis as Builtins).process?.getBuiltinModule?.('node:util');
  if (util === undefined) return;
  util['isNullOrUndefined'] ??= (value: unknown) => value === null || value === undefined;
  util['isArray'] ??= Array.isArray;
}

/** WebGPU in Node is Dawn, from the npm package `webgpu`; in a page, Deno and newer Nodes it is there already. */
async function provideWebGpu(load: ImportPackage): Promise<void> {
  const scope = globalThis as { navigator?: { gpu?: unknown } };
  if (scope.navigator?.gpu !== undefined || load === undefined) return;
  const dawn = (await importOptional('webgpu', load)) as { create(flags: string[]): unknown; globals: object };
  Object.assign(globalThis, dawn.globals);
  if (scope.navigator === undefined) Object.defineProperty(globalThis, 'navigator', { value: {}, configurable: true });
  Object.defineProperty(scope.navigator!, 'gpu', { value: dawn.create([]), configurable: true });
}

/** Imports a package that registers `backend`, unless the application has done so. */
async function importBackend(name: string, backend: string, load: ImportPackage): Promise<string> {
  if (!isRegistered(backend)) await importOptional(name, load);
  return backend;
}

async function importOptional(name: string, load: ImportPackage): Promise<unknown> {
  const install = `npm install ${name}@${OPTIONAL_VERSIONS[name]}`;
  if (load === undefined) {
    const detail = `the page has not imported this backend: ${install}, and import '${name}' in your code`;
    throw new BackendError({ path: name, code: 'backend-not-installed', detail });
  }
  try {
    return await load(name);
  } catch (cause) {
    const missing = (cause as { code?: string }).code === 'ERR_MODULE_NOT_FOUND' && String(cause).includes(`'${name}'`);
    const detail = missing
      ? `the optional package ${name} is not installed: ${install}`
      : `${name} does not load: ${(cause as Error).message}`;
    throw new BackendError({ path: name, code: missing ? 'backend-not-installed' : 'backend-failed', detail, cause });
  }
}

const OPTIONAL_VERSIONS: Readonly<Record<string, string>> = {
  webgpu: '0.6.2',
  ...Object.fromEntries(
    ['backend-cpu', 'backend-wasm', 'backend-webgl', 'backend-webgpu', 'node', 'node-gpu'].map((name) => [
      `@tensorflow/tfjs-${name}`,
      '4.22.0',
    ]),
  ),
};

/** Switches off the banners that tfjs prints when it starts; for programs that own their output. It is a setting of the whole process. */
export function quietTensorflow(): void {
  enableProdMode();
}
