import { Option } from 'commander';
import { addExamples, addFormat, addModel } from './options.js';
import type { Page } from './page.js';

/** `image2text embed --help`. */
export const embedPage: Page = {
  name: 'embed',
  load: async () => (await import('../commands/embed.js')).embedCommand,
  describe(command) {
    command
      .description('Write the features of each image as JSON: what the vision tower makes of it.')
      .argument('<files...>', 'images, URLs, folders, globs; - for stdin')
      .addOption(
        new Option('--stage <name>', 'after the vision tower, or as the text decoder receives it')
          .choices(['vision', 'projected'])
          .default('vision'),
      )
      .addOption(
        new Option('--pool <how>', "one vector: the mean of all tokens or the class token's; or none: all of them")
          .choices(['mean', 'class', 'none'])
          .default('mean'),
      )
      .option('--recursive', 'folders with all folders below them');
    addModel(addFormat(command));
    addExamples(command, 'image2text embed photo.jpg --json', 'image2text embed images/ > features.jsonl');
  },
};
