import type { Tensor, Tensor3D } from '@tensorflow/tfjs-core';
import { concat } from '@tensorflow/tfjs-core';
import { fingerprintTensors } from '../checkpoint/fingerprint.js';
import { ImageError, OptionError } from '../errors.js';
import { nextTask } from '../event-loop.js';
import { seededRandom } from '../generation/generate.js';
import type { Image2Text } from '../image2text/image2text.js';
import { partsOf } from '../image2text/image2text.js';
import { eventSink } from '../load-events.js';
import { type Git, namedParameters } from '../model/git.js';
import type { LoraAdapter } from '../model/lora.js';
import type { TrainingBatch } from './backward.js';
import {
  loadRun,
  NO_FILES,
  type RunPosition,
  saveAdapter,
  saveModel,
  saveRun,
  subfolder,
  type TrainingFolder,
  textPieces,
} from './checkpoint.js';
import { createImageSource, epochOrder, padBatch, readPairs, type TokenizedPair, type TrainingPairs } from './data.js';
import { createAdapter } from './lora.js';
import { isVisionParameter, type Optimization, startOptimization, VISION_PREFIXES } from './optimizer.js';
import { type CheckedTrainingOptions, checkTrainingOptions, type TrainingOptions } from './options.js';
import { modelCard, renderTrainingPage, type TrainingEvent, type ValidationEvent, type WarningCode } from './report.js';
import { thumbnailsOf, validate } from './validation.js';

/** What a run made. */
export interface TrainingResult {
  readonly steps: number;
  /** The adapter, where one was trained: `model.useAdapter(adapter)`. The caller's: `disposeAdapter`. */
  readonly adapter: LoraAdapter | undefined;
  /** The trained weights, where they were trained themselves; of the model they share what was not. `undefined` with LoRA. */
  readonly git: Git | undefined;
  /** The last validation. */
  readonly validation: ValidationEvent | undefined;
  /** Frees what the run made: the weights or the adapter. Frozen weights are the model's. */
  dispose(): void;
}

/**
 * Trains a model on pairs of images and texts by teacher forcing, with AdamW. The model stays as it is: what was learned is the result, and, with
 * `folder`, the folders `last` and `best` there (a published checkpoint's layout, or PEFT's for LoRA), with `state.safetensors` to resume from,
 * `log.jsonl` and `report.html`. The vision tower stays as it is unless `trainVision` says otherwise.
 *
 * @param pairs what is learned; they are read once, images are opened when they are needed.
 * @throws OptionError before the first step for options, data or a run to resume that do not fit; BackendError (`not-finite`); the signal's
 *   reason. Nothing stays behind then but what was written.
 */
export async function train(
  model: Image2Text,
  pairs: TrainingPairs,
  options: TrainingOptions = {},
): Promise<TrainingResult> {
  const checked = checkTrainingOptions(options);
  const run = await openRun(model, pairs, checked);
  try {
    return await run.all();
  } catch (error) {
    run.dispose();
    throw error;
  }
}

interface Run {
  all(): Promise<TrainingResult>;
  dispose(): void;
}

