import { InvalidArgumentError, Option } from 'commander';
import type { NodeBackend } from '../node.js';
import type { Conversion, ConvertDtype, ModelComparison } from '../tools/index.js';
import type { CliCommand, Context } from './context.js';
import { EXIT } from './context.js';
import { expandInputs } from './inputs.js';
import { type HubFlags, hubOptions } from './model.js';
import { addBackend, addExamples, addHub } from './options.js';
import { jsonText, plain, showLoading, startProgress } from './terminal.js';

interface ConvertFlags extends HubFlags {
  readonly dtype: ConvertDtype;
  readonly maxShardSize?: number;
  readonly overwrite?: boolean;
  readonly compare?: readonly string[] | false;
  readonly backend: NodeBackend;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** `image2text convert`. */
export const convertCommand: CliCommand = {
  name: 'convert',
  describe(command) {
    command
      .description('Write a checkpoint of any format as safetensors in f32, f16, bf16 or int8.')
      .argument(
        '<model>',
        "folder with weights (safetensors, pytorch_model.bin, Microsoft's model.pt), or name on the Hub",
      )
      .argument('<folder>', 'where to write; it must be empty or not there')
      .addOption(
        new Option('--dtype <name>', 'number format of the weights')
          .choices(['f32', 'f16', 'bf16', 'int8'])
          .default('f16'),
      )
      .option('--max-shard-size <size>', 'several files of at most this: 200MB, 1.5GB', size)
      .option('--overwrite', 'write into a folder that has files in it')
      .option('--compare <images...>', 'say how far logits and captions move on these images, folders or globs')
      .option('--quiet', 'no progress bar')
      .option('--json', 'one JSON object');
    addBackend(addHub(command));
    addExamples(
      command,
      'image2text convert ./git-base-coco ./git-base-coco-int8 --dtype int8 --compare photos/',
      'image2text convert microsoft/git-large-coco ./large-f16 --max-shard-size 200MB',
    );
  },
  run,
};

/** `image2text convert`. */
async function run([source, destination]: readonly string[], flags: ConvertFlags, context: Context): Promise<number> {
  const { dtype, maxShardSize, overwrite, quiet } = flags;
  const images = flags.compare ? (await expandInputs(flags.compare, context)).inputs : [];
  const { convertCheckpoint, megabytes } = await import('../tools/index.js');
  const made = await convertCheckpoint(source!, destination!, {
    ...{ dtype, overwrite, ...hubOptions(flags), maxShardBytes: maxShardSize },
    signal: context.signal,
    onDownload: showLoading(context.status, { quiet, patience: 0 }),
    onProgress({ loaded, total }) {
      if (quiet !== true) context.status.show(`writing: ${Math.floor((loaded / total) * 100)}% of ${megabytes(total)}`);
    },
  }).finally(context.status.clear);
  for (const warning of made.warnings) context.stderr(`image2text: warning: ${warning}`);
  const moved = images.length === 0 ? undefined : await compare(source!, made.directory, images, flags, context);
  await context.stdout(
    flags.json === true
      ? jsonText({ ...made, ...(moved && { comparison: moved }) }, 2)
      : describe(made, moved, megabytes),
  );
  return EXIT.done;
}

/** Both models at once, on the same images. */
async function compare(
  source: string,
  converted: string,
  images: Awaited<ReturnType<typeof expandInputs>>['inputs'],
  flags: ConvertFlags,
  context: Context,
): Promise<ModelComparison> {
  const { loadImage2Text, quietTensorflow, startBackend } = await import('../node.js');
  const { compareModels } = await import('../tools/index.js');
  const { signal } = context;
  quietTensorflow();
  await startBackend(flags.backend);
  const preprocessing = 'huggingface'; // of both, whatever the published name stands for
  const before = await loadImage2Text(source, { signal, preprocessing, ...hubOptions(flags) });
  const bar = startProgress(images.length, context, { what: 'images compared', quiet: flags.quiet });
  try {
    const after = await loadImage2Text(converted, { signal, preprocessing });
    try {
      const read = await Promise.all(images.map((image) => image.read()));
      return await compareModels(before, after, read, { signal, onProgress: bar.advance });
    } finally {
      after.dispose();
    }
  } finally {
    bar.stop();
    before.dispose();
  }
}

function describe(made: Conversion, moved: ModelComparison | undefined, megabytes: (bytes: number) => string): string {
  const { directory, dtype, from, bytes, tensors, flushed, files } = made;
  return [
    `${plain(directory)}: ${tensors} tensors as ${dtype}, ${megabytes(bytes)} (from ${from.format}, ${megabytes(from.bytes)})`,
    ...files.map(({ name, bytes: size }) => `  ${name}  ${size} bytes`),
    ...(flushed > 0 ? [`${flushed} weights are too small for f16 and are 0 now`] : []),
    ...(moved === undefined ? [] : describeMoves(moved)),
  ].join('\n');
}

function describeMoves({ images, equalCaptions, largestLogitDifference }: ModelComparison): string[] {
  const others = images.filter(({ equal }) => !equal);
  return [
    `first-word logits move by at most ${largestLogitDifference.toPrecision(2)} on ${images.length} images`,
    `${(equalCaptions * 100).toFixed(1)} % of their captions stay the same`,
    ...others.map(({ first, second }) => `  ${plain(first)}  ->  ${plain(second)}`),
  ];
}

const UNITS: Readonly<Record<string, number>> = { '': 1, K: 1e3, M: 1e6, G: 1e9 };

function size(text: string): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?)\s*([KMG]?)B?$/i.exec(text) ?? [];
  const bytes = number === undefined ? 0 : Math.floor(Number(number) * UNITS[unit!.toUpperCase()]!);
  if (bytes >= 1) return bytes;
  throw new InvalidArgumentError('expected a size such as 200MB or 1.5GB.');
}
