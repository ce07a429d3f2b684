import { fileURLToPath } from 'node:url';
import type { Image2Text, LoadOptions, NodeBackend } from '../node.js';

/** The demo checkpoint that comes with the package. */
export const DEMO_MODEL = fileURLToPath(new URL('../../weights/demo', import.meta.url));

/** Options that choose and place the model. */
export interface ModelFlags {
  readonly model: string;
  readonly backend: NodeBackend;
}

/** Starts the backend, loads the model, and frees it when `body` has ended. */
export async function withModel<T>(
  flags: ModelFlags,
  signal: AbortSignal,
  options: LoadOptions,
  body: (model: Image2Text) => Promise<T>,
): Promise<T> {
  const { loadImage2Text, quietTensorflow, startBackend } = await import('../node.js');
  quietTensorflow();
  await startBackend(flags.backend);
  const model = await loadImage2Text(flags.model, { signal, ...options });
  try {
    return await body(model);
  } finally {
    model.dispose();
  }
}