async function openRun(model: Image2Text, given: TrainingPairs, options: CheckedTrainingOptions): Promise<Run> {
  const { signal, folder, seed } = options;
  const { git, tokenizer, imageConfig } = model;
  const { loader } = partsOf(model);
  const log: TrainingEvent[] = [];
  const pending: string[] = [];
  const listener = options.onEvent && eventSink(options.onEvent);
  const emit = (event: TrainingEvent): void => {
    log.push(event);
    pending.push(`${JSON.stringify(event)}\n`);
    listener?.(event);
  };
  const warn = (code: WarningCode, detail: string): void => emit({ type: 'warning', code, detail });
  const skip = (source: string, error: Error): void => emit({ type: 'skipped', source, detail: error.message });

  // Data, before anything is computed.
  const { config } = git;
  const positions = config.maxPositionEmbeddings - 2;
  const maxTokens = Math.min(options.maxTokens, positions);
  if (maxTokens < 1)
    throw new OptionError({ path: 'model', code: 'no-room', detail: 'the model has no positions for texts' });
  const pairs = await readPairs(given, tokenizer, maxTokens, skip, signal);
  const held =
    options.validation === undefined ? [] : await readPairs(options.validation, tokenizer, maxTokens, skip, signal);
  if (folder !== undefined && options.lora === undefined && partsOf(model).files === undefined)
    throw new OptionError({ path: 'folder', code: 'no-files', detail: NO_FILES });
  if (pairs.length === 0)
    throw new OptionError({
      path: 'pairs',
      code: 'no-pairs',
      detail: 'there is no pair of an image and a text that can be learned',
    });
  if (options.validation !== undefined && held.length === 0)
    throw new OptionError({ path: 'validation', code: 'no-pairs', detail: 'there is no pair of an image and a text' });
  const perStep = options.batchSize * options.accumulate;
  const steps = options.steps ?? Math.max(1, Math.ceil((options.epochs * pairs.length) / perStep));
  const warmupSteps = options.warmupSteps ?? Math.floor(steps / 10);
  if (warmupSteps > steps)
    throw new OptionError({
      path: 'warmupSteps',
      code: 'out-of-range',
      detail: `${warmupSteps} of ${steps} steps in all`,
    });
  const learningRate = options.learningRate ?? (options.lora === undefined ? 1e-5 : 5e-4);
  const visionLearningRate = options.visionLearningRate ?? learningRate;
  const validateEvery = options.validateEvery ?? Math.max(1, Math.ceil(steps / 10));
  const saveEvery = options.saveEvery ?? validateEvery;
  warnOfData(pairs, warn, maxTokens, tokenizer.unkId);
  warnOfRate(learningRate, options.lora !== undefined, warn);
  const learnedImages = new Set(pairs.map(({ pair }) => pair.image));
  const shared = held.filter(({ pair }) => learnedImages.has(pair.image)).length;
  if (shared > 0)
    warn(
      'validation-learned',
      `${shared} of ${held.length} validation pairs are of images that are learned too: they cannot tell learning from learning by heart`,
    );
  if (held.length === 0)
    warn('no-validation', 'without validation pairs nobody sees whether the model learns the images by heart');

  // Weights.
  const freeze = [...(options.trainVision ? [] : VISION_PREFIXES), ...options.freeze];
  const adapter = options.lora === undefined ? undefined : createAdapter(git, options.lora, seed);
  let optimization: Optimization;
  try {
    optimization = startOptimization(git, {
      ...{ steps, warmupSteps, learningRate, visionLearningRate, freeze, adapter },
      ...{ schedule: options.schedule, weightDecay: options.weightDecay, maxGradNorm: options.maxGradNorm },
      ...{ labelSmoothing: options.labelSmoothing, betas: options.betas, epsilon: options.epsilon },
      recompute: options.recompute,
    });
  } catch (error) {
    for (const { a, b } of adapter?.layers.values() ?? []) for (const matrix of [a, b]) matrix.dispose();
    throw error;
  }
  const freeAndThrow = (error: unknown): never => {
    optimization.dispose();
    throw error;
  };
  const names = [...optimization.state().parameters.keys()];
  const trainsVision = names.some(isVisionParameter);
  const images = createImageSource({
    ...{ loader, imageConfig, signal, cacheBytes: options.featureCacheBytes, cacheFolder: options.featureFolder },
    encodeWith: trainsVision ? undefined : git,
  });
  const base = folder === undefined ? null : await fingerprintTensors(namedParameters(git)).catch(freeAndThrow);
  const identity = {
    ...{ steps, warmupSteps, learningRate, visionLearningRate, seed, maxTokens },
    ...{ batchSize: options.batchSize, accumulate: options.accumulate, schedule: options.schedule },
    ...{ weightDecay: options.weightDecay, maxGradNorm: options.maxGradNorm, labelSmoothing: options.labelSmoothing },
    ...{ betas: options.betas, epsilon: options.epsilon, augment: options.augment, shuffle: options.shuffle },
    lora: options.lora === undefined ? null : { rank: adapter!.rank, alpha: adapter!.alpha },
    parameters: names.map((name) => `${name} [${optimization.state().parameters.get(name)!.shape}]`),
    pairs: fingerprint(pairs),
    model: base,
  };

  let position: RunPosition = { epoch: 0, drawn: 0, best: null, firstLoss: null };
  let done = 0;
  let order = epochOrder(pairs.length, 0, seed, options.shuffle);
  let lastValidation: ValidationEvent | undefined;

  const flush = async (): Promise<void> => {
    if (folder === undefined || pending.length === 0) return;
    await folder.append('log.jsonl', pending.splice(0).join(''));
  };

  /** Goes on from the saved state; from the start where the run was killed before there was one. */
  async function resume(into: TrainingFolder): Promise<void> {
    const found = await loadRun(into, identity);
    if (found !== undefined) {
      optimization.restore(found.state);
      ({ position } = found);
      done = found.state.step;
      order = epochOrder(pairs.length, position.epoch, seed, options.shuffle);
    }
    const earlier = found === undefined ? [] : await earlierEvents(into, done);
    const lines = earlier.map((event) => `${JSON.stringify(event)}\n`).join('');
    await into.write('log.jsonl', textPieces(lines)); // what came after the state comes again
    log.unshift(...earlier);
  }

  /** The next pair of the order and its image; a bad one is reported and passed over. */
  async function draw(): Promise<{ readonly pair: TokenizedPair; readonly image: Tensor }> {
    for (let passed = 0; passed <= pairs.length; passed++) {
      let { epoch, drawn } = position;
      if (drawn === pairs.length) {
        epoch++;
        drawn = 0;
        order = epochOrder(pairs.length, epoch, seed, options.shuffle);
      }
      const index = order[drawn]!;
      const pair = pairs[index]!;
      position = { ...position, epoch, drawn: drawn + 1 };
      const random = options.augment ? seededRandom(seed, 2 * (epoch * pairs.length + index) + 2) : undefined;
      try {
        return { pair, image: await images.load(pair, random) };
      } catch (error) {
        if (!(error instanceof ImageError)) throw error;
        if (!reported.has(pair)) skip(pair.source, error);
        reported.add(pair);
      }
    }
    throw new OptionError({ path: 'pairs', code: 'no-images', detail: 'no image of the pairs can be opened' });
  }
  const reported = new Set<TokenizedPair>();
  let saidRises = false;

  /** One update. */
  async function step(): Promise<void> {
    const started = performance.now();
    const drawn: { pair: TokenizedPair; image: Tensor }[] = [];
    const batches: TrainingBatch[] = [];
    try {
      while (drawn.length < perStep) drawn.push(await draw());
      for (let at = 0; at < perStep; at += options.batchSize)
        batches.push(...batchesOf(drawn.slice(at, at + options.batchSize), trainsVision, tokenizer.padId));
      if (trainsVision) checkTrainedSize(batches, git);
      const report = await optimization.step(batches, {
        pause: async () => {
          await nextTask();
          signal?.throwIfAborted();
        },
      });
      done++;
      position = { ...position, firstLoss: position.firstLoss ?? report.loss };
      if (done >= 10 && report.loss > 2 * position.firstLoss! && !saidRises) {
        saidRises = true;
        warn(
          'loss-rises',
          `the loss was ${position.firstLoss!.toPrecision(3)} at first and is ${report.loss.toPrecision(3)} after ${done} steps: try a lower learning rate`,
        );
      }
      const seconds = (performance.now() - started) / 1000;
      emit({
        ...{ type: 'step', step: done, steps, loss: report.loss, gradNorm: report.gradNorm },
        ...{ learningRate: learningRate * report.rateFactor, tokens: report.tokens, seconds, epoch: position.epoch },
      });
    } finally {
      for (const { image } of drawn) image.dispose();
      for (const { pixels, features } of batches) (pixels ?? features)?.dispose();
    }
  }

  /** Checks what was learned on the held-out pairs. */
  async function look(): Promise<void> {
    const { git: now, dispose } = optimization.current();
    try {
      const found = await validate(now, model, held, {
        images,
        trainsVision,
        batchSize: options.batchSize,
        maxTokens,
        signal,
        skip,
      });
      const best = done > 0 && (position.best === null || found.loss < position.best);
      lastValidation = { type: 'validation', step: done, ...found, best };
      if (best) position = { ...position, best: found.loss };
      emit(lastValidation);
      if (!log.some(({ type }) => type === 'thumbnails'))
        emit({ type: 'thumbnails', images: await thumbnailsOf(held, loader, signal) });
      if (done > 0) warnOfValidation(lastValidation, warn);
    } finally {
      dispose();
    }
  }

  async function save(name: 'last' | 'best'): Promise<void> {
    if (folder === undefined) return;
    const into = subfolder(folder, name);
    const adapterNow = optimization.adapter();
    const card = modelCard(log, { base: partsOf(model).files?.label, lora: adapterNow !== undefined });
    if (adapterNow !== undefined) {
      await saveAdapter(adapterNow, into, partsOf(model).files?.label);
      await into.write('README.md', textPieces(card));
    } else {
      const { git: now, dispose } = optimization.current();
      await saveModel(model, into, { git: now, card }).finally(dispose);
    }
    emit({ type: 'saved', step: done, name });
  }

  async function savePosition(): Promise<void> {
    if (folder === undefined) return;
    await flush(); // the log may be ahead of the state, never behind it
    await saveRun(folder, optimization.state(), position, identity);
    await folder.write('report.html', textPieces(renderTrainingPage(log)));
  }

  const dispose = (): void => optimization.dispose();
  return {
    dispose,
    async all() {
      const started = performance.now();
      if (folder !== undefined) await (options.resume ? resume(folder) : checkUnused(folder));
      emit({
        ...{ type: 'start', pairs: pairs.length, validationPairs: held.length, steps, fromStep: done },
        trained: numbers(optimization.state().parameters.values()),
        parameters: numbers(namedParameters(git).values()),
      });
      await flush();
      if (held.length > 0 && done === 0) await look(); // what the model says before
      while (done < steps) {
        signal?.throwIfAborted();
        await step();
        const last = done === steps;
        if (held.length > 0 && (last || done % validateEvery === 0)) {
          await look();
          if (lastValidation!.best) await save('best');
        }
        if (last) await save('last');
        if (last || done % saveEvery === 0) await savePosition();
      }
      emit({ type: 'end', step: done, seconds: (performance.now() - started) / 1000 });
      await flush();
      if (folder !== undefined) await folder.write('report.html', textPieces(renderTrainingPage(log)));
      const adapterNow = optimization.adapter();
      const { git: trained } = adapterNow === undefined ? optimization.current() : { git: undefined };
      optimization.disposeMoments();
      return { steps: done, adapter: adapterNow, git: trained, validation: lastValidation, dispose };
    },
  };
}

