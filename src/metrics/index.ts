/**
 * Scores of captions and answers, as the field's evaluation programs compute them. Knows no tensor and no platform.
 *
 * @module
 */
export { MetricError } from '../errors.js';
export * from './answers.js';
export * from './captions.js';
export * from './evaluate.js';
export * from './formats.js';
export { ptbTokens, tokenizeCaption } from './ptb-tokenizer.js';
export type { FileContent } from './text-file.js';
