import { InvalidArgumentError, Option } from 'commander';
import type { NodeBackend } from '../../node.js';
import type { Conversion, ConvertDtype, ModelComparison } from '../../tools/index.js';
import type { Context } from '../context.js';
import { addBackend, addExamples } from '../describe/options.js';
import type { Page } from '../describe/page.js';
import { expandInputs } from '../inputs.js';
import { startProgress } from '../progress.js';
import { EXIT } from '../report.js';
import { plain } from '../terminal.js';
import { type HubFlags, percentBar } from './download.js';

interface ConvertFlags extends HubFlags {
  readonly dtype: ConvertDtype;
  readonly maxShardSize?: number;
  readonly overwrite?: boolean;
  readonly compare?: readonly string[] | false;
  readonly backend: NodeBackend;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** `image2text convert --help`. */
export const convertPage: Page = {
  name: 'convert',
  load: async () => convertCommand,
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
      .option('--revision <name>', 'branch, tag or commit on the Hub; default main')
      .option('--cache-dir <dir>', "instead of Hugging Face's cache")
      .option('--quiet', 'no progress bar')
      .option('--json', 'one JSON object');
    addBackend(command);
    addExamples(
      command,
      'image2text convert ./git-base-coco ./git-base-coco-int8 --dtype int8 --compare photos/',
      'image2text convert microsoft/git-large-coco ./large-f16 --max-shard-size 200MB',
    );
  },
};

/** `image2text convert`. */
export async function convertCommand(
  [source, destination]: readonly string[],
  flags: ConvertFlags,
  context: Context,
): Promise<number> {
  const { dtype, maxShardSize, overwrite, revision, cacheDir, quiet } = flags;
  const images = flags.compare ? (await expandInputs(flags.compare, context)).inputs : [];
  const { convertCheckpoint, megabytes } = await import('../../tools/index.js');
  const fetching = percentBar(context, 'percent fetched', quiet);
  const bar = percentBar(context, 'percent written', quiet);
  const made = await convertCheckpoint(source!, destination!, {
    ...{ dtype, overwrite, revision, cacheDir, maxShardBytes: maxShardSize },
    signal: context.signal,
    onDownload: fetching.onDownload,
    onProgress({ loaded, total }) {
      void fetching.stop(); // one bar at a time
      bar.show(loaded / total);
    },
  }).finally(() => Promise.all([fetching.stop(), bar.stop()]));
  for (const warning of made.warnings) context.tell(`image2text: warning: ${warning}`);
  const moved = images.length === 0 ? undefined : await compare(source!, made.directory, images, flags, context);
  await context.print(
    flags.json === true
      ? JSON.stringify({ ...made, ...(moved && { comparison: moved }) }, undefined, 2)
      : describe(made, moved, megabytes),
  );
  return EXIT.done;
}

/** Both models at once, on the same images. */
async function compare(
  source: string,
  converted: string,
  images: Awaited<ReturnType<typeof expandInputs>>['inputs'],
  { backend, revision, cacheDir, quiet }: ConvertFlags,
  context: Context,
): Promise<ModelComparison> {
  const { loadImage2Text, quietTensorflow, startBackend } = await import('../../node.js');
  const { compareModels } = await import('../../tools/index.js');
  const { signal } = context;
  quietTensorflow();
  await startBackend(backend);
  const before = await loadImage2Text(source, { signal, revision, cacheDir });
  const bar = await startProgress(images.length, context, { what: 'images compared', quiet });
  try {
    const after = await loadImage2Text(converted, { signal });
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
