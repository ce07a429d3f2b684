import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { Option } from 'commander';
import type { Image2Text } from '../node.js';
import type { StepEvent, TrainingEvent, TrainingOptions, TrainingResult } from '../training/index.js';
import { TRAINING_OPTIONS } from '../training/options.js';
import type { CliCommand, Context } from './context.js';
import { EXIT, UsageError } from './context.js';
import type { ModelFlags } from './model.js';
import { withModel } from './model.js';
import { addExamples, addModel, addNote, addTable, integer, tableOptionsOf } from './options.js';
import { duration, withBar } from './terminal.js';

interface TrainFlags extends ModelFlags {
  readonly output: string;
  readonly validation?: string;
  readonly holdOut?: number;
  readonly seed?: number;
  readonly lora?: number | true;
  readonly loraAlpha?: number;
  readonly loraTargets?: string;
  readonly merge?: boolean;
  readonly overwrite?: boolean;
  readonly featureCache?: string;
}

/** Options that the command has in a form of its own. */
const OWN = ['lora'];

/** `image2text train`. */
export const trainCommand: CliCommand = {
  name: 'train',
  describe(command) {
    command
      .description(
        'Train a model on pairs of images and texts; writes checkpoints, a log and a page of curves (docs/training.md).',
      )
      .argument(
        '<data>',
        'a folder of images with .txt beside them, with a metadata.jsonl or .csv, or of .tar shards; or a .jsonl, .csv, .tsv or .tar file',
      )
      .requiredOption('--output <folder>', 'where to write; empty or not there, unless --resume or --overwrite')
      .option('--overwrite', 'remove what an earlier run left there')
      .option('--validation <data>', 'pairs that are not learned, to see what was')
      .option('--hold-out <n>', 'keep about n pairs apart for that, all of an image together', integer(1, 1_000_000))
      .option('--lora [rank]', 'train a LoRA adapter, of rank 8 unless said otherwise', integer(1, 4096))
      .option('--lora-alpha <x>', 'the adapter counts alpha / rank; default 16', Number)
      .option('--lora-targets <list>', 'ends of names of layers; default query,value')
      .addOption(
        new Option(
          '--from-scratch <scheme>',
          'begin with random weights, as Hugging Face or scaled by 1/√inputs; --model gives config.json, vocabulary and preprocessing',
        ).choices(['huggingface', 'fan-in']),
      )
      .option('--merge', 'with --lora: also write `merged`, a whole checkpoint with the adapter in its weights')
      .option('--feature-cache <folder>', 'keep what the frozen vision tower makes of the images, also for later runs')
      .option('--quiet', 'no bar');
    addTable(command, TRAINING_OPTIONS, OWN);
    addModel(command);
    addExamples(
      command,
      'image2text train photos/ --output run --lora --hold-out 10 --model microsoft/git-base-coco',
      'image2text train photos/ --output run --lora --hold-out 10 --model microsoft/git-base-coco --resume',
      'image2text caption new.jpg --model microsoft/git-base-coco --adapter run/best',
    );
    addNote(command, 'A run that was stopped, however it was, goes on with the same command and --resume.');
  },
  run,
};

async function run([data]: readonly string[], flags: TrainFlags, context: Context): Promise<number> {
  checkFlags(flags);
  for (const path of [data!, flags.validation]) {
    if (path !== undefined && (await stat(path).catch(() => undefined)) === undefined)
      throw new UsageError(`${path}: there is no such file or folder`);
  }
  const { trainingFolder, trainingPairs } = await import('../node.js');
  const { holdOut, train } = await import('../training/index.js');
  const { lora, featureCache, overwrite } = flags;
  const all = trainingPairs(data!);
  const { pairs, validation } =
    flags.holdOut === undefined
      ? { pairs: all, validation: flags.validation === undefined ? undefined : trainingPairs(flags.validation) }
      : await holdOut(all, flags.holdOut, flags.seed);
  return withModel(flags, context, {}, async (model) => {
    const result = await train(model, pairs, {
      ...(tableOptionsOf(flags, TRAINING_OPTIONS, OWN) as TrainingOptions),
      ...(flags.fromScratch === undefined ? {} : scratchOptions(flags)),
      lora: lora === undefined ? undefined : loraOptions(flags),
      validation,
      folder: await trainingFolder(flags.output, { overwrite }),
      featureFolder: featureCache === undefined ? undefined : await trainingFolder(featureCache),
      signal: context.signal,
      onEvent: reporter(flags, context),
    });
    try {
      if (flags.merge === true) await writeMerged(model, result, join(flags.output, 'merged'));
    } finally {
      result.dispose();
    }
    await context.stdout(join(flags.output, flags.merge === true ? 'merged' : 'last'));
    return EXIT.done;
  });
}

