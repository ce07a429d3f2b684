/**
 * The entry point for pages: the main one, and models, images and files as a page has them.
 *
 * @module
 */
export { type BrowserFilesOptions, fetchModelFiles } from './hub/browser-cache.js';
export type { HubFetch, HubLimits } from './hub/client.js';
export { type FetchFolderOptions, fetchFolder, openRemote, type RemoteOptions } from './hub/remote-files.js';
export * from './index.js';
export type { TransformersEnv } from './pipeline/index.js';
export { type ChannelFormat, type ImageTensor, RawImage } from './pipeline/raw-image.js';
export type { BrowserLoadOptions } from './platform/browser.js';
export { env, fromFiles, loadImage2Text, pipeline, serveModel, startBackend } from './platform/browser.js';
export type { PageBackend } from './platform/start-backend.js';
export {
  connectWorker,
  type WorkerInput,
  type WorkerModel,
  type WorkerModelInfo,
  type WorkerTrainingOptions,
  type WorkerTrainingPair,
} from './worker/client.js';
export type { MessageEndpoint } from './worker/messages.js';
