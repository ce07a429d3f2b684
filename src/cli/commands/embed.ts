import type { Embedding, EmbedOptions, ImageInput } from '../../node.js';
import type { Context } from '../context.js';
import type { Input } from '../inputs.js';
import { expandInputs } from '../inputs.js';
import type { ModelFlags } from '../model.js';
import { withModel } from '../model.js';
import { exitCode, overImages } from '../over-images.js';
import type { FormatFlags } from '../results.js';
import { formatOf } from '../results.js';

interface EmbedFlags extends ModelFlags, FormatFlags {
  readonly stage: NonNullable<EmbedOptions['stage']>;
  readonly pool: NonNullable<EmbedOptions['pool']>;
  readonly recursive?: boolean;
}

/** `image2text embed`: lines of JSON, or one JSON value. */
export async function embedCommand(names: readonly string[], flags: EmbedFlags, context: Context): Promise<number> {
  const { inputs, several } = await expandInputs(names, context, flags.recursive);
  const { stage, pool } = flags;
  const format = formatOf(flags, 'jsonl');
  let opened = false; // an array is written as it grows: features of many images are too large to keep
  const deliver = async ({ name: file }: Input, { shape, data }: Embedding): Promise<void> => {
    const text = JSON.stringify({ file, stage, pool, shape, data: [...data] });
    if (format !== 'json' || !several) return context.print(text);
    await context.write(`${opened ? ',\n' : '[\n'}${text}`);
    opened = true;
  };
  return withModel(flags, context, async (model) => {
    const work = async ([image]: readonly ImageInput[]) => [
      await model.embed(image!, { stage, pool, signal: context.signal }),
    ];
    const failed = await overImages(inputs, { quiet: flags.quiet, work, deliver }, context);
    if (format === 'json' && several) await context.print(opened ? '\n]' : '[]');
    return exitCode(failed);
  });
}
