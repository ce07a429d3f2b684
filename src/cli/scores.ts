import { Option } from 'commander';
import type { ClassifyOptions, ClassScore, Embedding, EmbedOptions, Image2Text, VisualInput } from '../node.js';
import { type CliCommand, type Context, EXIT, UsageError } from './context.js';
import {
  expandInputs,
  type Input,
  type InputFlags,
  type InputList,
  oneImage,
  readStdinLines,
  readTexts,
  reportLeftOut,
} from './inputs.js';
import { exitCode, type ModelFlags, overImages, withModel } from './model.js';
import { addExamples, addFormat, addInputs, addModel, integer } from './options.js';
import { type FormatFlags, formatOf } from './output.js';
import { jsonText, plain } from './terminal.js';

interface ClassifyFlags extends ModelFlags, FormatFlags, InputFlags {
  readonly labels: string;
  readonly top?: number;
  readonly method: 'exact' | 'greedy';
  readonly prompt?: string;
}

/** `image2text classify`. */
export const classifyCommand: CliCommand = {
  name: 'classify',
  takesImages: true,
  describe(command) {
    command
      .description('Say which of the given names fits each image best.')
      .argument('<files...>', 'images, URLs, folders, globs; - for stdin')
      .requiredOption('--labels <names>', 'a file with a name on each line, or names with commas between them')
      .option('--top <n>', 'with --method exact: how many names to show; default 5', integer(1, 1_000_000))
      .addOption(
        new Option('--method <how>', 'score every name, or walk to one as the original does')
          .choices(['exact', 'greedy'])
          .default('exact'),
      )
      .option('--prompt <text>', 'text before the name');
    addModel(addFormat(addInputs(command)));
    addExamples(
      command,
      'image2text classify --labels "a mug,a book,a sign" photo.jpg',
      'image2text classify --labels imagenet.txt --top 3 images/ --jsonl',
    );
  },
  run: runClassify,
};

async function runClassify(names: readonly string[], flags: ClassifyFlags, context: Context): Promise<number> {
  if (flags.top !== undefined && flags.method === 'greedy') {
    throw new UsageError('--top is for --method exact: greedy finds one name');
  }
  const labels = await readLabels(flags, context);
  const list = await expandInputs(names, context, flags);
  const { several } = list;
  const options: ClassifyOptions = {
    ...(flags.top === undefined ? {} : { topK: flags.top }),
    method: flags.method,
    ...(flags.prompt === undefined ? {} : { prompt: flags.prompt }),
    signal: context.signal,
  };
  const format = formatOf(flags);
  const shown: object[] = [];
  const deliver = async ({ name: file }: Input, found: readonly ClassScore[]): Promise<void> => {
    if (format === 'json') shown.push({ file, labels: found });
    else if (format === 'jsonl') await context.stdout(jsonText({ file, labels: found }));
    else for (const score of found) await context.stdout((several ? `${plain(file)}\t` : '') + asText(score));
  };
  const end = async (): Promise<void> => {
    const [first] = shown;
    if (format === 'json' && several) await context.stdout(jsonText(shown, 2));
    else if (first !== undefined) await context.stdout(jsonText(first, 2));
  };
  return overEach(list, flags, context, (model, image) => model.classify(image, labels, options), deliver, end);
}

/** Runs `work` on each image; `deliver` receives each result, and `end` is called after the last. */
const overEach = <T>(
  list: InputList,
  flags: ModelFlags,
  context: Context,
  work: (model: Image2Text, image: VisualInput) => Promise<T>,
  deliver: (input: Input, result: T) => Promise<void>,
  end: () => Promise<void>,
): Promise<number> =>
  withModel(flags, context, {}, async (model) => {
    const one = async ([image]: readonly VisualInput[]) => [await work(model, image!)];
    const failed = await overImages(list.inputs, { quiet: flags.quiet, work: one, deliver }, context);
    await end();
    reportLeftOut(list, flags, context);
    return exitCode(failed + list.unreadable);
  });

const asText = ({ label, probability }: ClassScore): string => `${probability.toFixed(4)}\t${plain(label)}`;

