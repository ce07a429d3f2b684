import { createInterface } from 'node:readline';
import { Option } from 'commander';
import type { Answer, CaptionOptions, CaptionStreamOptions, Image2Text, ImageInput, VisualInput } from '../node.js';
import { type CliCommand, type Context, EXIT, interrupt, UsageError } from './context.js';
import type { Input, Shard } from './inputs.js';
import { fileOf, inShard, oneImage, readStdinLines } from './inputs.js';
import type { Question } from './line-files.js';
import {
  imageRow,
  type LineFile,
  type Lock,
  lockFile,
  openLineFile,
  pairQuestions,
  readQuestions,
} from './line-files.js';
import { exitCode, type ModelFlags, overImages, withModel } from './model.js';
import type { GenerationFlags } from './options.js';
import {
  addBatch,
  addExamples,
  addFormat,
  addGeneration,
  addModel,
  addNote,
  canStream,
  checkAlternatives,
  checkEvidence,
  evidenceOf,
  generationOptionsOf,
  shard,
} from './options.js';
import type { Format, FormatFlags } from './output.js';
import { answerFields, answerRule, answerTsv, fileFormat, formatOf, imagesText, showAnswers } from './output.js';
import { jsonText, plain } from './terminal.js';

export type AnswerFlags = ModelFlags &
  GenerationFlags &
  FormatFlags & {
    readonly batch: number;
    readonly tsv?: string;
    readonly questionsTsv?: string;
    readonly output?: string;
    readonly skipExisting?: boolean;
    readonly overwrite?: boolean;
    readonly shard?: Shard;
    readonly evidence?: boolean;
  };

/** `image2text answer`: questions from the command line, from stdin, from a TSV file, or from whoever sits at the terminal. */
export const answerCommand: CliCommand = {
  name: 'answer',
  takesImages: true,
  describe(command) {
    command
      .description('Answer questions about an image.')
      .argument('[image]', 'a file or URL; - for stdin')
      .argument('[questions...]', 'without any: asks you in a terminal, or reads stdin, a question a line');
    addBatch(addGeneration(addModel(addFormat(command))), 'questions', 8);
    command
      .option('--evidence', 'with --json or --jsonl: how much the image changed the probability of every word')
      .optionsGroup('Datasets:')
      .option('--tsv <file>', "images in the original project's format: lines of a key, a tab and the file in base64")
      .option(
        '--questions-tsv <file>',
        'with --tsv: lines of the same keys, a tab and [{"question":…,"question_id":…}]',
      )
      .option('--output <file>', 'with --tsv: write lines there instead of to stdout: .tsv as the original, or .jsonl')
      .option('--skip-existing', 'with --output: go on where an earlier run ended')
      .addOption(new Option('--overwrite', 'with --output: write the file anew').conflicts('skipExisting'))
      .option('--shard <i/n>', 'with --tsv: only one of n parts of the images, 1/8 to 8/8', shard);
    addExamples(
      command,
      'image2text answer mug.jpg "what color is the mug?"',
      'image2text answer mug.jpg "what color is it?" "what does it say?" --json',
      'image2text answer mug.jpg < questions.txt',
      'image2text answer --tsv test.img.tsv --questions-tsv test.question.tsv --output answers.tsv',
    );
    addNote(command, 'Without a question in a terminal, it asks you, again and again; an empty line ends it.');
  },
  async run([name, ...questions], flags: AnswerFlags, context) {
    if (flags.tsv !== undefined || flags.questionsTsv !== undefined) {
      if (name !== undefined) throw new UsageError('give --tsv and --questions-tsv, or an image, not both');
      return answerTsvFiles(flags, context);
    }
    for (const flag of ['output', 'skipExisting', 'overwrite', 'shard'] as const) {
      if (flags[flag] !== undefined)
        throw new UsageError('--output, --skip-existing, --overwrite and --shard are for --tsv');
    }
    checkAlternatives(flags, formatOf(flags));
    checkEvidence(flags, formatOf(flags));
    const input = await oneImage(name, context);
    if (questions.length > 0) return answerAll(input, questions, flags, context);
    if (name === '-') throw new UsageError('stdin is the image: give the questions on the command line');
    if (context.terminal.stdin.isTTY === true) return converse(input, flags, context);
    const lines = await readStdinLines(context);
    if (lines.length === 0) throw new UsageError('no question, neither on the command line nor on stdin');
    return answerAll(input, lines, flags, context);
  },
};

async function answerAll(
  input: Input,
  questions: readonly string[],
  flags: AnswerFlags,
  context: Context,
): Promise<number> {
  const options = {
    ...{ ...(await generationOptionsOf(flags)), ...evidenceOf(flags) },
    ...{ batchSize: flags.batch, signal: context.signal },
  };
  const format = formatOf(flags);
  return withModel(flags, context, options, async (model) => {
    const [question] = questions;
    if (format === 'text' && questions.length === 1 && context.terminal.stdout.isTTY === true && canStream(options)) {
      const { batchSize: _, ...rest } = options;
      const pieces = model.stream(await input.read(), { ...rest, question } as Parameters<typeof model.stream>[1]);
      for await (const piece of pieces) await context.write(plain(piece));
      await context.stdout('');
      return EXIT.done;
    }
    await showAnswers(input.name, await model.answer(await input.read(), questions, options), format, context);
    return EXIT.done;
  });
}

/**
 * Asks again and again about one image. Questions are asked on stderr, so that stdout has the answers alone; words appear as they are
 * found where decoding allows it. An empty line or the end of input ends it.
 */
