/**
 * The page's door: the front door, and images and files as a page has them.
 *
 * @module
 */
export { type BrowserFilesOptions, fetchModelFiles } from './hub/browser-cache.js';
export type { HubFetch, HubLimits } from './hub/client.js';
export { type FetchFolderOptions, fetchFolder, openRemote, type RemoteOptions } from './hub/remote-files.js';
export * from './index.js';
export { fromFiles } from './platform/browser-files.js';
