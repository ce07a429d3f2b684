import type { CliCommand, Context } from './context.js';
import { EXIT } from './errors.js';
import type { HubFlags } from './model.js';
import { hubOptions } from './model.js';
import { addExamples, addHub } from './options.js';
import { showLoading } from './progress.js';
import { jsonText, plain } from './terminal.js';

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
  run,
};

/** `image2text download`: the folder on stdout, a bar on stderr. */
async function run(
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