function checkFlags(flags: TrainFlags): void {
  const { weights, lora, merge, loraAlpha, loraTargets, overwrite, featureCache, output } = flags;
  if (weights !== 'f32') throw new UsageError('--weights: training needs f32');
  if (flags.tokenMerging) throw new UsageError('--token-merging: training needs every token');
  if (lora === undefined && (merge === true || loraAlpha !== undefined || loraTargets !== undefined))
    throw new UsageError('--merge, --lora-alpha and --lora-targets are for --lora');
  if (flags.validation !== undefined && flags.holdOut !== undefined)
    throw new UsageError('give --validation or --hold-out, not both');
  if (loraAlpha !== undefined && !(loraAlpha > 0)) throw new UsageError('--lora-alpha: expected a number above 0');
  if (overwrite === true && 'resume' in flags) throw new UsageError('give --resume or --overwrite, not both');
  if (flags.fromScratch !== undefined && (lora !== undefined || featureCache !== undefined))
    throw new UsageError(
      '--from-scratch: all weights are trained, so that --lora and --feature-cache do not go with it',
    );
  if (featureCache !== undefined && resolve(featureCache) === resolve(output))
    throw new UsageError('--feature-cache: a folder of its own, since it outlives the run');
}

/** A model that knows nothing trains whole, and at a higher rate. */
const scratchOptions = ({ learningRate = 1e-3 }: TrainFlags & Pick<TrainingOptions, 'learningRate'>) => ({
  ...{ trainVision: true, learningRate },
});

const loraOptions = ({ lora, loraAlpha, loraTargets }: TrainFlags) => ({
  rank: lora === true ? undefined : lora,
  alpha: loraAlpha,
  targets: loraTargets?.split(',').map((name) => name.trim()),
});

/** A checkpoint with the adapter in its weights, which needs no adapter any more. */
async function writeMerged(model: Image2Text, { adapter }: TrainingResult, path: string): Promise<void> {
  const { trainingFolder } = await import('../node.js');
  const { mergeAdapter, saveModel } = await import('../training/index.js');
  const { git, dispose } = mergeAdapter(model.git, adapter!);
  await saveModel(model, await trainingFolder(path), { git }).finally(dispose);
}

/** Steps over which rates are averaged for the bar. */
const WINDOW = 20;

/** Shows what happens: a bar, and a line for what is to stay. */
function reporter({ quiet }: TrainFlags, context: Context): (event: TrainingEvent) => void {
  const recent: StepEvent[] = [];
  return (event) => {
    if (event.type === 'warning') context.stderr(`image2text: warning: ${event.detail}`);
    if (event.type === 'skipped') context.stderr(`image2text: skipped: ${event.source}: ${event.detail}`);
    if (quiet === true) return;
    if (event.type === 'start') {
      const share = `${event.trained} of ${event.parameters} numbers are trained`;
      const from = event.fromStep === 0 ? '' : `, from step ${event.fromStep}`;
      context.stderr(`${event.pairs} pairs, ${event.validationPairs} held out, ${event.steps} steps${from}; ${share}`);
    }
    if (event.type === 'step') {
      recent.push(event);
      if (recent.length > WINDOW) recent.shift();
      context.status.show(withBar(event.step / event.steps, barText(event, recent), context.terminal));
    }
    if (event.type === 'validation') {
      const { step, loss, exactMatch, cider, best } = event;
      const shown = cider === undefined ? '' : `, CIDEr-D ${cider.toFixed(3)}`;
      const note = best ? ', the best so far' : '';
      context.stderr(
        `step ${step}: held out: loss ${loss.toFixed(4)}, ${(100 * exactMatch).toFixed(1)} % exact${shown}${note}`,
      );
    }
  };
}

function barText({ step, steps, loss, learningRate }: StepEvent, recent: readonly StepEvent[]): string {
  const sum = (key: 'seconds' | 'tokens'): number => recent.reduce((total, event) => total + event[key], 0);
  const seconds = Math.max(sum('seconds'), 1e-9);
  const left = duration(((steps - step) * seconds) / recent.length);
  const rate = (sum('tokens') / seconds).toFixed(0);
  return `${step}/${steps}, loss ${loss.toFixed(4)}, rate ${learningRate.toExponential(1)}, ${rate} tokens/s, ${left} left`;
}
