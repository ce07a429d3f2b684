import type { Caption, CaptionOptions } from '../image2text/captions.js';
import { promptIds } from '../image2text/captions.js';
import type { Image2Text } from '../image2text/image2text.js';
import type { VideoSource, VisualInput } from '../image2text/inputs.js';
import { isVideoInput, video } from '../image2text/inputs.js';
import { readOptions, wrongType } from './option-names.js';
import { withStreamer } from './streaming.js';
import type { GeneratedText } from './types.js';
import { WRITING_OPTIONS, writingOptions } from './writing-options.js';

/** A pipeline's work: what it was called with becomes what it returns. */
export type Task = (model: Image2Text, inputs: readonly unknown[]) => Promise<unknown>;

const TEXT_OPTIONS = [...WRITING_OPTIONS, 'prompt'];

/** Images to texts. */
export const imageToText: Task = (model, [images, options]) =>
  writeTexts('image-to-text', model, images, options, (many, given) =>
    model.caption(many as readonly VisualInput[], given),
  );

/** Videos to texts. */
export const videoToText: Task = (model, [videos, options]) =>
  writeTexts('video-to-text', model, videos, options, (many, given) => model.caption(many.map(asVideo), given));

/** Where a task is about videos, whatever is given means one. */
export const asVideo = (source: unknown): VisualInput => (isVideoInput(source) ? source : video(source as VideoSource));

async function writeTexts(
  whose: string,
  model: Image2Text,
  items: unknown,
  options: unknown,
  write: (items: readonly unknown[], options: CaptionOptions) => Promise<Caption[]>,
): Promise<GeneratedText[] | GeneratedText[][]> {
  const given = writingOptions(readOptions(options, TEXT_OPTIONS, whose));
  const { prompt } = given;
  if (prompt !== undefined && typeof prompt !== 'string') wrongType('prompt', 'a text', prompt);
  const many: readonly unknown[] = Array.isArray(items) ? items : [items];
  const captions = await withStreamer(given, many.length, (ready) => write(many, ready));
  const texts = captions.map((best) =>
    [best, ...best.alternatives].map((caption) => ({ generated_text: wholeText(model, prompt, caption) })),
  );
  return Array.isArray(items) ? texts : texts[0]!;
}

/** The text with its prompt, which Python's pipeline gives back too. */
function wholeText({ tokenizer }: Image2Text, prompt: string | undefined, { text, tokens }: Caption): string {
  if (prompt === undefined) return text;
  const ids = [...promptIds(tokenizer, prompt), ...tokens.map(({ id }) => id)];
  return tokenizer
    .decode(
      ids.filter((id) => id < tokenizer.vocabSize),
      { skipSpecialTokens: true },
    )
    .trim();
}
