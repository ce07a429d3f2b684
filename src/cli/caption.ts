import { stat } from 'node:fs/promises';
import { Option } from 'commander';
import type {
  Answer,
  Caption,
  CaptionOptions,
  CaptionStreamOptions,
  Image2Text,
  ImageInput,
  VideoInput,
  VideoSource,
  VisualInput,
} from '../node.js';
import { type CliCommand, type Context, UsageError } from './context.js';
import { expandInputs, type Input, type InputFlags, type InputList, inShard, pathOf, reportLeftOut } from './inputs.js';
import { imageRow, imageRows } from './line-files.js';
import { exitCode, type ModelFlags, overImages, withModel } from './model.js';
import {
  addBatch,
  addExamples,
  addFormat,
  addGeneration,
  addInputs,
  addModel,
  canStream,
  checkAlternatives,
  checkEvidence,
  evidenceOf,
  type GenerationFlags,
  generationOptionsOf,
} from './options.js';
import {
  answerFields,
  type CaptionStore,
  captionFields,
  captionLine,
  type FormatFlags,
  fileFormat,
  formatOf,
  imagesText,
  openCaptionStore,
  type StoreFlags,
} from './output.js';
import { jsonText, plain } from './terminal.js';

export type CaptionFlags = ModelFlags &
  GenerationFlags &
  StoreFlags &
  InputFlags & {
    readonly prompt?: string;
    readonly evidence?: boolean;
    readonly batch: number;
    readonly tsv?: string;
    readonly prefix?: string;
    readonly suffix?: string;
  };

/** `image2text caption`. One image that fails is reported and the others are done; the exit code is then 1. */
export const captionCommand: CliCommand = {
  name: 'caption',
  takesImages: true,
  describe(command) {
    command
      .description('Say what is in each image.')
      .argument('[files...]', 'images (PNG, JPEG, WebP, GIF), URLs, folders, globs; - for stdin')
      .option('--prompt <text>', 'text that the caption goes on from')
      .option('--evidence', 'with --json or --jsonl: how much the image changed the probability of every word');
    addBatch(addGeneration(addModel(addFormat(command))), 'images', 1);
    addInputs(command.optionsGroup('Datasets:'))
      .option('--tsv <file>', "images in the original project's format: lines of a key, a tab and the file in base64")
      .option('--prefix <text>', 'put before every caption')
      .option('--suffix <text>', 'put after every caption')
      .option('--sidecar <ending>', 'write each caption beside its image: photo.jpg with .txt gives photo.txt')
      .option('--output <file>', 'write lines there instead of to stdout: .jsonl, or .tsv as the original writes them')
      .option(
        '--skip-existing',
        'go on where an earlier run ended: what is in --sidecar and --output stays and is left out',
      )
      .addOption(
        new Option('--overwrite', 'write files of --sidecar and --output anew that are there already').conflicts(
          'skipExisting',
        ),
      )
      .addOption(
        new Option('--as-tsv', 'lines as the original writes them: key, tab, [{"caption":…}]').conflicts([
          'json',
          'jsonl',
        ]),
      );
    addExamples(
      command,
      'image2text caption photo.jpg',
      'image2text caption photo.jpg --strategy greedy',
      'image2text caption holiday/ --jsonl > captions.jsonl',
      'image2text caption shop.png --model ./git-base-textcaps --json',
      'image2text caption dataset/ --recursive --sidecar .txt --prefix "a photo of " --skip-existing',
      'image2text caption dataset/ --recursive --output captions.jsonl --skip-existing',
      'image2text caption --tsv test.img.tsv --output captions.tsv',
      'find . -name "*.jpg" -print0 | image2text caption --files-from -',
      'curl -s https://example.com/cat.jpg | image2text caption -',
    );
  },
  async run(names, flags: CaptionFlags, context) {
    const options = {
      ...(await generationOptionsOf(flags)),
      ...(flags.prompt === undefined ? {} : { prompt: flags.prompt }),
      ...evidenceOf(flags),
      signal: context.signal,
    };
    const format = flags.output === undefined ? formatOf(flags) : fileFormat(flags.output, flags);
    checkAlternatives(flags, format);
    checkEvidence(flags, format);
    const stored = flags.sidecar !== undefined || flags.output !== undefined;
    for (const [flag, given] of [
      ['--skip-existing', flags.skipExisting],
      ['--overwrite', flags.overwrite],
    ] as const) {
      if (given === true && !stored) throw new UsageError(`${flag} is for --sidecar and --output`);
    }
    const list = await listInputs(names, flags, context);
    const failed = stored
      ? await captionToFiles(list, flags, options, context)
      : await captionToStdout(list, flags, options, context);
    reportLeftOut(list, flags, context);
    return exitCode(failed + list.unreadable);
  },
};