/** Batches of inputs of one shape. */
function batchesOf(
  drawn: readonly { readonly pair: TokenizedPair; readonly image: Tensor }[],
  trainsVision: boolean,
  padId: number,
): TrainingBatch[] {
  const shapes = [...new Set(drawn.map(({ image }) => image.shape.join()))];
  return shapes.map((shape) => {
    const alike = drawn.filter(({ image }) => image.shape.join() === shape);
    const joined = concat(
      alike.map(({ image }) => image as Tensor3D),
      0,
    );
    const text = padBatch(
      alike.map(({ pair }) => pair),
      padId,
    );
    return { ...text, ...(trainsVision ? { pixels: joined as never } : { features: joined }) };
  });
}

/** Positions of a tower in training are not interpolated. @throws OptionError */
function checkTrainedSize(batches: readonly TrainingBatch[], { config: { vision } }: Git): void {
  if (vision.tokenMerging !== undefined) {
    throw new OptionError({
      path: 'tokenMerging',
      code: 'merged-tokens',
      detail: 'the vision tower is trained on every token',
    });
  }
  for (const { pixels } of batches) {
    const [height, width] = pixels!.shape.slice(-3);
    if (height === vision.imageSize && width === vision.imageSize) continue;
    const detail = `the vision tower is trained on images of ${vision.imageSize} by ${vision.imageSize} pixels; preprocessing makes ${width} by ${height}`;
    throw new OptionError({ path: 'trainVision', code: 'image-size', detail });
  }
}