/** Names from a file or the command line; a repeated one counts once. */
async function readLabels({ labels, quiet }: ClassifyFlags, { stderr }: Context): Promise<string[]> {
  const all = await readTexts(labels, '--labels');
  const names = [...new Set(all)];
  const repeated = all.length - names.length;
  if (repeated > 0 && quiet !== true) {
    stderr(`image2text: --labels: left out ${repeated} of ${all.length} names, which repeat others`);
  }
  return names;
}

interface ScoreFlags extends ModelFlags, FormatFlags {
  readonly prompt?: string;
}

/** `image2text score`: texts in the order given, each behind its log-likelihood and its confidence. */
export const scoreCommand: CliCommand = {
  name: 'score',
  takesImages: true,
  describe(command) {
    command
      .description('Say how likely each text is as the caption of an image: its log-likelihood.')
      .argument('<image>', 'a file or URL; - for stdin')
      .argument('[texts...]', 'without any: reads stdin, a text a line')
      .option('--prompt <text>', 'text before each of them');
    addModel(addFormat(command));
    addExamples(
      command,
      'image2text score mug.jpg "a blue mug" "a red book"',
      'image2text score mug.jpg --jsonl < captions.txt',
    );
  },
  run: runScore,
};

async function runScore([name, ...given]: readonly string[], flags: ScoreFlags, context: Context): Promise<number> {
  const input = await oneImage(name, context);
  if (given.length === 0 && name === '-')
    throw new UsageError('stdin is the image: give the texts on the command line');
  const texts = given.length > 0 ? given : await readStdinLines(context);
  if (texts.length === 0) throw new UsageError('no text, neither on the command line nor on stdin');
  const options = { ...(flags.prompt === undefined ? {} : { prompt: flags.prompt }), signal: context.signal };
  const format = formatOf(flags);
  return withModel(flags, context, {}, async (model) => {
    const scores = await model.score(await input.read(), texts, options);
    const fields = scores.map((score) => ({ file: input.name, ...score }));
    if (format === 'json') await context.stdout(jsonText(fields.length === 1 ? fields[0] : fields, 2));
    else if (format === 'jsonl') for (const each of fields) await context.stdout(jsonText(each));
    else {
      for (const { text, logProb, confidence } of scores) {
        await context.stdout(`${logProb.toFixed(4)}\t${confidence.toFixed(4)}\t${plain(text)}`);
      }
    }
    return EXIT.done;
  });
}

interface EmbedFlags extends ModelFlags, FormatFlags, InputFlags {
  readonly stage: NonNullable<EmbedOptions['stage']>;
  readonly pool: NonNullable<EmbedOptions['pool']>;
}

/** `image2text embed`: lines of JSON, or one JSON value. */
export const embedCommand: CliCommand = {
  name: 'embed',
  takesImages: true,
  describe(command) {
    command
      .description('Write the features of each image as JSON: what the vision tower makes of it.')
      .argument('<files...>', 'images, URLs, folders, globs; - for stdin')
      .addOption(
        new Option('--stage <name>', 'after the vision tower, or as the text decoder receives it')
          .choices(['vision', 'projected'])
          .default('vision'),
      )
      .addOption(
        new Option('--pool <how>', "one vector: the mean of all tokens or the class token's; or none: all of them")
          .choices(['mean', 'class', 'none'])
          .default('mean'),
      );
    addModel(addFormat(addInputs(command)));
    addExamples(command, 'image2text embed photo.jpg --json', 'image2text embed images/ > features.jsonl');
  },
  run: runEmbed,
};

async function runEmbed(names: readonly string[], flags: EmbedFlags, context: Context): Promise<number> {
  const list = await expandInputs(names, context, flags);
  const { several } = list;
  const { stage, pool } = flags;
  const format = formatOf(flags, 'jsonl');
  let opened = false; // an array is written as it grows: features of many images are too large to keep
  const deliver = async ({ name: file }: Input, { shape, data }: Embedding): Promise<void> => {
    const text = jsonText({ file, stage, pool, shape, data: [...data] });
    if (format !== 'json' || !several) return context.stdout(text);
    await context.write(`${opened ? ',\n' : '[\n'}${text}`);
    opened = true;
  };
  const end = async (): Promise<void> => {
    if (format === 'json' && several) await context.stdout(opened ? '\n]' : '[]');
  };
  const options = { stage, pool, signal: context.signal };
  return overEach(list, flags, context, (model, image) => model.embed(image, options), deliver, end);
}
