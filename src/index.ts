/**
 * The front door: everything that runs wherever JavaScript runs.
 *
 * @module
 */
export type { ByteSource, ModelFiles } from './checkpoint/byte-source.js';
export { fromBytes } from './checkpoint/byte-source.js';
export * from './errors.js';
export * from './explain/index.js';
export { constrainedGreedy, rankNames } from './generation/constrained.js';
export { generate, streamTokens } from './generation/generate.js';
export type { GenerateOptions, StreamOptions } from './generation/options.js';
export { scoreSequences } from './generation/score.js';
export { padRows } from './generation/steps.js';
export type {
  DecoderSession,
  Finish,
  GeneratedSequence,
  LogitsProcessor,
  SessionSource,
  TokenEvent,
  VocabularyFacts,
} from './generation/types.js';
export type { ImageConfig } from './image/image-config.js';
export type { RawImage } from './image/raw-image.js';
export { createImage2Text } from './image2text/create.js';
export type { SightOptions } from './image2text/eyes.js';
export type { GenerateSequencesOptions, Image2Text } from './image2text/image2text.js';
export type { LoadOptions } from './image2text/load.js';
export { loadImage2Text } from './image2text/load.js';
export type { OpenPicture, Picture, PixelSamples } from './image2text/pictures.js';
export type { SeenPicture } from './image2text/seen.js';
export * from './image2text/types.js';
export type { Frames, OpenVideo, Video } from './image2text/videos.js';
export { frames } from './image2text/videos.js';
export type { LoadEvent, OnLoadEvent } from './load-events.js';
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
export * from './pipeline/index.js';
export { createBertTokenizer } from './tokenizer/bert-tokenizer.js';
export { loadTokenizer } from './tokenizer/load-tokenizer.js';
export type * from './tokenizer/tokenizer.js';
export { parseVocab } from './tokenizer/vocabulary.js';
