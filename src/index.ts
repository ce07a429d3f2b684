/**
 * The front door: everything that runs wherever JavaScript runs.
 *
 * @module
 */
export type { ByteSource, ModelFiles } from './checkpoint/byte-source.js';
export { fromBytes } from './checkpoint/byte-source.js';
export * from './errors.js';
export type { GenerateOptions, StreamOptions } from './generation/options.js';
export type { Finish, GeneratedSequence, TokenEvent } from './generation/types.js';
export type { ImageConfig } from './image/image-config.js';
export type { RawImage } from './image/raw-image.js';
export type { GenerateSequencesOptions, Image2Text, LoadOptions } from './image2text/load.js';
export { createImage2Text, loadImage2Text } from './image2text/load.js';
export type { OpenPicture, Picture, PixelSamples } from './image2text/pictures.js';
export type { Caption, CaptionOptions, Token } from './image2text/types.js';
export type { Git } from './model/git.js';
export {
  decodeText,
  encodeImage,
  gitSpec,
  imageFeatures,
  prefillImage,
  projectFeatures,
  videoFeatures,
  vocabularyLogits,
} from './model/git.js';
export type { GitConfig, VisionConfig } from './model/git-config.js';
export { parseGitConfig } from './model/git-config.js';
export { startSession } from './model/git-session.js';
export { loadGit } from './model/load-git.js';
export { plainForward } from './model/plain-forward.js';
export type { Trace } from './model/trace.js';
export { collectTrace } from './model/trace.js';
export type { Tokenizer } from './tokenizer/tokenizer.js';
