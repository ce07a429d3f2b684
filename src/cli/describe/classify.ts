import { Option } from 'commander';
import { addExamples, addFormat, addModel, integer } from './options.js';
import type { Page } from './page.js';

/** `image2text classify --help`. */
export const classifyPage: Page = {
  name: 'classify',
  load: async () => (await import('../commands/classify.js')).classifyCommand,
  describe(command) {
    command
      .description('Say which of the given names fits each image best.')
      .argument('<files...>', 'images, URLs, folders, globs; - for stdin')
      .requiredOption('--labels <names>', 'a file with a name on each line, or names with commas between them')
      .option('--top <n>', 'how many names to show', integer(1, 1_000_000), 5)
      .addOption(
        new Option('--method <how>', 'score every name, or walk to one as the original does')
          .choices(['exact', 'greedy'])
          .default('exact'),
      )
      .option('--prompt <text>', 'text before the name')
      .option('--recursive', 'folders with all folders below them');
    addModel(addFormat(command));
    addExamples(
      command,
      'image2text classify --labels "a mug,a book,a sign" photo.jpg',
      'image2text classify --labels imagenet.txt --top 3 images/ --jsonl',
    );
  },
};
