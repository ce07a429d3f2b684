/**
 * Training and fine-tuning, wherever JavaScript runs: `train`, LoRA adapters, checkpoints out.
 *
 * @module
 */
export type { LoraAdapter } from '../model/lora.js';
export { disposeAdapter, mergeAdapter } from '../model/lora.js';
// The parts that `train` is made of, for loops of one's own: see examples/train-demo.
export { countLabels, type TrainingBatch, type VisionLoss } from './backward.js';
export type { VisionInput } from './backward-vision.js';
export {
  loadAdapter,
  loadRun,
  memoryFolder,
  type RunPosition,
  saveAdapter,
  saveModel,
  saveRun,
  subfolder,
  type TrainingFolder,
} from './checkpoint.js';
export {
  holdOut,
  padBatch,
  type TokenizedPair,
  type TrainingPair,
  type TrainingPairs,
  tokenizePair,
} from './data.js';
export { crossEntropyGradient, scatterRows } from './gradients.js';
export { type InitialWeightsOptions, initialWeights, withInitialWeights } from './initial-weights.js';
export { createAdapter, type LoraOptions } from './lora.js';
export {
  type AdamW,
  type AdamWOptions,
  createAdamW,
  type Moments,
  type Optimization,
  type OptimizationOptions,
  type OptimizationState,
  type ParameterRate,
  type Schedule,
  type StepHooks,
  type StepReport,
  scheduleFactor,
  startOptimization,
} from './optimizer.js';
export { TRAINING_OPTIONS, type TrainingOptions } from './options.js';
export type * from './report.js';
export { renderTrainingPage } from './report.js';
export { shardPairs } from './shards.js';
export { type TrainingResult, train } from './trainer.js';
