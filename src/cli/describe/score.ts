import { addExamples, addFormat, addModel } from './options.js';
import type { Page } from './page.js';

/** `image2text score --help`. */
export const scorePage: Page = {
  name: 'score',
  load: async () => (await import('../commands/score.js')).scoreCommand,
  describe(command) {
    command
      .description('Say how likely each text is as the caption of an image: its log-likelihood.')
      .argument('<image>', 'a file or URL; - for stdin')
      .argument('[texts...]', 'without any: reads stdin, a text a line')
      .option('--prompt <text>', 'text before each of them');
    addModel(addFormat(command));
    addExamples(
      command,
      'image2text score mug.jpg "a blue mug" "a red book"',
      'image2text score mug.jpg --jsonl < captions.txt',
    );
  },
};
