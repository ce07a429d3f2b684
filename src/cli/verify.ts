import type { NodeBackend } from '../node.js';
import type { Verification } from '../tools/index.js';
import type { CliCommand, Context } from './context.js';
import { EXIT } from './context.js';
import { type HubFlags, hubOptions } from './model.js';
import { addBackend, addExamples, addHub, addNote } from './options.js';
import { jsonText, showLoading } from './terminal.js';

interface VerifyFlags extends HubFlags {
  readonly backend: NodeBackend;
  readonly as?: string;
  readonly image?: string;
  readonly json?: boolean;
}

/** `image2text verify`. */
export const verifyCommand: CliCommand = {
  name: 'verify',
  describe(command) {
    command
      .description('Load a published checkpoint and compare its logits with the numbers that were published with it.')
      .argument('<model>', 'name on the Hub, or a folder')
      .option('--image <file>', 'your copy of the image (or folder of frames) of those numbers; default: fetched')
      .option('--as <name>', 'which published checkpoint it is, where the folder does not say so')
      .option('--json', 'one JSON object');
    addBackend(addHub(command));
    addExamples(
      command,
      'image2text verify microsoft/git-base-coco',
      'image2text verify ./my-copy --as git-base-coco --image 000000039769.jpg',
    );
    addNote(command, 'Exit code 0 if all numbers agree, 1 if one differs.');
  },
  run,
};

/** `image2text verify`. */
async function run([model]: readonly string[], flags: VerifyFlags, context: Context): Promise<number> {
  const { backend, as, image, json } = flags;
  const { quietTensorflow, startBackend } = await import('../node.js');
  const { verifyModel } = await import('../tools/index.js');
  quietTensorflow();
  await startBackend(backend);
  const checked = await verifyModel(model!, {
    as,
    image,
    ...hubOptions(flags),
    signal: context.signal,
    onDownload: showLoading(context.status, { patience: 0 }),
  }).finally(context.status.clear);
  await context.stdout(json === true ? jsonText(checked, 2) : describe(checked));
  for (const note of checked.notes) context.stderr(`image2text: note: ${note}`);
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
