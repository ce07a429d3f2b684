/** What Node's door offers of the Hub. A page takes `browser-cache.ts` and `remote-source.ts` by themselves. */
export { type EnvironmentVariables, hubCache, hubHome } from './cache-paths.js';
export type { HubFetch, HubLimits } from './client.js';
export { downloadFile } from './download-file.js';
export { nodeTransport, type Transport } from './node-transport.js';
export { openRemote, type RemoteOptions } from './remote-source.js';
export type { DownloadOptions } from './session.js';
export { downloadSnapshot, type Snapshot, type SnapshotOptions } from './snapshot.js';
