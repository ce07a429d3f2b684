/**
 * Seeing: where in the image the model looked for every word.
 *
 * @module
 */
export type { ExplainInput } from './explain.js';
export { explainText } from './explain.js';
export type { ExplainTokensOptions } from './explain-tokens.js';
export { explainTokens } from './explain-tokens.js';
export { seenRectangle } from './geometry.js';
export type { Pieces } from './group-words.js';
export { groupWords } from './group-words.js';
export type { Filling, HeatMap } from './heat-map.js';
export { heatMap } from './heat-map.js';
export { lookOf } from './looks.js';
export type { OverlayOptions } from './overlay.js';
export { overlayPng } from './overlay.js';
export type { PageOptions } from './page/render-page.js';
export { renderPage } from './page/render-page.js';
export type {
  ExplainedImage,
  ExplainedWord,
  Explanation,
  Grid,
  Look,
  Rectangle,
  TokenLook,
  TokenLooks,
  View,
} from './types.js';
