/**
 * The main entry point: everything that runs wherever JavaScript runs.
 *
 * @module
 */

export type { WeightFormat } from 'tfjs-backend-simd';
export type { ByteSource, ModelFiles } from './checkpoint/byte-source.js';
export { fromBytes } from './checkpoint/byte-source.js';
export type { LoadParamsOptions, LoadProgress } from './checkpoint/load-params.js';
export { WEIGHT_FORMATS } from './checkpoint/stored-tensor.js';
export * from './errors.js';
export type {
  AttentionMap,
  ExplainedImage,
  ExplainedWord,
  Explanation,
  Grid,
  Rectangle,
  TokenAttention,
  TokenAttentions,
  View,
} from './explain/attention-map.js';
export { attentionOf, attentionSpread, EVEN_SPREAD } from './explain/attention-map.js';
export type { ExplainInput, ExplainTokensOptions, Pieces } from './explain/explanation.js';
export {
  explainText,
  explainTokens,
  groupWords,
  logProbsWithoutImage,
  patchArea,
  type TextRow,
} from './explain/explanation.js';
export type { Filling, HeatMap, OverlayOptions } from './explain/overlay.js';
export { heatMap, overlayPng } from './explain/overlay.js';
export type { PageOptions } from './explain/page.js';
export { renderPage } from './explain/page.js';
export { generate, streamTokens } from './generation/generate.js';
export type { GenerationConfig } from './generation/generation-config.js';
export type * from './generation/options.js';
export { generationOptions, STRATEGIES } from './generation/options.js';
export type { ConstrainedResult, RankedName, RankOptions, ScoreOptions, SequenceScore } from './generation/score.js';
export { constrainedGreedy, rankNames, scoreSequences } from './generation/score.js';
export type {
  DecoderSession,
  Finish,
  GeneratedSequence,
  LogitsProcessor,
  NextLogits,
  SessionSource,
  StoppingCriterion,
  TokenEvent,
  TopQuery,
  TopTokens,
  VocabularyFacts,
} from './generation/session.js';
export { padRows } from './generation/session.js';
export type { DecodedImage, DecodeOptions } from './image/decode.js';
export { decodeFrames, decodeImage } from './image/decode.js';
export type { Channels, ImageConfig, Sides } from './image/image-config.js';
export type { ImageOptions, KeepRatio, PreprocessOptions } from './image/image-options.js';
export { IMAGE_OPTIONS } from './image/image-options.js';
export type { PixelValues } from './image/preprocess.js';
export type { RgbImage, Samples } from './image/raw-image.js';
export type { ResizeFilter } from './image/resize.js';
export type {
  Answer,
  AnswerOptions,
  CallOptions,
  Caption,
  CaptionOptions,
  CaptionStreamOptions,
  TextRules,
  Token,
} from './image2text/captions.js';
export type {
  ExplainOptions,
  GenerateSequencesOptions,
  Image2Text,
  ModelOptions,
} from './image2text/image2text.js';
export { createImage2Text } from './image2text/image2text.js';
export type {
  ConvertHeic,
  ImageJob,
  ImageWarning,
  InputOptions,
  OpenImage,
  OpenVideo,
  PrepareImage,
} from './image2text/input-loader.js';
export type {
  EncodedImage,
  ImageInput,
  PageImage,
  PixelSamples,
  VideoInput,
  VideoSource,
  VisualInput,
} from './image2text/inputs.js';
export { frames, readPixels, video } from './image2text/inputs.js';
export type { LoadOptions } from './image2text/load.js';
export { loadImage2Text } from './image2text/load.js';
export type { TokenStreamer } from './image2text/method-options.js';
export type { ClassifyOptions, ClassScore, Embedding, EmbedOptions, TextScore } from './image2text/scores.js';
export type { KeyValue } from './layers/attention.js';
export type { Layout, TensorSpec } from './layers/param-spec.js';
export type { Trace } from './layers/tidy.js';
export { collectTrace } from './layers/tidy.js';
export type * from './load-events.js';
export type { Git, ImageCache, TextCache, TextInput } from './model/git.js';
export {
  decodeText,
  encodeImage,
  encodeImageInTurns,
  gitSpec,
  imageFeatures,
  plainForward,
  prefillImage,
  projectFeatures,
  videoFeatures,
  vocabularyLogits,
} from './model/git.js';
export type { GitConfig, VisionConfig } from './model/git-config.js';
export { parseGitConfig } from './model/git-config.js';
export { startSession } from './model/git-session.js';
export type { LoadGitOptions } from './model/load-git.js';
export { loadGit } from './model/load-git.js';
export type { Defaults, OptionDeclaration, OptionType } from './options.js';
export * from './pipeline/index.js';
export type * from './tokenizer/tokenizer.js';
export { createBertTokenizer, loadTokenizer } from './tokenizer/tokenizer.js';
export type { TokenizerSettings } from './tokenizer/tokenizer-config.js';
export type { AddedToken, NamedBytes, Vocabulary } from './tokenizer/vocabulary.js';
export { parseVocab } from './tokenizer/vocabulary.js';
