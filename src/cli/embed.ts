import { Option } from 'commander';
import type { Embedding, EmbedOptions, ImageInput } from '../node.js';
import type { CliCommand, Context } from './context.js';
import type { Input, InputFlags } from './inputs.js';
import { describeLeftOut, expandInputs } from './inputs.js';
import { exitCode, type ModelFlags, overImages, withModel } from './model.js';

import { addExamples, addFormat, addInputs, addModel } from './options.js';
import type { FormatFlags } from './output.js';
import { formatOf } from './output.js';
import { jsonText } from './terminal.js';

interface EmbedFlags extends ModelFlags, FormatFlags, InputFlags {
  readonly stage: NonNullable<EmbedOptions['stage']>;
  readonly pool: NonNullable<EmbedOptions['pool']>;
}

/** `image2text embed`: lines of JSON, or one JSON value. */
export const embedCommand: CliCommand = {
  name: 'embed',
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
  run,
};

async function run(names: readonly string[], flags: EmbedFlags, context: Context): Promise<number> {
  const list = await expandInputs(names, context, flags);
  const { inputs, several } = list;
  const { stage, pool } = flags;
  const format = formatOf(flags, 'jsonl');
  let opened = false; // an array is written as it grows: features of many images are too large to keep
  const deliver = async ({ name: file }: Input, { shape, data }: Embedding): Promise<void> => {
    const text = jsonText({ file, stage, pool, shape, data: [...data] });
    if (format !== 'json' || !several) return context.stdout(text);
    await context.write(`${opened ? ',\n' : '[\n'}${text}`);
    opened = true;
  };
  return withModel(flags, context, {}, async (model) => {
    const work = async ([image]: readonly ImageInput[]) => [
      await model.embed(image!, { stage, pool, signal: context.signal }),
    ];
    const failed = await overImages(inputs, { quiet: flags.quiet, work, deliver }, context);
    if (format === 'json' && several) await context.stdout(opened ? '\n]' : '[]');
    const leftOut = describeLeftOut(list);
    if (leftOut !== undefined && flags.quiet !== true) context.stderr(leftOut);
    return exitCode(failed + list.unreadable);
  });
}
