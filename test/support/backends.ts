import { backend, setBackend } from '@tensorflow/tfjs-core';
import { registerSimdBackend, type SimdBackend } from 'tfjs-backend-simd';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';

registerSimdBackend();

/** Backends that every numeric test runs on. */
export const BACKENDS = ['cpu', 'wasm', 'simd'] as const;
export type BackendName = (typeof BACKENDS)[number];

/** Makes `name` the current backend, ready for use. */
export async function useBackend(name: string): Promise<void> {
  if (!(await setBackend(name))) throw new Error(`backend ${name} does not start`);
  backend();
}

/** Threads of simd, the current backend, whichever copy of the package registered it: a command that ran in this process has its own. */
export const useThreads = (count: number): void => (backend() as SimdBackend).pool.setThreads(count);
