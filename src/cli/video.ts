import { stat } from 'node:fs/promises';
import type { Answer, Caption, ImageInput, VideoInput, VideoSource, VisualInput } from '../node.js';
import type { CliCommand, Context } from './context.js';
import { UsageError } from './context.js';
import type { Input } from './inputs.js';
import { expandInputs } from './inputs.js';
import { exitCode, type ModelFlags, overImages, withModel } from './model.js';

import type { GenerationFlags } from './options.js';
import { addExamples, addFormat, addGeneration, addModel, checkAlternatives, generationOptionsOf } from './options.js';
import type { FormatFlags } from './output.js';
import { answerFields, captionFields, formatOf } from './output.js';
import { jsonText, plain } from './terminal.js';

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

/**
 * The videos that names stand for. Several still images are the frames of one video, in the order given; those of a glob are sorted as
 * people count (frame-2 before frame-10).
 *
 * @throws UsageError for a mixture of videos and still images.
 */
export async function listVideos(names: readonly string[], context: Context): Promise<readonly NamedVideo[]> {
  const inputs: Input<ImageInput>[] = [];
  for (const name of names) {
    const isGlob = /[*?[{]/.test(name) && (await stat(name).catch(() => undefined)) === undefined;
    if (isGlob) {
      const found = await expandInputs([name], context);
      inputs.push(...found.inputs.toSorted((a, b) => asPeopleCount(a.name, b.name)));
    } else if (name === '-') inputs.push(...(await expandInputs([name], context)).inputs);
    else inputs.push({ name, read: async () => name });
  }
  const stills = inputs.filter(({ name }) => name === 'stdin' || STILL.test(name));
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
