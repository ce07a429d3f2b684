import type { Answer } from '../../node.js';
import type { Context } from '../context.js';
import { converse } from '../converse.js';
import type { DecodingFlags } from '../decoding.js';
import { canStream, checkAlternatives, decodingOptions } from '../decoding.js';
import type { Input } from '../inputs.js';
import { expandInputs } from '../inputs.js';
import type { ModelFlags } from '../model.js';
import { withModel } from '../model.js';
import { EXIT, UsageError } from '../report.js';
import type { FormatFlags } from '../results.js';
import { answerFields, formatOf } from '../results.js';
import { readStdinLines } from '../stdin.js';
import { plain } from '../terminal.js';
import { answerTsvFiles } from './answer-tsv.js';

export interface AnswerFlags extends ModelFlags, DecodingFlags, FormatFlags {
  readonly batch: number;
  readonly tsv?: string;
  readonly questionsTsv?: string;
  readonly output?: string;
  readonly skipExisting?: boolean;
}

/** `image2text answer`: questions from the command line, from stdin, from a TSV file, or from whoever sits at the terminal. */
export async function answerCommand(
  [name, ...questions]: readonly string[],
  flags: AnswerFlags,
  context: Context,
): Promise<number> {
  if (flags.tsv !== undefined || flags.questionsTsv !== undefined) {
    if (name !== undefined) throw new UsageError('give --tsv and --questions-tsv, or an image, not both');
    return answerTsvFiles(flags, context);
  }
  if (flags.output !== undefined || flags.skipExisting === true) {
    throw new UsageError('--output and --skip-existing are for --tsv');
  }
  checkAlternatives(flags, formatOf(flags));
  const input = await oneImage(name, context);
  if (questions.length > 0) return answerAll(input, questions, flags, context);
  if (name === '-') throw new UsageError('stdin is the image: give the questions on the command line');
  if (context.terminal.stdin.isTTY === true) return converse(input, flags, context);
  const lines = await readStdinLines(context);
  if (lines.length === 0) throw new UsageError('no question, neither on the command line nor on stdin');
  return answerAll(input, lines, flags, context);
}

/**
 * The one image that a command is about.
 *
 * @throws UsageError where there is none or more.
 */
export async function oneImage(name: string | undefined, context: Context): Promise<Input> {
  const { inputs, several } = await expandInputs(name === undefined ? [] : [name], context);
  if (several) throw new UsageError(`${name}: name one image, not a folder or glob`);
  return inputs[0]!;
}

async function answerAll(
  input: Input,
  questions: readonly string[],
  flags: AnswerFlags,
  context: Context,
): Promise<number> {
  const options = { ...decodingOptions(flags), batchSize: flags.batch, signal: context.signal };
  const format = formatOf(flags);
  return withModel(flags, context, async (model) => {
    const [question] = questions;
    if (format === 'text' && questions.length === 1 && context.terminal.stdout.isTTY === true && canStream(options)) {
      const { batchSize: _, ...rest } = options;
      const pieces = model.stream(await input.read(), { ...rest, question } as Parameters<typeof model.stream>[1]);
      for await (const piece of pieces) await context.write(plain(piece));
      await context.print('');
      return EXIT.done;
    }
    await showAnswers(input.name, await model.answer(await input.read(), questions, options), format, context);
    return EXIT.done;
  });
}

/** Answers on stdout: alone for one question, else each behind its question. */
export async function showAnswers(
  file: string,
  answers: readonly Answer[],
  format: ReturnType<typeof formatOf>,
  context: Context,
): Promise<void> {
  const fields = answers.map((answer) => ({ file, ...answerFields(answer) }));
  if (format === 'json') await context.print(JSON.stringify(fields.length === 1 ? fields[0] : fields, undefined, 2));
  else if (format === 'jsonl') for (const each of fields) await context.print(JSON.stringify(each));
  else if (answers.length === 1) await context.print(plain(answers[0]!.text));
  else for (const { question, text } of answers) await context.print(`${plain(question)}\t${plain(text)}`);
}
