import { backend, setBackend } from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';

/** Backends that every numeric test runs on. */
export const BACKENDS = ['cpu', 'wasm'] as const;
export type BackendName = (typeof BACKENDS)[number];

/** Makes `name` the current backend, ready for use. */
export async function useBackend(name: string): Promise<void> {
  if (!(await setBackend(name))) throw new Error(`backend ${name} does not start`);
  backend();
}
