/**
 * Where in the image the model's attention went for every word.
 *
 * @module
 */

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
} from './attention-map.js';
export { attentionOf, attentionSpread, EVEN_SPREAD } from './attention-map.js';
export { logProbsWithoutImage, type TextRow } from './evidence.js';
export type { ExplainInput, Pieces } from './explanation.js';
export { explainText, groupWords, patchArea } from './explanation.js';
export type { Filling, HeatMap, OverlayOptions } from './overlay.js';
export { heatMap, overlayPng } from './overlay.js';
export type { PageOptions } from './page.js';
export { renderPage } from './page.js';
export type { ExplainTokensOptions } from './token-attention.js';
export { explainTokens } from './token-attention.js';
