import type { Caption, CaptionOptions, CaptionStreamOptions, Image2Text, ImageInput } from '../../node.js';
import type { CaptionStore, StoreFlags } from '../caption-store.js';
import { captionLine, openCaptionStore } from '../caption-store.js';
import type { Context } from '../context.js';
import type { DecodingFlags } from '../decoding.js';
import { canStream, checkAlternatives, decodingOptions } from '../decoding.js';
import type { Input, InputList } from '../inputs.js';
import { expandInputs } from '../inputs.js';
import type { ModelFlags } from '../model.js';
import { withModel } from '../model.js';
import { exitCode, overImages } from '../over-images.js';
import { EXIT, UsageError } from '../report.js';
import { captionFields, fileFormat, formatOf, imagesText } from '../results.js';
import { plain } from '../terminal.js';
import { imageRow, imageRows } from '../tsv.js';

export interface CaptionFlags extends ModelFlags, DecodingFlags, StoreFlags {
  readonly prompt?: string;
  readonly batch: number;
  readonly recursive?: boolean;
  readonly tsv?: string;
  readonly prefix?: string;
  readonly suffix?: string;
}

/** `image2text caption`. One image that fails is reported and the others are done; the exit code is then 1. */
export async function captionCommand(names: readonly string[], flags: CaptionFlags, context: Context): Promise<number> {
  const options = {
    ...decodingOptions(flags),
    ...(flags.prompt === undefined ? {} : { prompt: flags.prompt }),
    signal: context.signal,
  };
  checkAlternatives(flags, flags.output === undefined ? formatOf(flags) : fileFormat(flags.output, flags));
  const stored = flags.sidecar !== undefined || flags.output !== undefined;
  if (flags.skipExisting === true && !stored) throw new UsageError('--skip-existing is for --sidecar and --output');
  const list = await listInputs(names, flags, context);
  return stored ? captionToFiles(list, flags, options, context) : captionToStdout(list, flags, options, context);
}

async function listInputs(names: readonly string[], flags: CaptionFlags, context: Context): Promise<InputList> {
  if (flags.tsv === undefined) return expandInputs(names, context, flags.recursive);
  if (names.length > 0) throw new UsageError('give --tsv or images, not both');
  return { inputs: (await imageRows(flags.tsv)).map(imageRow), several: true };
}

async function captionToStdout(
  { inputs, several }: InputList,
  flags: CaptionFlags,
  options: CaptionOptions,
  context: Context,
): Promise<number> {
  const format = formatOf(flags);
  const streams = format === 'text' && !several && context.terminal.stdout.isTTY === true && canStream(options);
  const shown: object[] = [];
  const deliver = async ({ name }: Input, caption: Caption): Promise<void> => {
    if (format === 'json') shown.push({ file: name, ...captionFields(caption) });
    else if (format !== 'text') await context.print(captionLine(name, caption, format));
    else await context.print(`${several ? `${plain(name)}\t` : ''}${plain(caption.text)}`);
  };
  return withModel(flags, context, async (model) => {
    if (streams) return streamCaption(model, inputs[0]!, flags, options, context);
    const failed = await overImages(inputs, captionJob(model, flags, options, deliver), context);
    const [first] = shown;
    if (format === 'json' && several) await context.print(JSON.stringify(shown, undefined, 2));
    else if (first !== undefined) await context.print(JSON.stringify(first, undefined, 2));
    return exitCode(failed);
  });
}

async function captionToFiles(
  { inputs }: InputList,
  flags: CaptionFlags,
  options: CaptionOptions,
  context: Context,
): Promise<number> {
  const store = await openCaptionStore(inputs, flags);
  try {
    const failed = await captionMissing(store, flags, options, context);
    if (flags.quiet !== true) {
      const [all, todo] = [inputs.length, store.missing.length];
      context.tell(`${imagesText(all)}: ${todo - failed} done, ${all - todo} there already, ${failed} failed`);
    }
    return exitCode(failed);
  } finally {
    await store.close();
  }
}

/** Resolves to how many failed. Where nothing is missing, no model is loaded. */
async function captionMissing(
  { missing, put }: CaptionStore,
  flags: CaptionFlags,
  options: CaptionOptions,
  context: Context,
): Promise<number> {
  if (missing.length === 0) return 0;
  return withModel(flags, context, (model) => overImages(missing, captionJob(model, flags, options, put), context));
}

const captionJob = (
  model: Image2Text,
  { batch, quiet, prefix = '', suffix = '' }: CaptionFlags,
  options: CaptionOptions,
  deliver: (input: Input, caption: Caption) => Promise<void>,
) => {
  const between = (caption: Caption): Caption => ({ ...caption, text: prefix + caption.text + suffix });
  return {
    batch,
    quiet,
    work: (images: readonly ImageInput[]) => model.caption(images, { ...options, batchSize: batch }),
    deliver: (input: Input, caption: Caption) =>
      deliver(input, {
        ...between(caption),
        alternatives: caption.alternatives.map(between),
      }),
  };
};

/** Words as they come. */
async function streamCaption(
  model: Image2Text,
  input: Input,
  { prefix = '', suffix = '' }: CaptionFlags,
  options: CaptionOptions,
  context: Context,
): Promise<number> {
  const pieces = model.stream(await input.read(), options as CaptionStreamOptions);
  let lead = prefix;
  for await (const piece of pieces) {
    await context.write(plain(lead + piece));
    lead = '';
  }
  await context.print(plain(lead + suffix));
  return EXIT.done;
}
