import type { VideoInput, VideoSource } from '../../node.js';
import type { Context } from '../context.js';
import type { DecodingFlags } from '../decoding.js';
import { checkAlternatives, decodingOptions } from '../decoding.js';
import { expandInputs } from '../inputs.js';
import type { ModelFlags } from '../model.js';
import { withModel } from '../model.js';
import { EXIT, UsageError } from '../report.js';
import type { FormatFlags } from '../results.js';
import { captionFields, formatOf } from '../results.js';
import { plain } from '../terminal.js';
import { showAnswers } from './answer.js';

interface VideoFlags extends ModelFlags, DecodingFlags, FormatFlags {
  readonly question?: readonly string[];
  readonly prompt?: string;
}

/** `image2text video`: one file or folder, or the frames of one video. */
export async function videoCommand(names: readonly string[], flags: VideoFlags, context: Context): Promise<number> {
  const { question: questions, prompt } = flags;
  if (questions !== undefined && prompt !== undefined) throw new UsageError('give --question or --prompt, not both');
  const options = { ...decodingOptions(flags), signal: context.signal };
  const format = formatOf(flags);
  checkAlternatives(flags, format);
  const video = await openVideo(names, context);
  const file = names.length === 1 ? names[0]! : `${names[0]} and ${names.length - 1} more`;
  return withModel(flags, context, async (model) => {
    if (questions !== undefined) {
      await showAnswers(file, await model.answer(video, questions, options), format, context);
      return EXIT.done;
    }
    const said = await model.caption(video, prompt === undefined ? options : { ...options, prompt });
    if (format === 'text') await context.print(plain(said.text));
    else {
      await context.print(
        JSON.stringify({ file, ...captionFields(said) }, undefined, format === 'json' ? 2 : undefined),
      );
    }
    return EXIT.done;
  });
}

/** One name goes to the library as it is; several, or those of a glob, are frames. Numbers in names of a glob count as numbers. */
export async function openVideo(names: readonly string[], context: Context): Promise<VideoInput> {
  const [name] = names;
  const { frames, video } = await import('../../node.js');
  if (names.length === 1 && name !== '-' && !/[*?[{]/.test(name!)) return video(name!);
  const { inputs, several } = await expandInputs(names, context);
  const images = await Promise.all(
    (names.length === 1 ? inputs.toSorted((a, b) => byNumber.compare(a.name, b.name)) : inputs).map(({ read }) =>
      read(),
    ),
  );
  if (!several) return video(images[0] as VideoSource);
  return frames(images);
}

const byNumber = new Intl.Collator('en', { numeric: true });
