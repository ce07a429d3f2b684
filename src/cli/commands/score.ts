import type { Context } from '../context.js';
import type { ModelFlags } from '../model.js';
import { withModel } from '../model.js';
import { EXIT, UsageError } from '../report.js';
import type { FormatFlags } from '../results.js';
import { formatOf } from '../results.js';
import { readStdinLines } from '../stdin.js';
import { plain } from '../terminal.js';
import { oneImage } from './answer.js';

interface ScoreFlags extends ModelFlags, FormatFlags {
  readonly prompt?: string;
}

/** `image2text score`: texts in the order given, each behind its log-likelihood and its confidence. */
export async function scoreCommand(
  [name, ...given]: readonly string[],
  flags: ScoreFlags,
  context: Context,
): Promise<number> {
  const input = await oneImage(name, context);
  if (given.length === 0 && name === '-')
    throw new UsageError('stdin is the image: give the texts on the command line');
  const texts = given.length > 0 ? given : await readStdinLines(context);
  if (texts.length === 0) throw new UsageError('no text, neither on the command line nor on stdin');
  const options = { ...(flags.prompt === undefined ? {} : { prompt: flags.prompt }), signal: context.signal };
  const format = formatOf(flags);
  return withModel(flags, context, async (model) => {
    const scores = await model.score(await input.read(), texts, options);
    const fields = scores.map((score) => ({ file: input.name, ...score }));
    if (format === 'json') await context.print(JSON.stringify(fields.length === 1 ? fields[0] : fields, undefined, 2));
    else if (format === 'jsonl') for (const each of fields) await context.print(JSON.stringify(each));
    else {
      for (const { text, logProb, confidence } of scores) {
        await context.print(`${logProb.toFixed(4)}\t${confidence.toFixed(4)}\t${plain(text)}`);
      }
    }
    return EXIT.done;
  });
}
