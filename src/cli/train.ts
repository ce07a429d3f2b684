import { readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Image2TextError } from '../errors.js';
import type { TrainingEvent, TrainingPair } from '../training/index.js';
import type { CliCommand, Context } from './context.js';
import { EXIT, UsageError } from './errors.js';
import { expandInputs } from './inputs.js';
import { readLines } from './line-file.js';
import type { ModelFlags } from './model.js';
import { withModel } from './model.js';
import { addExamples, addModel, integer } from './options.js';
import { imageRow, imageRows, indexTsv, readValue } from './tsv.js';

interface TrainFlags extends ModelFlags {
  readonly output: string;
  readonly validation?: string;
  readonly lora?: number | true;
  readonly resume?: boolean;
  readonly steps?: number;
  readonly epochs?: number;
  readonly batchSize?: number;
  readonly learningRate?: number;
  readonly labelSmoothing?: number;
  readonly trainVision?: boolean;
  readonly augment?: boolean;
  readonly recompute?: boolean;
  readonly seed?: number;
}

/** `image2text train`. */
export const trainCommand: CliCommand = {
  name: 'train',
  describe(command) {
    command
      .description('Teach a model pairs of images and texts; writes checkpoints, a log and a page of curves.')
      .argument('<data>', 'folder of images with .txt beside them or metadata.jsonl, .jsonl, or images as .tsv')
      .requiredOption('--output <folder>', 'where to write; empty or not there, unless --resume')
      .option('--validation <data>', 'pairs that are not learnt, to see what was')
      .option('--lora [rank]', 'train a LoRA adapter, of rank 8 unless said otherwise', integer(1, 4096))
      .option('--resume', 'go on with the run in the folder')
      .option('--steps <n>', 'how many updates; in place of --epochs', integer(1, 1e9))
      .option('--epochs <x>', 'how many times every pair is learnt; default 10', Number)
      .option('--batch-size <n>', 'pairs computed together; default 8', integer(1, 65_536))
      .option('--learning-rate <x>', 'default 1e-5 for weights, 5e-4 for LoRA', Number)
      .option('--label-smoothing <x>', 'default 0.1, as the original; 0 is cross-entropy', Number)
      .option('--train-vision', 'train the vision tower too')
      .option('--augment', 'a random part of each image, as the original')
      .option('--recompute', 'less memory, more time')
      .option('--seed <n>', 'of order, augmentation and adapter; default 0', integer(0, 2 ** 32))
      .option('--quiet', 'no bar');
    addModel(command);
    addExamples(command, 'image2text train photos/ --output run --lora --model microsoft/git-base-coco');
  },
  run,
};

async function run([data]: readonly string[], flags: TrainFlags, context: Context): Promise<number> {
  if (flags.weights !== 'f32') throw new UsageError('--weights: training needs f32');
  const pairs = await readData(data!, context);
  const validation = flags.validation === undefined ? undefined : await readData(flags.validation, context);
  const { trainingFolder } = await import('../node.js');
  const { train } = await import('../training/index.js');
  const { lora, resume, steps, epochs, batchSize, learningRate, labelSmoothing, augment, recompute, seed } = flags;
  return withModel(flags, context, {}, async (model) => {
    const folder = await trainingFolder(flags.output);
    const result = await train(model, pairs, {
      ...{ resume, steps, epochs, batchSize, learningRate, labelSmoothing, augment, recompute, seed, validation },
      lora: lora === undefined ? undefined : lora === true ? {} : { rank: lora },
      ...{ trainVision: flags.trainVision, folder, signal: context.signal },
      onEvent: (event) => show(event, flags, context),
    });
    result.dispose();
    await context.stdout(join(flags.output, 'last'));
    return EXIT.done;
  });
}

