import type { NodeBackend } from '../../node.js';
import type { Verification } from '../../tools/index.js';
import type { Context } from '../context.js';
import { addBackend, addExamples } from '../describe/options.js';
import type { Page } from '../describe/page.js';
import { EXIT } from '../report.js';
import { type HubFlags, percentBar } from './download.js';

interface VerifyFlags extends HubFlags {
  readonly backend: NodeBackend;
  readonly as?: string;
  readonly image?: string;
  readonly json?: boolean;
}

/** `image2text verify --help`. */
export const verifyPage: Page = {
  name: 'verify',
  load: async () => verifyCommand,
  describe(command) {
    command
      .description('Load a published checkpoint and compare its logits with the numbers that were published with it.')
      .argument('<model>', 'name on the Hub, or a folder')
      .option('--image <file>', 'your copy of the image (or folder of frames) of those numbers; default: fetched')
      .option('--as <name>', 'which published checkpoint it is, where the folder does not say so')
      .option('--revision <name>', 'branch, tag or commit; default main')
      .option('--cache-dir <dir>', "instead of Hugging Face's cache")
      .option('--json', 'one JSON object');
    addBackend(command);
    addExamples(
      command,
      'image2text verify microsoft/git-base-coco',
      'image2text verify ./my-copy --as microsoft/git-base-coco --image 000000039769.jpg',
    );
    command.addHelpText('after', '\nExit code 0 if all numbers agree, 1 if one differs.');
  },
};

/** `image2text verify`. */
export async function verifyCommand(
  [model]: readonly string[],
  { backend, as, image, revision, cacheDir, json }: VerifyFlags,
  context: Context,
): Promise<number> {
  const { quietTensorflow, startBackend } = await import('../../node.js');
  const { verifyModel } = await import('../../tools/index.js');
  quietTensorflow();
  await startBackend(backend);
  const bar = percentBar(context, 'percent fetched');
  const checked = await verifyModel(model!, {
    as,
    image: image,
    revision,
    cacheDir,
    signal: context.signal,
    onDownload: bar.onDownload,
  }).finally(bar.stop);
  await context.print(json === true ? JSON.stringify(checked, undefined, 2) : describe(checked));
  for (const note of checked.notes) context.tell(`image2text: note: ${note}`);
  return checked.passed ? EXIT.done : EXIT.failed;
}

function describe({ checkpoint, image, dtypes, tolerance, logits, passed }: Verification): string {
  const wrong = logits.filter((logit) => !logit.passed);
  return [
    `${checkpoint} (${dtypes.join(', ')}), ${image}`,
    ...logits.map(
      ({ index, expected, got, difference, passed: right }) =>
        `  logit ${index}  published ${expected.toFixed(4)}  here ${got.toFixed(6)}  ` +
        `off by ${difference.toExponential(1)}  ${right ? 'agrees' : 'DIFFERS'}`,
    ),
    passed
      ? `all agree within ${tolerance}`
      : `${wrong.length} of ${logits.length} differ by more than ${tolerance}: logit ${wrong.map(({ index }) => index).join(', ')}`,
  ].join('\n');
}
