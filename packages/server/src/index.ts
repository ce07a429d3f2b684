/**
 * The server as a library, and what `image2text serve` and `image2text queue` run.
 *
 * @module
 */
export { describeHost, type HostOptions, loadHost, type ModelHost } from './host.js';
export type { ServeOptions } from './options.js';
export { run } from './run.js';
export { type RunningServer, type ServerParts, startServer } from './server.js';
