import { type NodeBackend, startBackend } from './start-backend.js';

/** Transformers.js's names of devices that are not names of backends. */
const DEVICES: Readonly<Record<string, NodeBackend>> = { gpu: 'webgpu', cuda: 'node-gpu' };

/**
 * Starts the backend of a device, by transformers.js's name of the device or our own of the backend.
 *
 * @throws BackendError as `startBackend`.
 */
export const startDevice = (device: string): Promise<string> =>
  startBackend(Object.hasOwn(DEVICES, device) ? DEVICES[device]! : (device as NodeBackend));
