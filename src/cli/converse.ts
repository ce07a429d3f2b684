import { createInterface } from 'node:readline';
import type { CaptionStreamOptions, Image2Text, ImageInput } from '../node.js';
import type { AnswerFlags } from './commands/answer.js';
import type { Context } from './context.js';
import { canStream, decodingOptions } from './decoding.js';
import type { Input } from './inputs.js';
import { fileOf } from './inputs.js';
import { withModel } from './model.js';
import { EXIT } from './report.js';
import { plain } from './terminal.js';

/**
 * Asks again and again about one image. Questions are asked on stderr, so that stdout has the answers alone; words appear as they are
 * found where decoding allows it. An empty line or the end of input ends it.
 */
export async function converse(input: Input, flags: AnswerFlags, context: Context): Promise<number> {
  const options = { ...decodingOptions(flags, 'greedy'), signal: context.signal };
  return withModel(flags, context, async (model) => {
    const image = await model.encode(await opened(input), { signal: context.signal }); // encoded once, however long the talk
    context.tell(`Ask about ${input.name}. An empty line ends.`);
    const lines = createInterface({
      input: context.terminal.stdin,
      output: context.terminal.stderr,
      prompt: '> ',
      terminal: context.terminal.stderr.isTTY === true,
      signal: context.signal,
    });
    lines.on('SIGINT', () => process.emit('SIGINT')); // a terminal in raw mode gives Ctrl-C to readline
    try {
      lines.prompt();
      for await (const line of lines) {
        if (line.trim() === '') break;
        await reply(model, image, line, options, flags.json === true || flags.jsonl === true, context);
        lines.prompt();
      }
    } finally {
      lines.close();
      image.dispose();
    }
    context.signal.throwIfAborted();
    return EXIT.done;
  });
}

/** A missing file is to be noticed before the first question. */
async function opened(input: Input): Promise<ImageInput> {
  const { openImage } = await import('../node.js');
  const image = await input.read();
  if (typeof image !== 'string') return image;
  const { bytes, file } = await openImage(image);
  return fileOf(bytes, file);
}

async function reply(
  model: Image2Text,
  image: ImageInput,
  question: string,
  options: ReturnType<typeof decodingOptions>,
  json: boolean,
  context: Context,
): Promise<void> {
  if (json) return context.print(JSON.stringify(await model.answer(image, question, options)));
  if (!canStream(options)) return context.print(plain((await model.answer(image, question, options)).text));
  for await (const piece of model.stream(image, { ...(options as CaptionStreamOptions), question })) {
    await context.write(plain(piece));
  }
  await context.print('');
}
