/**
 * The entry point for Node: the main one, and files, images and backends of this machine.
 *
 * @module
 */

export { IMAGE_ENDING } from './file-signature.js';
export type { HubFetch, HubLimits } from './hub/client.js';
export { type DownloadOptions, downloadFile } from './hub/download.js';
export { type EnvironmentVariables, hubCache, hubHome } from './hub/environment.js';
export { nodeTransport, type Transport } from './hub/node-transport.js';
export { openRemote, type RemoteOptions } from './hub/remote-files.js';
export { downloadSnapshot, type Snapshot, type SnapshotOptions } from './hub/snapshot.js';
export * from './index.js';
export type { TransformersEnv } from './pipeline/index.js';
export type { ChannelFormat, ImageTensor } from './pipeline/raw-image.js';
export type { FfmpegOptions, HeifOptions } from './platform/ffmpeg.js';
export { heicConverter } from './platform/ffmpeg.js';
export type { NodeLoadOptions } from './platform/node.js';
export { ensureBackend, env, loadImage2Text, pipeline, RawImage, startBackend } from './platform/node.js';
export { fromDirectory, fromFile, openImage } from './platform/node-files.js';
export { openVideo, videoOpener } from './platform/node-videos.js';
export { type HubOptions, openModel } from './platform/open-model.js';
export type { NodeBackend } from './platform/start-backend.js';
export { NODE_BACKENDS, quietTensorflow } from './platform/start-backend.js';
export { trainingFolder, trainingPairs } from './platform/training-data.js';
export type { FileKind, Inspection } from './tools/inspect.js';
export { inspectFile } from './tools/inspect.js';
