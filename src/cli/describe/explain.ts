import { Option } from 'commander';
import { addDecoding, addExamples, addModel } from './options.js';
import type { Page } from './page.js';

/** `image2text explain --help`. */
export const explainPage: Page = {
  name: 'explain',
  load: async () => (await import('../commands/explain.js')).explainCommand,
  describe(command) {
    command
      .description('Show where in the image the model looked for every word of a text.')
      .argument('<image...>', 'a file or URL, - for stdin; with --video as the video command takes it')
      .optionsGroup('Results:')
      .option('-o, --output <file>', 'an HTML page that holds everything: point at a word, and the image lights up')
      .option('--overlays <folder>', 'a PNG for every word')
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
    addDecoding(addModel(command), 'original');
    addExamples(
      command,
      'image2text explain photo.jpg -o page.html',
      'image2text explain mug.jpg -o page.html --prompt "what color is the mug?"',
      'image2text explain photo.jpg --overlays words/ --view rollout',
      'image2text explain clip.gif --video -o page.html',
    );
  },
};
