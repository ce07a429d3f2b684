import {
  boolean,
  checkOptions,
  choice,
  fail,
  functionOf,
  integer,
  listOf,
  number,
  type OptionsFor,
  objectOf,
  signal,
  texts,
} from '../options.js';
import type { TrainingFolder } from './checkpoint.js';
import type { TrainingPairs } from './data.js';
import type { LoraOptions } from './lora.js';
import type { TrainingEvent } from './report.js';

function checkFolder({ open, write, append }: TrainingFolder, name: string): void {
  if (typeof open === 'function' && typeof write === 'function' && typeof append === 'function') return;
  fail(name, 'wrong-type', 'expected a folder to write into: { label, open, write, append }');
}

/** Options of `train`. The defaults of rates depend on what is trained, and stand in the help. */
export const TRAINING_OPTIONS = {
  steps: integer({
    least: 1,
    defaults: { train: undefined },
    flag: '--steps',
    help: 'How many updates; in place of epochs.',
  }),
  epochs: number({
    above: 0,
    defaults: { train: 10 },
    flag: '--epochs',
    help: 'How many times every pair is learned.',
  }),
  batchSize: integer({
    least: 1,
    defaults: { train: 8 },
    flag: '--batch-size',
    help: 'How many pairs are computed together.',
  }),
  accumulate: integer({
    least: 1,
    defaults: { train: 1 },
    flag: '--accumulate',
    help: 'How many batches make one update, which is that of one large batch.',
  }),
  learningRate: number({
    above: 0,
    defaults: { train: undefined },
    flag: '--learning-rate',
    help: 'The highest learning rate; default 1e-5 for weights, 5e-4 for LoRA.',
  }),
  visionLearningRate: number({
    above: 0,
    defaults: { train: undefined },
    flag: '--vision-learning-rate',
    help: "The vision tower's highest learning rate, where it is trained; default that of the decoder.",
  }),
  trainVision: boolean({
    defaults: { train: false },
    flag: '--train-vision',
    help: 'Train the vision tower too, which otherwise stays as it is and encodes each image once.',
  }),
  freeze: texts({
    defaults: { train: [] },
    help: 'Parameters whose names begin so are not trained.',
  }),
  lora: objectOf<LoraOptions>()({
    expected: 'an object of rank, alpha, targets',
    defaults: { train: undefined },
    flag: '--lora',
    help: 'Train a LoRA adapter beside the weights, which stay as they are.',
  }),
  schedule: choice(['constant', 'linear', 'cosine'], {
    defaults: { train: 'linear' },
    flag: '--schedule',
    help: 'How the learning rate goes after the warm-up: it stays, or falls to 0.',
  }),
  warmupSteps: integer({
    least: 0,
    defaults: { train: undefined },
    flag: '--warmup-steps',
    help: 'Updates until the learning rate is reached; default a tenth of all.',
  }),
  weightDecay: number({
    least: 0,
    defaults: { train: 0.01 },
    flag: '--weight-decay',
    help: 'Decoupled decay of matrices and embeddings.',
  }),
  maxGradNorm: number({
    above: 0,
    defaults: { train: 1 },
    flag: '--max-grad-norm',
    help: 'Gradients are scaled down to this norm.',
  }),
  labelSmoothing: number({
    least: 0,
    most: 0.9,
    defaults: { train: 0.1 },
    flag: '--label-smoothing',
    help: "Smooth the labels by this much, as the original's loss; 0 is cross-entropy.",
  }),
  betas: listOf<readonly [number, number]>()({
    expected: 'two numbers from 0 to 1',
    defaults: { train: [0.9, 0.999] as readonly [number, number] },
    help: "AdamW's decay rates of the moments.",
    check: (value, name) => {
      if (value.length === 2 && value.every((beta) => typeof beta === 'number' && beta >= 0 && beta < 1)) return;
      fail(name, 'out-of-range', 'expected two numbers of at least 0, below 1');
    },
  }),
  epsilon: number({ above: 0, defaults: { train: 1e-8 }, help: "AdamW's epsilon." }),
  recompute: boolean({
    defaults: { train: false },
    flag: '--recompute',
    help: 'Compute activations again on the way back: memory of one layer, and about a third more time.',
  }),
  maxTokens: integer({
    least: 1,
    defaults: { train: 40 },
    flag: '--max-tokens',
    help: 'Longer texts are cut as the original cuts them: the last of these tokens but two are learned.',
  }),
  augment: boolean({
    defaults: { train: false },
    flag: '--augment',
    help: "The original's augmentation: a random part of 0.8 to 1 of the image's area, resized; images are encoded every time then.",
  }),
  shuffle: boolean({ defaults: { train: true }, help: 'A new order of the pairs in every epoch.' }),
  seed: integer({
    least: 0,
    defaults: { train: 0 },
    flag: '--seed',
    help: 'Seed of the order, the augmentation and a new adapter.',
  }),
  featureCacheBytes: number({
    least: 0,
    defaults: { train: 512 * 2 ** 20 },
    help: 'Memory for features of images that a vision tower that stays as it is has encoded.',
  }),
  featureFolder: objectOf<TrainingFolder>()({
    expected: 'a folder to write into: { label, open, write, append }',
    defaults: { train: undefined },
    help: 'Where such features are kept for this and later runs, by the hash of the image and of the vision tower.',
    check: checkFolder,
  }),
  validation: objectOf<TrainingPairs>()({
    expected: 'pairs of images and texts',
    defaults: { train: undefined },
    help: 'Pairs that are not learned, to see what was.',
  }),
  validateEvery: integer({
    least: 1,
    defaults: { train: undefined },
    flag: '--validate-every',
    help: 'Updates between two validations; default a tenth of all.',
  }),
  folder: objectOf<TrainingFolder>()({
    expected: 'a folder to write into: { label, open, write, append }',
    defaults: { train: undefined },
    help: 'Where checkpoints, log and page are written.',
    check: checkFolder,
  }),
  saveEvery: integer({
    least: 1,
    defaults: { train: undefined },
    flag: '--save-every',
    help: 'Updates between two checkpoints to resume from; default those of validateEvery.',
  }),
  resume: boolean({
    defaults: { train: false },
    flag: '--resume',
    help: 'Go on with the run in the folder; it ends with the bits that it would have had.',
  }),
  onEvent: functionOf<(event: TrainingEvent) => void>()({
    defaults: { train: undefined },
    help: 'Receives what happens: steps, validations, warnings, pairs that are skipped, files that are written.',
  }),
  signal: signal({
    defaults: { train: undefined },
    help: 'Stops the run, which then throws the reason of the signal.',
  }),
} as const;

/** Options of `train`. */
export type TrainingOptions = OptionsFor<typeof TRAINING_OPTIONS, 'train'>;

/** Options of `train`, checked. @throws OptionError naming the option. */
export function checkTrainingOptions(given: unknown) {
  const options = checkOptions(given, TRAINING_OPTIONS, 'train');
  if (options.lora !== undefined && options.trainVision)
    fail('trainVision', 'contradiction', 'with lora the weights stay: name layers of the vision tower in lora.targets');
  if (options.resume && options.folder === undefined)
    fail('resume', 'contradiction', 'there is no folder to resume from');
  if (options.featureFolder !== undefined && (options.trainVision || options.augment))
    fail('featureFolder', 'contradiction', 'features are kept where the vision tower and the images stay as they are');
  return options;
}
export type CheckedTrainingOptions = ReturnType<typeof checkTrainingOptions>;
