/**
 * Node's door: the front door, and files, images and backends of this machine.
 *
 * @module
 */
import type { ModelFiles } from './checkpoint/byte-source.js';
import { checkOptions } from './image2text/arguments.js';
import type { Image2Text } from './image2text/image2text.js';
import type { LoadOptions } from './image2text/load.js';
import { loadImage2Text as loadFiles, prepareBackend } from './image2text/load.js';
import { createPipeline } from './pipeline/index.js';
import { openImage, webpWasm } from './platform/node-images.js';
import { openVideo } from './platform/node-videos.js';
import type { HubOptions } from './platform/open-model.js';
import { openModel } from './platform/open-model.js';
import { startDevice } from './platform/start-device.js';

export type { HubFetch, HubLimits } from './hub/client.js';
export { type DownloadOptions, downloadFile } from './hub/download.js';
export { type EnvironmentVariables, hubCache, hubHome } from './hub/environment.js';
export { nodeTransport, type Transport } from './hub/node-transport.js';
export { openRemote, type RemoteOptions } from './hub/remote-files.js';
export { downloadSnapshot, type Snapshot, type SnapshotOptions } from './hub/snapshot.js';
export * from './index.js';
export * from './pipeline/index.js';
export { fromDirectory, fromFile } from './platform/directory.js';
export type { FfmpegOptions } from './platform/ffmpeg.js';
export { openImage } from './platform/node-images.js';
export { openVideo, videoOpener } from './platform/node-videos.js';
export type { HubOptions } from './platform/open-model.js';
export type { NodeBackend } from './platform/start-backend.js';
export { NODE_BACKENDS, quietTensorflow, startBackend } from './platform/start-backend.js';
export type { FileKind, Inspection } from './tools/inspect.js';
export { inspectFile } from './tools/inspect.js';

/** Options of Node's `loadImage2Text`. */
export type NodeLoadOptions = LoadOptions & Omit<HubOptions, 'signal' | 'onProgress'>;

/**
 * Loads a checkpoint by its name on the Hub (`microsoft/git-base-textcaps`; fetched once, into the cache that Python's tools share), from
 * a folder on this machine, or from files opened otherwise. Images and videos may be paths.
 *
 * @throws as the front door's; ConfigError when the folder does not exist; HubError when the checkpoint cannot be had.
 */
export async function loadImage2Text(model: string | ModelFiles, options: NodeLoadOptions = {}): Promise<Image2Text> {
  const { revision, cacheDir, token, endpoint, localFilesOnly, env, ...rest } = checkOptions(options);
  const hub = {
    revision,
    cacheDir,
    token,
    endpoint,
    localFilesOnly,
    env,
    signal: rest.signal,
    onProgress: rest.onProgress,
  };
  await prepareBackend(rest); // before a download of hundreds of megabytes
  const files = typeof model === 'string' ? await openModel(model, hub) : model;
  return loadFiles(files, { openImage, openVideo, webpWasm, ...rest });
}

/**
 * `pipeline('image-to-text', 'microsoft/git-base-coco')`: a function from images to texts, with transformers.js's inputs, options and results.
 * The model is what `loadImage2Text` takes, or is loaded already; `device` names a backend (`wasm`, `webgpu`, `cuda`, …) that is started first.
 *
 * @throws OptionError for unknown tasks and options, and contradictory ones; what starting the backend and loading throw.
 */
export const pipeline = createPipeline<string | ModelFiles>(async (model, { device, ...options }) => {
  if (device !== undefined) await startDevice(device);
  return loadImage2Text(model, options);
});
