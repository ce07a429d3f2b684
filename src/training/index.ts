/**
 * Training and fine-tuning, wherever JavaScript runs: `train`, LoRA adapters, checkpoints out.
 *
 * @module
 */
export type { LoraAdapter } from '../model/lora.js';
export { disposeAdapter, mergeAdapter } from '../model/lora.js';
export { loadAdapter, saveAdapter, saveModel } from './checkpoint.js';
export type { TrainingPair, TrainingPairs } from './data.js';
export type * from './events.js';
export { memoryFolder, type TrainingFolder } from './folder.js';
export { createAdapter, type LoraOptions } from './lora.js';
export { TRAINING_OPTIONS, type TrainingOptions } from './options.js';
export { renderTrainingPage } from './report.js';
export { shardPairs } from './shards.js';
export { type TrainingResult, train } from './trainer.js';
