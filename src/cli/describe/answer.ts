import { addAlternatives, addBatch, addDecoding, addExamples, addFormat, addModel } from './options.js';
import type { Page } from './page.js';

/** `image2text answer --help`. */
export const answerPage: Page = {
  name: 'answer',
  load: async () => (await import('../commands/answer.js')).answerCommand,
  describe(command) {
    command
      .description('Answer questions about an image.')
      .argument('[image]', 'a file or URL; - for stdin')
      .argument('[questions...]', 'without any: asks you in a terminal, or reads stdin, a question a line')
      .optionsGroup('Datasets:')
      .option('--tsv <file>', "images in the original project's format: lines of a key, a tab and the file in base64")
      .option(
        '--questions-tsv <file>',
        'with --tsv: lines of the same keys, a tab and [{"question":…,"question_id":…}]',
      )
      .option('--output <file>', 'with --tsv: write lines there instead of to stdout: .tsv as the original, or .jsonl')
      .option('--skip-existing', 'with --output: go on where an earlier run ended');
    addBatch(
      addAlternatives(addDecoding(addModel(addFormat(command)), 'original, greedy in a conversation')),
      'questions',
      8,
    );
    addExamples(
      command,
      'image2text answer mug.jpg "what color is the mug?"',
      'image2text answer mug.jpg "what color is it?" "what does it say?" --json',
      'image2text answer mug.jpg                               a conversation; an empty line ends it',
      'image2text answer mug.jpg < questions.txt',
      'image2text answer --tsv test.img.tsv --questions-tsv test.question.tsv --output answers.tsv',
    );
  },
};
