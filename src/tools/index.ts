/**
 * Entry point of the tools (Node): converting and comparing checkpoints, the published models, and the machine looked at.
 *
 * @module
 */

export type { ConvertDtype } from '../checkpoint/encode-tensor.js';
export { fingerprintModel } from '../checkpoint/fingerprint.js';
export type { Conversion, ConvertOptions, WrittenFile } from './convert.js';
export { convertCheckpoint, megabytes } from './convert.js';
export type { BackendHealth, DoctorOptions, DoctorReport, Problem } from './doctor.js';
export { runDoctor } from './doctor.js';
export type {
  PublishedComparison,
  PublishedDecoding,
  PublishedLogits,
  PublishedModel,
  PublishedModels,
} from './models.js';
export { compareWithPublished, listModels, listPublishedLogits, readPublishedModels } from './models.js';
export type {
  CompareModelsOptions,
  ImageComparison,
  ModelComparison,
  Verification,
  VerifiedLogit,
  VerifyOptions,
} from './verify.js';
export { compareModels, verifyModel } from './verify.js';
