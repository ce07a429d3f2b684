import { addExamples } from './options.js';
import type { Page } from './page.js';

/** `image2text inspect --help`. */
export const inspectPage: Page = {
  name: 'inspect',
  load: async () => (await import('../commands/inspect.js')).inspectCommand,
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
};