async function listInputs(names: readonly string[], flags: CaptionFlags, context: Context): Promise<InputList> {
  if (flags.tsv === undefined) {
    const list = await expandInputs(names, context, flags);
    const ownEnding = /\.[^.]*$/.exec(flags.sidecar ?? '')?.[0]; // sidecars of an earlier run are not worth a word
    return { ...list, leftOut: new Map([...list.leftOut].filter(([ending]) => ending !== ownEnding)) };
  }
  if (names.length > 0 || flags.filesFrom !== undefined) throw new UsageError('give --tsv or images, not both');
  const inputs = inShard((await imageRows(flags.tsv)).map(imageRow), flags.shard);
  return { inputs, several: true, leftOut: new Map(), unreadable: 0 };
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
    else if (format !== 'text') await context.stdout(captionLine(name, caption, format));
    else await context.stdout(`${several ? `${plain(name)}\t` : ''}${plain(caption.text)}`);
  };
  const body = async (model: Image2Text): Promise<number> => {
    if (streams) return streamCaption(model, inputs[0]!, flags, options, context);
    const failed = await overImages(inputs, captionJob(model, flags, options, deliver), context);
    const [first] = shown;
    if (format === 'json' && several) await context.stdout(jsonText(shown, 2));
    else if (first !== undefined) await context.stdout(jsonText(first, 2));
    return failed;
  };
  return withModel(flags, context, options, body, inputs.length);
}

/** Captions into `--output` and `--sidecar`; resolves to how many failed. */
export async function captionToFiles(
  { inputs }: { readonly inputs: readonly Input[] },
  flags: CaptionFlags,
  options: CaptionOptions,
  context: Context,
): Promise<number> {
  const store = await openCaptionStore(inputs, flags, context);
  try {
    const failed = await captionMissing(store, flags, options, context);
    if (flags.quiet !== true) {
      const [all, todo] = [inputs.length, store.missing.length];
      context.stderr(`${imagesText(all)}: ${todo - failed} done, ${all - todo} there already, ${failed} failed`);
    }
    return failed;
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
  const resume = 'the same command with --skip-existing goes on';
  const body = (model: Image2Text): Promise<number> =>
    overImages(missing, { ...captionJob(model, flags, options, put), resume }, context);
  return withModel(flags, context, options, body, missing.length);
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
    isAhead: true,
    work: (images: readonly VisualInput[]) =>
      model.caption(images, { ...options, batchSize: batch, onError: 'collect' }),
    deliver: (input: Input, caption: Caption) =>
      deliver(input, { ...between(caption), alternatives: caption.alternatives.map(between) }),
  };
};

/** Words as they come. Resolves to how many failed. */
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
  await context.stdout(plain(lead + suffix));
  return 0;
}

type VideoFlags = ModelFlags &
  GenerationFlags &
  FormatFlags & {
    readonly question?: readonly string[];
    readonly prompt?: string;
  };

/** A video that the command line names. */
export interface NamedVideo {
  readonly name: string;
  read(): Promise<VideoInput>;
}

