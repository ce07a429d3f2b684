import { Image2TextError, WeightError } from '../errors.js';
import type { Inspection } from '../node.js';
import type { CliCommand, Context } from './context.js';
import { EXIT } from './context.js';
import { addExamples } from './options.js';
import { jsonText, plain } from './terminal.js';

/** `image2text inspect`. Exit codes with --check: 0 would load, 1 illegal, 3 legal but unsupported. */
export const inspectCommand: CliCommand = {
  name: 'inspect',
  describe(command) {
    command
      .description('Show what is in a file that a checkpoint is made of, or in an image.')
      .argument(
        '<file>',
        'weights or their index, configs, vocabulary, tokenizer, image: a path, an http address, or a folder of them',
      )
      .option(
        '--check',
        'read everything as loading would; exit code 0: would load, 1: illegal, 3: legal but unsupported',
      )
      .option('--json', 'one JSON object');
    addExamples(
      command,
      'image2text inspect model.safetensors',
      'image2text inspect ./git-base-textcaps --check',
      'image2text inspect photo.jpg --json',
    );
  },
  run,
};

async function run(
  [file]: readonly string[],
  flags: { readonly check?: boolean; readonly json?: boolean },
  context: Context,
): Promise<number> {
  const { inspectFile } = await import('../node.js');
  try {
    const found = await inspectFile(file!, { check: flags.check ?? false });
    await context.stdout(flags.json === true ? jsonText(found, 2) : describe(found, flags.check ?? false));
    for (const warning of found.warnings ?? []) context.stderr(`image2text: warning: ${warning}`);
    return EXIT.done;
  } catch (error) {
    if (!(error instanceof Image2TextError)) throw error;
    context.report(error);
    for (const line of faultLines(error)) context.stderr(line);
    return error.unsupported ? EXIT.unsupported : EXIT.failed;
  }
}

/** Every tensor that does not fit: the message names the first two. */
const faultLines = (error: Image2TextError): readonly string[] =>
  error instanceof WeightError ? error.report.split('\n').slice(1) : [];

function describe({ file, kind, facts, tensors, metadata }: Inspection, checked: boolean): string {
  const entries = [
    ...Object.entries(facts),
    ...Object.entries(metadata ?? {}).map(([key, value]) => [`metadata ${key}`, value]),
  ];
  const wide = Math.max(0, ...entries.map(([key]) => String(key).length));
  const widest = Math.max(0, ...(tensors ?? []).map(({ name }) => name.length));
  return [
    `${plain(file)}: ${kind}${checked ? ', would load' : ''}`,
    ...entries.map(([key, value]) => `  ${String(key).padEnd(wide)}  ${plain(String(value))}`),
    ...(tensors ?? []).map(
      ({ name, dtype, shape, bytes }) =>
        `  ${plain(name).padEnd(widest)}  ${dtype.padEnd(4)}  [${shape.join(', ')}]  ${bytes} bytes`,
    ),
  ].join('\n');
}