async function converse(input: Input<ImageInput>, flags: AnswerFlags, context: Context): Promise<number> {
  const options = { ...(await generationOptionsOf(flags, 'greedy')), ...evidenceOf(flags), signal: context.signal };
  return withModel(flags, context, options, async (model) => {
    const image = await model.encode(await opened(input), { signal: context.signal }); // encoded once, however long the talk
    context.stderr(`Ask about ${input.name}. An empty line ends.`);
    const lines = createInterface({
      input: context.terminal.stdin,
      output: context.terminal.stderr,
      prompt: '> ',
      terminal: context.terminal.stderr.isTTY === true,
      signal: context.signal,
    });
    lines.on('SIGINT', interrupt); // a terminal in raw mode gives Ctrl-C to readline
    try {
      lines.prompt();
      for await (const line of lines) {
        if (line.trim() === '') break;
        await answerLine(model, image, line, options, flags.json === true || flags.jsonl === true, context);
        lines.prompt();
      }
    } finally {
      lines.close();
      image.dispose();
    }
    context.signal.throwIfAborted();
    return EXIT.done;
  });
}

/** A missing file is to be noticed before the first question. */
async function opened(input: Input<ImageInput>): Promise<ImageInput> {
  const { openImage } = await import('../node.js');
  const image = await input.read();
  if (typeof image !== 'string') return image;
  const { bytes, file } = await openImage(image);
  return fileOf(bytes, file);
}

async function answerLine(
  model: Image2Text,
  image: ImageInput,
  question: string,
  options: CaptionOptions,
  json: boolean,
  context: Context,
): Promise<void> {
  if (json) return context.stdout(jsonText(await model.answer(image, question, options)));
  if (!canStream(options)) return context.stdout(plain((await model.answer(image, question, options)).text));
  for await (const piece of model.stream(image, { ...(options as CaptionStreamOptions), question })) {
    await context.write(plain(piece));
  }
  await context.stdout('');
}

/** An image or video with its questions. */
export interface AskedImage extends Input {
  questions(): Promise<readonly Question[]>;
}

/** The answers of one image. */
type Replies = readonly { readonly id: unknown; readonly answer: Answer }[];

/** `image2text answer --tsv IMAGES --questions-tsv QUESTIONS`. */
async function answerTsvFiles(flags: AnswerFlags, context: Context): Promise<number> {
  const { tsv, questionsTsv, output } = flags;
  if (tsv === undefined || questionsTsv === undefined) throw new UsageError('--tsv and --questions-tsv go together');
  if ((flags.skipExisting === true || flags.overwrite === true) && output === undefined) {
    throw new UsageError('--skip-existing and --overwrite are for --output');
  }
  const options = { ...(await generationOptionsOf(flags)), ...evidenceOf(flags) };
  const format = output === undefined ? formatOf(flags, 'tsv') : fileFormat(output, flags);
  if (format === 'json') throw new UsageError('answers to a TSV file are lines: use --jsonl');
  checkAlternatives(flags, format);
  checkEvidence(flags, format);
  const pairs = await pairQuestions(tsv, questionsTsv);
  const all = pairs.map(
    ([row, questions]): AskedImage => ({ ...imageRow(row), questions: () => readQuestions(questions) }),
  );
  return exitCode(await answerToLines(inShard(all, flags.shard), format, flags, options, context));
}

/** Answers as lines of `--output` or of stdout, every image encoded once for its questions; resolves to how many images failed. */
export async function answerToLines(
  inputs: readonly AskedImage[],
  format: Format,
  flags: AnswerFlags,
  options: CaptionOptions,
  context: Context,
): Promise<number> {
  const { output } = flags;
  const lineOf = (file: string, { id, answer }: Replies[number]): string =>
    format === 'jsonl' ? jsonText({ file, question_id: id, ...answerFields(answer) }) : answerTsv(answer.text, id);
  let lock: Lock | undefined;
  let lines: LineFile | undefined;
  try {
    if (output !== undefined) {
      lock = await lockFile(output);
      const rule = answerRule(
        format === 'jsonl' ? 'jsonl' : 'tsv',
        inputs.map(({ name }) => name),
      );
      lines = await openLineFile(output, rule, flags);
    }
    return await withModel(flags, context, options, async (model) => {
      const work = async (
        [image]: readonly VisualInput[],
        [input]: readonly AskedImage[],
      ): Promise<readonly Replies[]> => {
        const questions = (await input!.questions()).filter(({ id }) => !isThere(lines, id));
        return [await ask(model, image!, questions, { ...options, batchSize: flags.batch, signal: context.signal })];
      };
      const deliver = async (input: AskedImage, replies: Replies): Promise<void> => {
        const written = replies.map((one) => lineOf(input.name, one));
        if (lines !== undefined) await lines.append(written);
        else for (const line of written) await context.stdout(line);
      };
      const resume = output === undefined ? undefined : 'the same command with --skip-existing goes on';
      const failed = await overImages(inputs, { quiet: flags.quiet, work, deliver, resume }, context);
      if (lines !== undefined && flags.quiet !== true) context.stderr(`${imagesText(inputs.length)}: ${failed} failed`);
      return failed;
    });
  } finally {
    await lines?.close();
    await lock?.release();
  }
}

const isThere = (lines: LineFile | undefined, id: unknown): boolean => lines?.claim(JSON.stringify(id)) === true;

async function ask(
  model: Image2Text,
  image: VisualInput,
  questions: readonly Question[],
  options: Parameters<Image2Text['answer']>[2],
): Promise<Replies> {
  if (questions.length === 0) return [];
  const texts = questions.map(({ question }) => question);
  const answers = (await model.answer(image, texts, options)) as Answer[];
  return answers.map((answer, n) => ({ id: questions[n]!.id, answer }));
}
