import { readFile, stat } from 'node:fs/promises';
import { Image2TextError } from '../../errors.js';
import type { ClassifyOptions, ClassScore } from '../../node.js';
import type { Context } from '../context.js';
import type { Input } from '../inputs.js';
import { expandInputs } from '../inputs.js';
import type { ModelFlags } from '../model.js';
import { withModel } from '../model.js';
import { exitCode, overImages } from '../over-images.js';
import { UsageError } from '../report.js';
import type { FormatFlags } from '../results.js';
import { formatOf } from '../results.js';
import { textLines } from '../stdin.js';
import { plain } from '../terminal.js';

interface ClassifyFlags extends ModelFlags, FormatFlags {
  readonly labels: string;
  readonly top: number;
  readonly method: 'exact' | 'greedy';
  readonly prompt?: string;
  readonly recursive?: boolean;
}

/** `image2text classify`. */
export async function classifyCommand(
  names: readonly string[],
  flags: ClassifyFlags,
  context: Context,
): Promise<number> {
  const labels = await readLabels(flags.labels, (note) => flags.quiet !== true && context.tell(`image2text: ${note}`));
  const { inputs, several } = await expandInputs(names, context, flags.recursive);
  const options: ClassifyOptions = {
    topK: flags.top,
    method: flags.method,
    ...(flags.prompt === undefined ? {} : { prompt: flags.prompt }),
    signal: context.signal,
  };
  const format = formatOf(flags);
  const shown: object[] = [];
  const deliver = async ({ name: file }: Input, found: readonly ClassScore[]): Promise<void> => {
    if (format === 'json') shown.push({ file, labels: found });
    else if (format === 'jsonl') await context.print(JSON.stringify({ file, labels: found }));
    else for (const score of found) await context.print((several ? `${plain(file)}\t` : '') + asText(score));
  };
  return withModel(flags, context, async (model) => {
    const work = async ([image]: readonly Parameters<typeof model.classify>[0][]) => [
      await model.classify(image!, labels, options),
    ];
    const failed = await overImages(inputs, { quiet: flags.quiet, work, deliver }, context);
    const [first] = shown;
    if (format === 'json' && several) await context.print(JSON.stringify(shown, undefined, 2));
    else if (first !== undefined) await context.print(JSON.stringify(first, undefined, 2));
    return exitCode(failed);
  });
}

const asText = ({ label, probability }: ClassScore): string => `${probability.toFixed(4)}\t${plain(label)}`;

const MOST_BYTES = 64 * 2 ** 20;

/**
 * Names from a file, one on each line, or from the command line, with commas between them; a repeated one counts once.
 *
 * @throws UsageError where there is none; Image2TextError for a file that is not UTF-8.
 */
async function readLabels(given: string, note: (line: string) => void): Promise<string[]> {
  if (given.trim() === '') throw new UsageError('--labels is empty: name a file, or names with commas between them');
  const found = await stat(given).catch(() => undefined);
  if (found?.isFile() !== true && /[/\\]|\.\w+$/.test(given))
    throw new UsageError(`--labels ${given}: there is no such file`);
  if (found?.isFile() === true && found.size > MOST_BYTES)
    throw new UsageError(`--labels ${given}: more than ${MOST_BYTES} bytes`);
  const all = textLines(found?.isFile() === true ? await readText(given) : given.replaceAll(',', '\n'));
  const labels = [...new Set(all)];
  if (labels.length === 0) throw new UsageError(`--labels ${given}: no name there`);
  const repeated = all.length - labels.length;
  if (repeated > 0) note(`--labels: left out ${repeated} of ${all.length} names, which repeat others`);
  return labels;
}

async function readText(file: string): Promise<string> {
  const bytes = await readFile(file);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new Image2TextError({ file, code: 'not-utf8', detail: 'names are text in UTF-8, one on each line', cause });
  }
}
