import type { PublishedModel } from '../tools/index.js';
import type { CliCommand, Context } from './context.js';
import { EXIT } from './errors.js';
import { addExamples } from './options.js';
import { jsonText } from './terminal.js';

/** `image2text models`. */
export const modelsCommand: CliCommand = {
  name: 'models',
  describe(command) {
    command
      .description('List the published checkpoints: what they do, their size, and their published score.')
      .option('--json', 'a JSON array');
    addExamples(command, 'image2text models', 'image2text caption photo.jpg --model microsoft/git-base-textcaps');
  },
  run,
};

/** `image2text models`. */
async function run(_names: readonly string[], flags: { readonly json?: boolean }, context: Context): Promise<number> {
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
