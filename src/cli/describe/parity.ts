import { addBackend, addExamples } from './options.js';
import type { Page } from './page.js';

/** `image2text parity --help`. */
export const parityPage: Page = {
  name: 'parity',
  load: async () => (await import('../commands/parity.js')).parityCommand,
  describe(command) {
    command
      .description('Compare this implementation with reference numbers: finds the cases below a folder and runs each.')
      .argument('<dir>', 'folder with cases (docs/parity.md describes the layouts)')
      .option('--only <pattern>', 'only cases whose path matches: text, or a glob with *')
      .option('--json', 'a JSON array of rows');
    addBackend(command).addHelpText(
      'after',
      '\nExit code 1 if any case fails. A case that cannot be run is listed as not run, never as passed.',
    );
    addExamples(command, 'image2text parity reference/', 'image2text parity reference/ --backend cpu --only "tiny-*"');
  },
};