/** `image2text video`: files and folders, or the frames of one video. One video that fails is reported and the others are done. */
export const videoCommand: CliCommand = {
  name: 'video',
  takesImages: true,
  describe(command) {
    command
      .description('Say what happens in videos, or answer questions about them.')
      .argument(
        '<videos...>',
        'animated GIFs, folders of frames, or what ffmpeg reads; several still images are the frames of one video',
      )
      .option(
        '--question <text>',
        'ask instead of describing; may be given several times',
        (text: string, all: string[] = []) => [...all, text],
      )
      .option('--prompt <text>', 'text that the description goes on from');
    addGeneration(addModel(addFormat(command)));
    addExamples(
      command,
      'image2text video clip.gif',
      'image2text video one.mp4 two.mp4 --jsonl',
      'image2text video frames/ --model microsoft/git-base-vatex',
      'image2text video frame-1.png frame-2.png frame-3.png',
      'image2text video clip.mp4 --question "what is the man doing?"',
    );
  },
  async run(names, flags: VideoFlags, context) {
    const { question: questions, prompt, quiet } = flags;
    if (questions !== undefined && prompt !== undefined) throw new UsageError('give --question or --prompt, not both');
    const options = { ...(await generationOptionsOf(flags)), signal: context.signal };
    const format = formatOf(flags);
    checkAlternatives(flags, format);
    const videos = await listVideos(names, context);
    const shown: object[] = [];
    return withModel(flags, context, options, async (model) => {
      const work = async ([video]: readonly VisualInput[]): Promise<(Caption | Answer)[][]> => {
        if (questions !== undefined) return [await model.answer(video!, questions, options)];
        return [[await model.caption(video!, prompt === undefined ? options : { ...options, prompt })]];
      };
      const deliver = async ({ name: file }: NamedVideo, said: readonly (Caption | Answer)[]): Promise<void> => {
        for (const one of said) {
          const fields = { file, ...('question' in one ? answerFields(one) : captionFields(one)) };
          if (format === 'json') shown.push(fields);
          else if (format === 'jsonl') await context.stdout(jsonText(fields));
          else {
            const before = [
              ...(videos.length > 1 ? [file] : []),
              ...('question' in one && said.length > 1 ? [one.question] : []),
            ];
            await context.stdout([...before, one.text].map(plain).join('\t'));
          }
        }
      };
      const failed = await overImages(videos, { quiet, what: 'videos', work, deliver }, context);
      const single = videos.length === 1 && (questions?.length ?? 1) === 1;
      if (format === 'json' && !single) await context.stdout(jsonText(shown, 2));
      else if (shown[0] !== undefined) await context.stdout(jsonText(shown[0], 2));
      return exitCode(failed);
    });
  },
};

/** What is taken for one frame where several are named. */
const STILL = /\.(png|jpe?g|jpe|jfif|webp|bmp|tiff?|avif)$/i;

/** An AVIF may be a sequence. */
async function isStill(name: string): Promise<boolean> {
  if (!/\.avif$/i.test(name)) return STILL.test(name);
  const { isImage } = await import('../platform/node-videos.js');
  return isImage(pathOf(name)).catch(() => true);
}

/**
 * The videos that names stand for. Several still images are the frames of one video, in the order given; those of a glob are sorted as
 * people count (frame-2 before frame-10).
 *
 * @throws UsageError for a mixture of videos and still images.
 */
export async function listVideos(names: readonly string[], context: Context): Promise<readonly NamedVideo[]> {
  const { fileUrl } = await import('../platform/node-files.js');
  const inputs: Input<ImageInput>[] = [];
  for (const name of names) {
    const path = pathOf(name);
    const isGlob = /[*?[{]/.test(name) && (await stat(path).catch(() => undefined)) === undefined;
    if (isGlob) {
      const found = await expandInputs([name], context);
      inputs.push(...found.inputs.toSorted((a, b) => asPeopleCount(a.name, b.name)));
    } else if (name === '-') inputs.push(...(await expandInputs([name], context)).inputs);
    else inputs.push({ name, read: async () => (typeof path === 'string' ? path : fileUrl(path)) });
  }
  const stills: Input<ImageInput>[] = [];
  for (const input of inputs) if (input.name === 'stdin' || (await isStill(input.name))) stills.push(input);
  const { frames, video } = await import('../node.js');
  if (inputs.length === 1 || stills.length === 0) {
    return inputs.map(({ name, read }) => ({ name, read: async () => video((await read()) as VideoSource) }));
  }
  if (stills.length < inputs.length) {
    const other = inputs.find((input) => !stills.includes(input))!;
    throw new UsageError(
      `${stills[0]!.name} is a still image, ${other.name} is none: name videos, or the frames of one`,
    );
  }
  return [
    {
      name: `${inputs[0]!.name} and ${inputs.length - 1} more`,
      read: async () => frames(await Promise.all(inputs.map((input) => input.read()))),
    },
  ];
}

const { compare } = new Intl.Collator('en', { numeric: true });
const asPeopleCount = (a: string, b: string): number => compare(a, b) || (a < b ? -1 : 1);
