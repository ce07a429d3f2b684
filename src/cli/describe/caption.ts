import type { Command } from 'commander';
import { Option } from 'commander';
import { addAlternatives, addBatch, addDecoding, addExamples, addFormat, addModel } from './options.js';
import type { Page } from './page.js';

/** `image2text caption --help`. */
export const captionPage: Page = {
  name: 'caption',
  load: async () => (await import('../commands/caption.js')).captionCommand,
  describe(command) {
    command
      .description('Say what is in each image.')
      .argument('[files...]', 'images (PNG, JPEG, WebP, GIF), URLs, folders, globs; - for stdin')
      .option('--prompt <text>', 'text that the caption goes on from');
    addFolderRuns(addBatch(addAlternatives(addDecoding(addModel(addFormat(command)), 'original')), 'images', 1));
    addExamples(
      command,
      'image2text caption photo.jpg',
      'image2text caption photo.jpg --decoding greedy          words appear as they are found',
      'image2text caption holiday/ --jsonl > captions.jsonl',
      'image2text caption shop.png --model ./git-base-textcaps --json',
      'image2text caption dataset/ --recursive --sidecar .txt --prefix "a photo of " --skip-existing',
      'image2text caption dataset/ --recursive --output captions.jsonl --skip-existing',
      'image2text caption --tsv test.img.tsv --output captions.tsv',
      'curl -s https://example.com/cat.jpg | image2text caption -',
    );
  },
};

/** Options for datasets. */
const addFolderRuns = (command: Command): Command =>
  command
    .optionsGroup('Datasets:')
    .option('--recursive', 'folders with all folders below them')
    .option('--tsv <file>', "images in the original project's format: lines of a key, a tab and the file in base64")
    .option('--prefix <text>', 'put before every caption')
    .option('--suffix <text>', 'put after every caption')
    .option('--sidecar <ending>', 'write each caption beside its image: photo.jpg with .txt gives photo.txt')
    .option('--output <file>', 'write lines there instead of to stdout: .jsonl, or .tsv as the original writes them')
    .option(
      '--skip-existing',
      'go on where an earlier run ended: what is in --sidecar and --output stays and is left out',
    )
    .addOption(
      new Option('--as-tsv', 'lines as the original writes them: key, tab, [{"caption":…}]').conflicts([
        'json',
        'jsonl',
      ]),
    );
