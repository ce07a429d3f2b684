/**
 * `pipeline` for code written for transformers.js.
 *
 * @module
 */
import type { ModelFiles } from '../checkpoint/byte-source.js';
import { loadImage2Text } from '../image2text/load.js';
import { createPipeline } from './create-pipeline.js';
import { contradiction } from './option-names.js';

export type { ModelLoader } from './create-pipeline.js';
export { createPipeline } from './create-pipeline.js';
export { InterruptableStoppingCriteria } from './interruptable.js';
export type { TextStreamerOptions } from './text-streamer.js';
export { TextStreamer } from './text-streamer.js';
export type * from './types.js';

/**
 * `pipeline('image-to-text', files)`: a function from images to texts, with transformers.js's inputs, options and results. The model comes
 * from files, or is one that is loaded; `device` names a registered tfjs backend (`auto`: the current one). Nothing is downloaded, so that
 * `cacheDir` and `localFilesOnly` are kept by themselves, and a revision there is none.
 */
export const pipeline = createPipeline<ModelFiles>((files, options) => {
  const { device, revision, cacheDir: _, localFilesOnly: __, ...rest } = options;
  if (revision !== undefined && revision !== 'main') contradiction('revision', 'a model from files has no revisions');
  return loadImage2Text(files, { ...rest, ...(device === undefined || device === 'auto' ? {} : { backend: device }) });
});