function show(event: TrainingEvent, { quiet }: TrainFlags, context: Context): void {
  if (event.type === 'warning') context.stderr(`image2text: warning: ${event.detail}`);
  if (event.type === 'skipped') context.stderr(`image2text: skipped: ${event.source}: ${event.detail}`);
  if (event.type === 'step' && quiet !== true) {
    const { step, steps, loss, learningRate, tokens, seconds } = event;
    const left = Math.ceil((steps - step) * seconds);
    const rate = (tokens / seconds).toFixed(0);
    context.status.show(
      `step ${step}/${steps}, loss ${loss.toFixed(4)}, rate ${learningRate.toExponential(1)}, ${rate} tokens/s, ${left} s left`,
    );
  }
  if (event.type === 'validation' && quiet !== true) {
    const { step, loss, exactMatch } = event;
    context.stderr(`step ${step}: held out: loss ${loss.toFixed(4)}, ${(100 * exactMatch).toFixed(1)} % exact`);
  }
}

type Listed = TrainingPair | Error;

/** Pairs of a folder, a JSONL file or TSV files. @throws UsageError for what is none of them. */
async function readData(path: string, context: Context): Promise<Listed[]> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) throw new UsageError(`${path}: there is no such file or folder`);
  if (found.isFile() && path.endsWith('.jsonl')) return jsonLines(path);
  if (found.isFile() && path.endsWith('.tsv')) return tsvPairs(path);
  if (!found.isDirectory()) throw new UsageError(`${path}: expected a folder, a .jsonl or a .tsv file`);
  const metadata = join(path, 'metadata.jsonl');
  if ((await stat(metadata).catch(() => undefined)) !== undefined) return jsonLines(metadata);
  const { inputs } = await expandInputs([path], context);
  return Promise.all(
    inputs.map(async ({ name, read }): Promise<Listed> => {
      const text = await readFile(name.replace(/\.[^./\\]+$/, '.txt'), 'utf8').catch(() => undefined);
      if (text === undefined) return bad(name, undefined, 'there is no .txt with its text beside it');
      return { image: read, text: text.trim(), source: name };
    }),
  );
}

const bad = (file: string, line: number | undefined, detail: string): Error =>
  new Image2TextError({ file, path: line === undefined ? undefined : `line ${line}`, code: 'bad-pair', detail });

/** `file_name` or `image`, and `text`, `caption` or `answer`; also `prompt` or `question`. */
async function jsonLines(file: string): Promise<Listed[]> {
  const pairs: Listed[] = [];
  let line = 0;
  for await (const { bytes } of readLines(file)) {
    line++;
    const text = new TextDecoder().decode(bytes).trim();
    if (text === '') continue;
    try {
      const row = Object(JSON.parse(text)) as Record<string, unknown>;
      const image = row['file_name'] ?? row['image'];
      if (typeof image !== 'string') throw new Error('no text in "file_name" or "image"');
      const said = (row['text'] ?? row['caption'] ?? row['answer']) as string;
      const { prompt, question } = row as { prompt?: string; question?: string };
      const where = /^(https?|data|file):/i.test(image) ? image : join(dirname(file), image);
      pairs.push({ image: where, text: said, prompt, question, source: `${file} line ${line}` });
    } catch (error) {
      pairs.push(bad(file, line, (error as Error).message));
    }
  }
  return pairs;
}

/** The original's files: NAME.img.tsv (or NAME.tsv) with images, NAME.caption.tsv with a JSON list of captions in each line, of the same key. */
async function tsvPairs(file: string): Promise<Listed[]> {
  const captions = file.replace(/(\.img)?\.tsv$/, '.caption.tsv');
  const rows = await imageRows(file);
  const texts = new Map((await indexTsv(captions)).map((row) => [row.key, row]));
  const pairs: Listed[] = [];
  for (const row of rows) {
    const said = texts.get(row.key);
    try {
      if (said === undefined) throw new Error(`${captions} has no line of this key`);
      const list: unknown = JSON.parse((await readValue(said)).toString('utf8'));
      if (!Array.isArray(list)) throw new Error('the captions are no JSON list');
      const image = imageRow(row).read;
      for (const { caption } of list as { caption: string }[])
        pairs.push({ image, text: caption, source: `${file} line ${row.line}` });
    } catch (error) {
      pairs.push(bad(file, row.line, (error as Error).message));
    }
  }
  return pairs;
}
