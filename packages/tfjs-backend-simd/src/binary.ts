import { BackendError } from './errors.js';

/** What the compiled kernels offer (assembly/index.ts). Addresses are numbers from 0 to 2^32 - 1. */
export interface KernelExports {
  /** Runs all chunks of a job in the calling thread. */
  runAlone(job: number, chunks: number): void;
  /** Shares a job with the workers; returns the chunks that the calling thread took. `join` must follow. */
  share(job: number, chunks: number): number;
  /**
   * Finishes a shared job. Workers that give no sign of life for `patience` looks lose their chunk to the caller; returns how many
   * of them have not noticed yet. The caller sleeps only where it may.
   */
  join(patience: number, mayWait: number): number;
  /** How many of the first `workers` workers have lost their chunk and not noticed yet. */
  busy(workers: number): number;
  /** Workers with a larger number rest; below zero all of them return from `serve`. */
  setLimit(limit: number): void;
  /** A worker's life; returns when it is dismissed. */
  serve(thread: number, spins: number): void;
  tileRows(): number;
  int8TileRows(): number;
  attentionScratch(rows: number, width: number, textColumns: number, imageColumns: number): number;
  attentionGradientScratch(tokens: number, columns: number, width: number): number;
  largest(x: number, n: number): number;
  /** The `Dots` that this machine computes fastest, and right. */
  bestDots(): number;
  /** `rows` times: `pastBytes` of the past, then `freshBytes` of what is fresh, to the target. */
  appendColumns(
    ...at: [past: number, fresh: number, target: number, rows: number, pastBytes: number, freshBytes: number]
  ): void;
  packPanels(b: number, ldb: number, d: number, k: number, n: number, height: number): void;
  packPanelsTransposed(b: number, ldb: number, d: number, k: number, n: number): void;
  packStrip(
    ...at: [
      format: number,
      s: number,
      ld: number,
      transposed: boolean,
      d: number,
      scales: number,
      given: boolean,
      k: number,
      n: number,
      spare: number,
    ]
  ): void;
  widenStored(format: number, s: number, d: number, n: number): void;
  unpackColumn(format: number, w: number, scales: number, d: number, column: number, k: number): void;
  unpackWeight(format: number, w: number, scales: number, d: number, n: number, k: number): void;
}

/** Which of the four binaries to take. */
export interface Variant {
  /** With fused multiply-add (relaxed SIMD). */
  readonly relaxed: boolean;
  /** Over memory that workers share. */
  readonly shared: boolean;
}

/** A module with one instruction of the proposal in question: `i8x16.splat` or `f32x4.relaxed_madd` on constants. */
const tinyModule = (body: readonly number[]) =>
  Uint8Array.from([
    ...[0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, body.length + 4, 1, body.length + 2, 0],
    ...[...body, 11],
  ]);

const SPLAT = [65, 0, 253, 15];

/** Can this platform run WebAssembly SIMD? */
export const hasSimd = (): boolean => typeof WebAssembly === 'object' && WebAssembly.validate(tinyModule(SPLAT));

/** Can it run relaxed SIMD? (On Node 20 only behind a flag of V8, see platform.ts.) */
export const hasRelaxedSimd = (): boolean =>
  WebAssembly.validate(tinyModule([...SPLAT, ...SPLAT, ...SPLAT, 253, 133, 2]));

/** Does it let us share WebAssembly memory? (In a page: only when it is cross-origin isolated.) */
export function hasSharedMemory(): boolean {
  if (typeof SharedArrayBuffer !== 'function') return false;
  return (globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated !== false;
}

/** Each variant is a module of its own, so that a program loads one of the four. */
const LOADERS = {
  'plain-unshared': () => import('./generated/plain-unshared.js'),
  'plain-shared': () => import('./generated/plain-shared.js'),
  'relaxed-unshared': () => import('./generated/relaxed-unshared.js'),
  'relaxed-shared': () => import('./generated/relaxed-shared.js'),
};

/**
 * Loads and compiles the kernels.
 * @throws BackendError where the platform refuses them.
 */
export async function compileKernels({ relaxed, shared }: Variant): Promise<WebAssembly.Module> {
  const { base64 } = await LOADERS[`${relaxed ? 'relaxed' : 'plain'}-${shared ? 'shared' : 'unshared'}`]();
  try {
    return await WebAssembly.compile(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)));
  } catch (cause) {
    const detail = `this platform does not compile the kernels (${(cause as Error).message})`;
    throw new BackendError({ path: 'simd', code: 'cannot-start', detail, cause });
  }
}

const PAGE_BYTES = 65536;

/** The largest memory that the platform grants, 4 GiB where it can, and the bytes that it can grow to. */
export function createMemory(shared: boolean): { readonly memory: WebAssembly.Memory; readonly limit: number } {
  let cause: unknown;
  for (const maximum of [65536, 32768, 16384, 8192]) {
    try {
      const memory = new WebAssembly.Memory({ initial: 256, maximum, shared });
      return { memory, limit: maximum * PAGE_BYTES };
    } catch (error) {
      cause = error;
    }
  }
  throw new BackendError({ path: 'simd', code: 'cannot-start', detail: 'no WebAssembly memory to be had', cause });
}

/** An instance of compiled kernels over a memory. */
export async function instantiate(module: WebAssembly.Module, memory: WebAssembly.Memory): Promise<KernelExports> {
  const instance = await WebAssembly.instantiate(module, { env: { memory } });
  return instance.exports as unknown as KernelExports;
}
