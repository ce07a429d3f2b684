import { mkdir, readdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Option } from 'commander';
import type { AttentionMap, ExplainOptions, Explanation, Image2Text } from '../node.js';
import { writeWhole } from '../platform/write-whole.js';
import { listVideos } from './caption.js';
import type { CliCommand, Context } from './context.js';
import { EXIT, UsageError } from './context.js';
import { oneImage } from './inputs.js';
import type { ModelFlags } from './model.js';
import { withModel } from './model.js';
import type { GenerationFlags } from './options.js';
import { addExamples, addGeneration, addModel, DEFAULT_MODEL, flagsGiven, generationOptionsOf } from './options.js';
import { jsonText, plain } from './terminal.js';

type ExplainFlags = ModelFlags &
  GenerationFlags & {
    readonly output?: string;
    readonly overlays?: string;
    readonly overwrite?: boolean;
    readonly view: 'mean' | 'rollout';
    readonly json?: boolean;
    readonly text?: string;
    readonly prompt?: string;
    readonly video?: boolean;
  };

/** `image2text explain`: a page, images or numbers; without `--json` the text goes to stdout. */
export const explainCommand: CliCommand = {
  name: 'explain',
  takesImages: true,
  describe(command) {
    command
      .description('Show where in the image the model looked for every word of a text.')
      .argument('<image...>', 'a file or URL, - for stdin; with --video as the video command takes it')
      .optionsGroup('Results:')
      .option('-o, --output <file>', 'an HTML page that holds everything: point at a word, and the image lights up')
      .option('--overlays <folder>', 'a PNG for every word, in a folder that is empty or not there')
      .option('--overwrite', 'with --overlays: use a folder that has files; those of the same names are replaced')
      .addOption(
        new Option('--view <name>', 'what the PNGs show: the mean of all layers and heads, or attention rollout')
          .choices(['mean', 'rollout'])
          .default('mean'),
      )
      .option('--json', 'the shares of every patch, mean and rollout, for every word')
      .optionsGroup('What is explained:')
      .option('--text <text>', "this text instead of the model's own")
      .option('--prompt <text>', 'text or a question that it goes on from')
      .option('--video', 'the frames of a video');
    addGeneration(addModel(command), ['numReturnSequences']);
    addExamples(
      command,
      'image2text explain photo.jpg -o page.html',
      'image2text explain mug.jpg -o page.html --prompt "what color is the mug?"',
      'image2text explain photo.jpg --overlays words/ --view rollout',
      'image2text explain clip.gif --video -o page.html',
    );
  },
  run,
};

async function run(names: readonly string[], flags: ExplainFlags, context: Context): Promise<number> {
  const { output, overlays, json, text, prompt } = flags;
  if (output === undefined && overlays === undefined && json !== true) {
    throw new UsageError('say what to make: -o page.html, --overlays folder or --json');
  }
  if (output !== undefined && (await stat(dirname(output)).catch(() => undefined))?.isDirectory() !== true) {
    throw new UsageError(`${output}: there is no folder ${dirname(output)}`);
  }
  if (overlays !== undefined && flags.overwrite !== true) await checkEmpty(overlays);
  const generation = await generationOptionsOf(flags);
  const unused = text === undefined ? undefined : flagsGiven(generation)[0];
  if (unused !== undefined) throw new UsageError(`${unused}: with --text nothing is generated`);
  const options: ExplainOptions = {
    ...generation,
    ...(text === undefined ? {} : { text }),
    ...(prompt === undefined ? {} : { prompt }),
    signal: context.signal,
  };
  const { renderPage } = await import('../node.js');
  return withModel(flags, context, options, async (model) => {
    const explanation = await explain(model, names, flags, options, context);
    const about = { file: names.join(', '), model: flags.model ?? DEFAULT_MODEL };
    if (output !== undefined) await writeWhole(output, renderPage(explanation, about));
    if (overlays !== undefined) await writeOverlays(explanation, overlays, flags.view);
    await context.stdout(json === true ? jsonText(shares(names, explanation)) : plain(explanation.text));
    return EXIT.done;
  });
}

/** Overlays of another text would be mixed with these. */
async function checkEmpty(folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  if (names.length > 0)
    throw new UsageError(`--overlays ${folder}: files are there already; --overwrite uses it all the same`);
}

async function explain(
  model: Image2Text,
  names: readonly string[],
  flags: ExplainFlags,
  options: ExplainOptions,
  context: Context,
): Promise<Explanation> {
  if (flags.video === true) {
    const videos = await listVideos(names, context);
    if (videos.length > 1) throw new UsageError('name one video, or the frames of one');
    return model.explain(await videos[0]!.read(), options);
  }
  if (names.length > 1) throw new UsageError('name one image, or add --video for the frames of one video');
  return model.explain(await (await oneImage(names[0], context)).read(), options);
}

/** `01-a.png`, `02-red.png`, …; with the frame's number behind where there are several. */
async function writeOverlays(explanation: Explanation, folder: string, view: 'mean' | 'rollout'): Promise<void> {
  const { overlayPng } = await import('../node.js');
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
      evidence: word.evidence,
      mean: mapFields(word.mean),
      rollout: mapFields(word.rollout!),
    })),
});

const mapFields = ({ patches, classToken, text }: AttentionMap) => ({ patches: [...patches], classToken, text });