/** @throws OptionError (`folder-in-use`) */
async function checkUnused(folder: TrainingFolder): Promise<void> {
  for (const name of [
    'state.safetensors',
    'log.jsonl',
    'last/config.json',
    'last/adapter_config.json',
    'config.json',
  ]) {
    if ((await folder.open(name)) === undefined) continue;
    const detail = `${folder.label} holds ${name}: resume the run that is there, or name another folder`;
    throw new OptionError({ path: 'folder', code: 'folder-in-use', detail });
  }
}

/** The events of an earlier process up to the step that it was saved at: a page that goes on where it was. */
async function earlierEvents(folder: TrainingFolder, step: number): Promise<TrainingEvent[]> {
  const source = await folder.open('log.jsonl');
  if (source === undefined) return [];
  const text = new TextDecoder().decode(await source.slice(0, source.size).arrayBuffer());
  return text.split('\n').flatMap((line) => {
    try {
      const event = JSON.parse(line) as TrainingEvent;
      return 'step' in event && event.step > step ? [] : [event];
    } catch {
      return []; // a line that a kill cut off
    }
  });
}

const numbers = (tensors: Iterable<Tensor>): number => [...tensors].reduce((sum, { size }) => sum + size, 0);

/** What tells one set of pairs from another: how many, and FNV-1a of all tokens. */
function fingerprint(pairs: readonly TokenizedPair[]): string {
  let hash = 0x811c9dc5;
  for (const { ids } of pairs) for (const id of [...ids, -1]) hash = Math.imul(hash ^ id, 0x01000193);
  return `${pairs.length} pairs, ${(hash >>> 0).toString(16)}`;
}

