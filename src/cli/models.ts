import type { PublishedModel } from '../tools/index.js';
import type { CliCommand, Context } from './context.js';
import { EXIT } from './context.js';
import type { HubFlags } from './model.js';
import { hubOptions } from './model.js';
import { addExamples, addHub } from './options.js';
import { jsonText, plain, showLoading } from './terminal.js';

/** `image2text models`. */
export const modelsCommand: CliCommand = {
  name: 'models',
  describe(command) {
    command
      .description('List the published checkpoints: what they do, their size, and their published score.')
      .option('--json', 'a JSON array');
    addExamples(command, 'image2text models', 'image2text caption photo.jpg --model microsoft/git-base-textcaps');
  },
  run: list,
};

/** A table, or JSON. */
async function list(_names: readonly string[], flags: { readonly json?: boolean }, context: Context): Promise<number> {
  const { listModels } = await import('../tools/index.js');
  const models = listModels();
  await context.stdout(flags.json === true ? jsonText(models, 2) : table(models));
  return EXIT.done;
}

/** Two lines for each: its facts in columns, then what it is for. */
function table(models: readonly PublishedModel[]): string {
  const rows = [
    ['model', 'size', 'image', 'frames', 'published score'],
    ...models.map(({ id, parameters, imageSize, frames, score }) => [
      id,
      `${Math.round((parameters * BYTES_PER_PARAMETER) / 1e6)} MB`,
      `${imageSize} px`,
      frames > 0 ? String(frames) : '-',
      score === undefined ? '-' : `${score.value} ${score.metric}`,
    ]),
  ];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const lines = rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  );
  return lines.flatMap((line, n) => (n === 0 ? [line] : [line, `  ${models[n - 1]!.about}`])).join('\n');
}

/** The published files have float32 weights. */
const BYTES_PER_PARAMETER = 4;

/** `image2text download`. */
export const downloadCommand: CliCommand = {
  name: 'download',
  describe(command) {
    command
      .description(
        'Fetch a checkpoint from the Hugging Face Hub into the cache that Python shares, and print its folder.',
      )
      .argument('<model>', 'name on the Hub: microsoft/git-base-textcaps')
      .option('--quiet', 'no progress bar')
      .option('--json', 'one JSON object: folder, commit, files');
    addHub(command);
    addExamples(
      command,
      'image2text download microsoft/git-base-coco',
      'image2text caption photo.jpg --model microsoft/git-base-coco',
    );
  },
  run: download,
};

/** The folder on stdout, a bar on stderr. */
async function download(
  [model]: readonly string[],
  flags: HubFlags & { readonly json?: boolean; readonly quiet?: boolean },
  context: Context,
): Promise<number> {
  const { downloadSnapshot } = await import('../node.js');
  const snapshot = await downloadSnapshot(model!, {
    ...hubOptions(flags),
    signal: context.signal,
    onProgress: showLoading(context.status, { quiet: flags.quiet, patience: 0 }),
  }).finally(context.status.clear);
  await context.stdout(flags.json === true ? jsonText(snapshot, 2) : plain(snapshot.directory));
  return EXIT.done;
}
