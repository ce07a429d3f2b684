import type { CliCommand, Context } from './context.js';
import { EXIT, UsageError } from './context.js';
import { oneImage, readStdinLines } from './inputs.js';
import type { ModelFlags } from './model.js';
import { withModel } from './model.js';
import { addExamples, addFormat, addModel } from './options.js';
import type { FormatFlags } from './output.js';
import { formatOf } from './output.js';
import { jsonText, plain } from './terminal.js';

interface ScoreFlags extends ModelFlags, FormatFlags {
  readonly prompt?: string;
}

/** `image2text score`: texts in the order given, each behind its log-likelihood and its confidence. */
export const scoreCommand: CliCommand = {
  name: 'score',
  describe(command) {
    command
      .description('Say how likely each text is as the caption of an image: its log-likelihood.')
      .argument('<image>', 'a file or URL; - for stdin')
      .argument('[texts...]', 'without any: reads stdin, a text a line')
      .option('--prompt <text>', 'text before each of them');
    addModel(addFormat(command));
    addExamples(
      command,
      'image2text score mug.jpg "a blue mug" "a red book"',
      'image2text score mug.jpg --jsonl < captions.txt',
    );
  },
  run,
};

async function run([name, ...given]: readonly string[], flags: ScoreFlags, context: Context): Promise<number> {
  const input = await oneImage(name, context);
  if (given.length === 0 && name === '-')
    throw new UsageError('stdin is the image: give the texts on the command line');
  const texts = given.length > 0 ? given : await readStdinLines(context);
  if (texts.length === 0) throw new UsageError('no text, neither on the command line nor on stdin');
  const options = { ...(flags.prompt === undefined ? {} : { prompt: flags.prompt }), signal: context.signal };
  const format = formatOf(flags);
  return withModel(flags, context, {}, async (model) => {
    const scores = await model.score(await input.read(), texts, options);
    const fields = scores.map((score) => ({ file: input.name, ...score }));
    if (format === 'json') await context.stdout(jsonText(fields.length === 1 ? fields[0] : fields, 2));
    else if (format === 'jsonl') for (const each of fields) await context.stdout(jsonText(each));
    else {
      for (const { text, logProb, confidence } of scores) {
        await context.stdout(`${logProb.toFixed(4)}\t${confidence.toFixed(4)}\t${plain(text)}`);
      }
    }
    return EXIT.done;
  });
}