// --- Warnings ---

type Warn = (code: WarningCode, detail: string) => void;

function warnOfData(pairs: readonly TokenizedPair[], warn: Warn, maxTokens: number, unknownId: number): void {
  const cut = pairs.filter(({ isCut }) => isCut).length;
  if (cut > 0) warn('pairs-cut', `${cut} of ${pairs.length} pairs are longer than ${maxTokens} tokens and are cut`);
  const unknown = pairs.filter(({ ids }) => ids.includes(unknownId)).length;
  if (unknown > 0)
    warn(
      'unknown-words',
      `${unknown} of ${pairs.length} texts have characters that the vocabulary lacks, which are learned as [UNK]`,
    );
  const start = sharedStart(pairs);
  if (start !== '' && pairs.length >= 8)
    warn(
      'prompt-in-text',
      `every text begins with "${start}": give it as the prompt, or the loss will mostly say how well that is known`,
    );
}

/** The words that all texts begin with, where there are three or more and texts go on after them. */
function sharedStart(pairs: readonly TokenizedPair[]): string {
  const split = pairs.map(({ pair: { text } }) => text.trim().split(/\s+/));
  let count = 0;
  while (split.every((words) => words.length > count + 1 && words[count] === split[0]![count])) count++;
  return count >= 3 ? split[0]!.slice(0, count).join(' ') : '';
}

/** Rates that people take from other kinds of networks. */
function warnOfRate(rate: number, isLora: boolean, warn: Warn): void {
  const [least, most] = isLora ? [1e-6, 1e-2] : [1e-8, 1e-3];
  if (rate > most)
    warn(
      'learning-rate',
      `a learning rate of ${rate} is above what ${isLora ? 'LoRA bears' : 'fine-tuning bears'} (about ${most}): the model may forget all it knows`,
    );
  if (rate < least)
    warn(
      'learning-rate',
      `a learning rate of ${rate} changes next to nothing; ${isLora ? '1e-4 to 1e-3' : '1e-6 to 1e-4'} are usual`,
    );
}

function warnOfValidation({ samples, step }: ValidationEvent, warn: Warn): void {
  const said = new Set(samples.map(({ text }) => text));
  const expected = new Set(samples.map(({ expected }) => expected));
  const prompts = new Set(samples.map(({ prompt }) => prompt));
  if (samples.length >= 4 && said.size === 1 && expected.size > 1 && prompts.size === 1)
    warn(
      'same-caption',
      `after ${step} steps every held-out image gets the same text, "${[...said][0]}": the model does not look at the image yet`,
    );
}
