/**
 * Node's door: the front door, and files, pictures and backends of this machine.
 *
 * @module
 */
import type { ModelFiles } from './checkpoint/byte-source.js';
import type { Image2Text } from './image2text/image2text.js';
import type { LoadOptions } from './image2text/load.js';
import { loadImage2Text as loadFiles } from './image2text/load.js';
import { fromDirectory } from './platform/directory.js';
import { openPicture, webpWasm } from './platform/node-pictures.js';
import { openVideo } from './platform/node-videos.js';

export * from './index.js';
export type { Inspection } from './inspect/inspect-file.js';
export { inspectFile } from './inspect/inspect-file.js';
export { fromDirectory, fromFile } from './platform/directory.js';
export type { FfmpegOptions } from './platform/ffmpeg.js';
export { openPicture } from './platform/node-pictures.js';
export { openVideo, videoOpener } from './platform/node-videos.js';
export type { NodeBackend } from './platform/start-backend.js';
export { NODE_BACKENDS, quietTensorflow, startBackend } from './platform/start-backend.js';

/**
 * Loads a checkpoint from a folder on this machine, or from files opened otherwise. Pictures and videos may be paths.
 *
 * @throws as the front door's, and ConfigError when the folder does not exist.
 */
export async function loadImage2Text(model: string | ModelFiles, options: LoadOptions = {}): Promise<Image2Text> {
  const files = typeof model === 'string' ? await fromDirectory(model) : model;
  return loadFiles(files, { openPicture, openVideo, webpWasm, ...options });
}
