import type { Answer, Image2Text, ImageInput } from '../../node.js';
import type { Context } from '../context.js';
import { checkAlternatives, decodingOptions } from '../decoding.js';
import type { Input } from '../inputs.js';
import type { LineFile } from '../line-file.js';
import { openLineFile } from '../line-file.js';
import { withModel } from '../model.js';
import { exitCode, overImages } from '../over-images.js';
import type { Question } from '../question-tsv.js';
import { pairQuestions, readQuestions } from '../question-tsv.js';
import { UsageError } from '../report.js';
import { answerFields, answerRule, answerTsv, fileFormat, formatOf, imagesText } from '../results.js';
import type { TsvRow } from '../tsv.js';
import { imageRow } from '../tsv.js';
import type { AnswerFlags } from './answer.js';

/** An image with its questions, as a TSV file pairs them. */
interface Asked extends Input {
  readonly questions: TsvRow;
}

/** The answers of one image. */
type Replies = readonly { readonly id: unknown; readonly answer: Answer }[];

/** `image2text answer --tsv IMAGES --questions-tsv QUESTIONS`: every image is encoded once for its questions. */
export async function answerTsvFiles(flags: AnswerFlags, context: Context): Promise<number> {
  const { tsv, questionsTsv, output } = flags;
  if (tsv === undefined || questionsTsv === undefined) throw new UsageError('--tsv and --questions-tsv go together');
  if (flags.skipExisting === true && output === undefined) throw new UsageError('--skip-existing is for --output');
  const options = decodingOptions(flags);
  const format = output === undefined ? formatOf(flags, 'tsv') : fileFormat(output, flags);
  if (format === 'json') throw new UsageError('answers to a TSV file are lines: use --jsonl');
  checkAlternatives(flags, format);
  const inputs: Asked[] = (await pairQuestions(tsv, questionsTsv)).map(([row, questions]) => ({
    ...imageRow(row),
    questions,
  }));
  const code = answerRule(format === 'jsonl' ? 'jsonl' : 'tsv');
  const lines = output === undefined ? undefined : await openLineFile(output, code, flags.skipExisting === true);
  const lineOf = (file: string, { id, answer }: Replies[number]): string =>
    format === 'jsonl'
      ? JSON.stringify({ file, question_id: id, ...answerFields(answer) })
      : answerTsv(answer.text, id);
  try {
    return await withModel(flags, context, async (model) => {
      const reply = async ([image]: readonly ImageInput[], [input]: readonly Asked[]): Promise<readonly Replies[]> => {
        const questions = (await readQuestions(input!.questions)).filter(({ id }) => !isThere(lines, id));
        return [await ask(model, image!, questions, { ...options, batchSize: flags.batch, signal: context.signal })];
      };
      const deliver = async (input: Asked, replies: Replies): Promise<void> => {
        const written = replies.map((one) => lineOf(input.name, one));
        if (lines !== undefined) await lines.append(written);
        else for (const line of written) await context.print(line);
      };
      const failed = await overImages(inputs, { quiet: flags.quiet, work: reply, deliver }, context);
      if (lines !== undefined && flags.quiet !== true) context.tell(`${imagesText(inputs.length)}: ${failed} failed`);
      return exitCode(failed);
    });
  } finally {
    await lines?.close();
  }
}

const isThere = (lines: LineFile | undefined, id: unknown): boolean => lines?.claim(JSON.stringify(id)) === true;

async function ask(
  model: Image2Text,
  image: ImageInput,
  questions: readonly Question[],
  options: Parameters<Image2Text['answer']>[2],
): Promise<Replies> {
  if (questions.length === 0) return [];
  const texts = questions.map(({ question }) => question);
  const answers = (await model.answer(image, texts, options)) as Answer[];
  return answers.map((answer, n) => ({ id: questions[n]!.id, answer }));
}
