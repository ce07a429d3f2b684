import { mkdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { ExplainOptions, Explanation, Image2Text, Look } from '../../node.js';
import type { Context } from '../context.js';
import type { DecodingFlags } from '../decoding.js';
import { decodingOptions } from '../decoding.js';
import type { ModelFlags } from '../model.js';
import { withModel } from '../model.js';
import { EXIT, UsageError } from '../report.js';
import { plain } from '../terminal.js';
import { writeWhole } from '../write-whole.js';
import { oneImage } from './answer.js';
import { openVideo } from './video.js';

interface ExplainFlags extends ModelFlags, DecodingFlags {
  readonly output?: string;
  readonly overlays?: string;
  readonly view: 'mean' | 'rollout';
  readonly json?: boolean;
  readonly text?: string;
  readonly prompt?: string;
  readonly video?: boolean;
}

/** `image2text explain`: a page, images or numbers; without `--json` the text goes to stdout. */
export async function explainCommand(names: readonly string[], flags: ExplainFlags, context: Context): Promise<number> {
  const { output, overlays, json, text, prompt } = flags;
  if (output === undefined && overlays === undefined && json !== true) {
    throw new UsageError('say what to make: -o page.html, --overlays folder or --json');
  }
  if (output !== undefined && (await stat(dirname(output)).catch(() => undefined))?.isDirectory() !== true) {
    throw new UsageError(`${output}: there is no folder ${dirname(output)}`);
  }
  const options: ExplainOptions = {
    ...decodingOptions(flags),
    ...(text === undefined ? {} : { text }),
    ...(prompt === undefined ? {} : { prompt }),
    signal: context.signal,
  };
  const { renderPage } = await import('../../node.js');
  return withModel(flags, context, async (model) => {
    const explanation = await explain(model, names, flags, options, context);
    if (output !== undefined) await writeWhole(output, renderPage(explanation));
    if (overlays !== undefined) await writeOverlays(explanation, overlays, flags.view);
    await context.print(json === true ? JSON.stringify(shares(names, explanation)) : plain(explanation.text));
    return EXIT.done;
  });
}

async function explain(
  model: Image2Text,
  names: readonly string[],
  flags: ExplainFlags,
  options: ExplainOptions,
  context: Context,
): Promise<Explanation> {
  if (flags.video === true) return model.explain(await openVideo(names, context), options);
  if (names.length > 1) throw new UsageError('name one image, or add --video for the frames of one video');
  return model.explain(await (await oneImage(names[0], context)).read(), options);
}

/** `01-a.png`, `02-red.png`, …; with the frame's number behind where there are several. */
async function writeOverlays(explanation: Explanation, folder: string, view: 'mean' | 'rollout'): Promise<void> {
  const { overlayPng } = await import('../../node.js');
  await mkdir(folder, { recursive: true });
  const { words, grid } = explanation;
  for (const [n, word] of words.entries()) {
    if (word.special) continue;
    const name = `${String(n + 1).padStart(2, '0')}-${word.text.replace(/[^\p{L}\p{N}]+/gu, '_').slice(0, 40)}`;
    for (let frame = 0; frame < grid.frames; frame++) {
      const ending = grid.frames > 1 ? `-frame-${frame + 1}.png` : '.png';
      await writeWhole(join(folder, name + ending), overlayPng(explanation, n, { view, frame }));
    }
  }
}

const shares = (names: readonly string[], { text, prompt, grid, words }: Explanation) => ({
  file: names.length === 1 ? names[0] : names,
  text,
  prompt,
  grid,
  words: words
    .filter(({ special }) => !special)
    .map((word) => ({
      text: word.text,
      probability: word.probability,
      mean: lookFields(word.mean),
      rollout: lookFields(word.rollout),
    })),
});

const lookFields = ({ patches, classToken, text }: Look) => ({ patches: [...patches], classToken, text });
