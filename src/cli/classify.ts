import { Option } from 'commander';
import type { ClassifyOptions, ClassScore } from '../node.js';
import type { CliCommand, Context } from './context.js';
import { UsageError } from './context.js';
import type { Input, InputFlags } from './inputs.js';
import { describeLeftOut, expandInputs, readTexts } from './inputs.js';
import { exitCode, type ModelFlags, overImages, withModel } from './model.js';

import { addExamples, addFormat, addInputs, addModel, integer } from './options.js';
import type { FormatFlags } from './output.js';
import { formatOf } from './output.js';
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
  run,
};

async function run(names: readonly string[], flags: ClassifyFlags, context: Context): Promise<number> {
  if (flags.top !== undefined && flags.method === 'greedy') {
    throw new UsageError('--top is for --method exact: greedy finds one name');
  }
  const labels = await readLabels(flags, context);
  const list = await expandInputs(names, context, flags);
  const { inputs, several } = list;
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
  return withModel(flags, context, {}, async (model) => {
    const work = async ([image]: readonly Parameters<typeof model.classify>[0][]) => [
      await model.classify(image!, labels, options),
    ];
    const failed = await overImages(inputs, { quiet: flags.quiet, work, deliver }, context);
    const [first] = shown;
    if (format === 'json' && several) await context.stdout(jsonText(shown, 2));
    else if (first !== undefined) await context.stdout(jsonText(first, 2));
    const leftOut = describeLeftOut(list);
    if (leftOut !== undefined && flags.quiet !== true) context.stderr(leftOut);
    return exitCode(failed + list.unreadable);
  });
}

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
