import { InvalidArgumentError, Option } from 'commander';
import { Image2TextError, WeightError } from '../errors.js';
import type { Inspection, NodeBackend } from '../node.js';
import type { ParityRow } from '../parity/index.js';
import type {
  BackendHealth,
  Conversion,
  ConvertDtype,
  DoctorReport,
  ModelComparison,
  PublishedModel,
  Verification,
} from '../tools/index.js';
import { type CliCommand, type Context, EXIT } from './context.js';
import { expandInputs } from './inputs.js';
import { type HubFlags, hubOptions, useBackend } from './model.js';
import { addBackend, addExamples, addHub, addNote } from './options.js';
import { jsonText, plain, showLoading, startProgress } from './terminal.js';

/** `image2text inspect`. Exit codes with --check: 0 would load, 1 illegal, 3 legal but unsupported. */
export const inspectCommand: CliCommand = {
  name: 'inspect',
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
  run: runInspect,
};

async function runInspect(
  [file]: readonly string[],
  flags: { readonly check?: boolean; readonly json?: boolean },
  context: Context,
): Promise<number> {
  const { inspectFile } = await import('../node.js');
  try {
    const found = await inspectFile(file!, { check: flags.check ?? false });
    await context.stdout(flags.json === true ? jsonText(found, 2) : inspectionText(found, flags.check ?? false));
    for (const warning of found.warnings ?? []) context.stderr(`image2text: warning: ${warning}`);
    return EXIT.done;
  } catch (error) {
    if (!(error instanceof Image2TextError)) throw error;
    context.report(error);
    for (const line of faultLines(error)) context.stderr(line);
    return error.unsupported ? EXIT.unsupported : EXIT.failed;
  }
}

/** Every tensor that does not fit: the message names the first two. */
const faultLines = (error: Image2TextError): readonly string[] =>
  error instanceof WeightError ? error.report.split('\n').slice(1) : [];

function inspectionText({ file, kind, facts, tensors, metadata }: Inspection, checked: boolean): string {
  const entries = [
    ...Object.entries(facts),
    ...Object.entries(metadata ?? {}).map(([key, value]) => [`metadata ${key}`, value]),
  ];
  const wide = Math.max(0, ...entries.map(([key]) => String(key).length));
  const widest = Math.max(0, ...(tensors ?? []).map(({ name }) => name.length));
  return [
    `${plain(file)}: ${kind}${checked ? ', would load' : ''}`,
    ...entries.map(([key, value]) => `  ${String(key).padEnd(wide)}  ${plain(String(value))}`),
    ...(tensors ?? []).map(
      ({ name, dtype, shape, bytes }) =>
        `  ${plain(name).padEnd(widest)}  ${dtype.padEnd(4)}  [${shape.join(', ')}]  ${bytes} bytes`,
    ),
  ].join('\n');
}

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
  run: runVerify,
};

/** `image2text verify`. */
async function runVerify([model]: readonly string[], flags: VerifyFlags, context: Context): Promise<number> {
  const { backend, as, image, json } = flags;
  const { verifyModel } = await import('../tools/index.js');
  await useBackend(backend);
  const checked = await verifyModel(model!, {
    as,
    image,
    ...hubOptions(flags),
    signal: context.signal,
    onDownload: showLoading(context.status, { patience: 0 }),
  }).finally(context.status.clear);
  await context.stdout(json === true ? jsonText(checked, 2) : verificationText(checked));
  for (const note of checked.notes) context.stderr(`image2text: note: ${note}`);
  return checked.passed ? EXIT.done : EXIT.failed;
}

function verificationText({ checkpoint, image, dtypes, tolerance, logits, passed }: Verification): string {
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

/** `image2text doctor`. */
export const doctorCommand: CliCommand = {
  name: 'doctor',
  describe(command) {
    command
      .description(
        'Look at everything that this program needs from the machine, try every backend, and say what to do.',
      )
      .option('--json', 'one JSON object')
      .option('--timeout <seconds>', 'how long each backend may take (default 2.5)', seconds);
    addExamples(command, 'image2text doctor', 'image2text doctor --json > report.json');
    addNote(command, 'Exit code 0 if the default backend works, else 1.');
  },
  run: runDoctor,
};

/** `image2text doctor`. */
async function runDoctor(
  _names: readonly string[],
  flags: { readonly json?: boolean; readonly timeout?: number },
  context: Context,
): Promise<number> {
  const { megabytes, runDoctor } = await import('../tools/index.js');
  const { signal, status } = context;
  const report = await runDoctor({
    signal,
    timeoutMs: flags.timeout && flags.timeout * 1000,
    onBackend: (name) => status.show(`trying ${name}`),
  });
  status.clear();
  signal.throwIfAborted();
  await context.stdout(flags.json === true ? jsonText(report, 2) : reportText(report, megabytes));
  return report.healthy ? EXIT.done : EXIT.failed;
}

function seconds(text: string): number {
  const value = Number(text);
  if (value > 0 && value <= 3600) return value;
  throw new InvalidArgumentError('expected a number of seconds from 0 to 3600.');
}

function reportText(report: DoctorReport, megabytes: (bytes: number) => string): string {
  const { machine, backends, defaultBackend, cache, hub, environment, ffmpeg, problems } = report;
  const { node, platform, cores, memory, freeMemory } = machine;
  const free = cache.freeDisk === undefined ? '' : `, ${megabytes(cache.freeDisk)} free`;
  const rows: [string, string][] = [
    ['Node', `${node}, ${platform}`],
    ['machine', `${cores} cores, ${megabytes(memory)} of memory, ${megabytes(freeMemory)} free`],
    ['cache', `${cache.folder}: ${cache.models} models, ${megabytes(cache.bytes)}${free}`],
    ['Hub', [hub.endpoint, hub.state, hub.detail].filter(Boolean).join(': ')],
    ['ffmpeg', ffmpeg ?? 'not installed'],
    ...Object.entries(environment).map(([name, value]): [string, string] => [name, value]),
    ...backends.map((backend): [string, string] => [`backend ${backend.name}`, backendText(backend)]),
    ['default backend', defaultBackend ?? 'none works'],
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  return [
    ...rows.map(([name, text]) => `${name.padEnd(width)}  ${plain(text)}`),
    '',
    ...(problems.length === 0 ? ['No problem found.'] : ['To be looked at:']),
    ...problems.map(({ what, advice }) => plain(`- ${what}: ${advice}`)),
  ].join('\n');
}

function backendText({ state, test, detail }: BackendHealth): string {
  const note = detail === undefined ? '' : `: ${detail}`;
  if (state === 'missing') return `not installed${note}`;
  if (state === 'unfinished') return `not known${note}; --timeout waits longer`;
  if (test === undefined) return `does not work${note}`;
  const result = `${test.largestDifference.toExponential(1)} from cpu, ${test.milliseconds.toFixed(0)} ms for a tiny model`;
  return `${state === 'works' ? 'works' : 'computes wrongly'}, ${result}${note}`;
}

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
  run: runConvert,
};

/** `image2text convert`. */
async function runConvert(
  [source, destination]: readonly string[],
  flags: ConvertFlags,
  context: Context,
): Promise<number> {
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
      : conversionText(made, moved, megabytes),
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
  const { loadImage2Text } = await import('../node.js');
  const { compareModels } = await import('../tools/index.js');
  const { signal } = context;
  await useBackend(flags.backend);
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

function conversionText(
  made: Conversion,
  moved: ModelComparison | undefined,
  megabytes: (bytes: number) => string,
): string {
  const { directory, dtype, from, bytes, tensors, flushed, files } = made;
  return [
    `${plain(directory)}: ${tensors} tensors as ${dtype}, ${megabytes(bytes)} (from ${from.format}, ${megabytes(from.bytes)})`,
    ...files.map(({ name, bytes: size }) => `  ${name}  ${size} bytes`),
    ...(flushed > 0 ? [`${flushed} weights are too small for f16 and are 0 now`] : []),
    ...(moved === undefined ? [] : movesText(moved)),
  ].join('\n');
}

function movesText({ images, equalCaptions, largestLogitDifference }: ModelComparison): string[] {
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

interface ParityFlags {
  readonly backend: NodeBackend;
  readonly only?: string;
  readonly json?: boolean;
}

/** `image2text parity`: the table on stdout, its sums on stderr; exit code 1 if any case fails, or none ran. */
export const parityCommand: CliCommand = {
  name: 'parity',
  describe(command) {
    command
      .description('Compare this implementation with reference numbers: finds the cases below a folder and runs each.')
      .argument('<dir>', 'folder with cases (docs/parity.md describes the layouts)')
      .option('--only <pattern>', 'only cases whose path matches: text, or a glob with *')
      .option('--json', 'a JSON array of rows');
    addBackend(command);
    addExamples(command, 'image2text parity reference/', 'image2text parity reference/ --backend cpu --only "tiny-*"');
    addNote(command, 'Exit code 1 if any case fails. A case that cannot be run is listed as not run, never as passed.');
  },
  run: runParity,
};

async function runParity(
  [directory]: readonly string[],
  flags: ParityFlags,
  { status, signal, stdout, stderr }: Context,
): Promise<number> {
  const { formatParityTable, runParity, summarizeParity } = await import('../parity/index.js');
  const backend = await useBackend(flags.backend);
  const rows: ParityRow[] = [];
  for await (const row of runParity(directory!, {
    ...(flags.only === undefined ? {} : { only: flags.only }),
    signal,
  })) {
    rows.push(row);
    status.show(`${rows.length} ${row.case}`);
  }
  status.clear();
  await stdout(flags.json === true ? jsonText(rows, 2) : formatParityTable(rows));
  const { passed, failed, notRun, worstRatio } = summarizeParity(rows);
  const worst = worstRatio === undefined ? '' : `; largest error ${worstRatio.toFixed(2)} times the reference's own`;
  stderr(`${backend}: ${passed} passed, ${failed} failed, ${notRun} not run${worst}`);
  return failed === 0 && passed > 0 ? EXIT.done : EXIT.failed;
}

/** `image2text models`. */
export const modelsCommand: CliCommand = {
  name: 'models',
  describe(command) {
    command
      .description('List the published checkpoints: what they do, their size, and their published score.')
      .option('--json', 'a JSON array');
    addExamples(command, 'image2text models', 'image2text caption photo.jpg --model microsoft/git-base-textcaps');
  },
  run: runModels,
};

/** A table, or JSON. */
async function runModels(
  _names: readonly string[],
  flags: { readonly json?: boolean },
  context: Context,
): Promise<number> {
  const { listModels } = await import('../tools/index.js');
  const models = listModels();
  await context.stdout(flags.json === true ? jsonText(models, 2) : modelTable(models));
  return EXIT.done;
}

/** Two lines for each: its facts in columns, then what it is for. */
function modelTable(models: readonly PublishedModel[]): string {
  const rows = [
    ['model', 'size', 'image', 'frames', 'published score'],
    ...models.map(({ id, parameters, imageSize, frames, score }) => [
      id,
      `${Math.round((parameters * BYTES_PER_PARAMETER) / 1e6)} MB`,
      `${imageSize} px`,
      frames > 0 ? String(frames) : '-',
      score === undefined ? '-' : `${score.value} ${score.metric}`,
    ]),
  ];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const lines = rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  );
  return lines.flatMap((line, n) => (n === 0 ? [line] : [line, `  ${models[n - 1]!.about}`])).join('\n');
}

/** The published files have float32 weights. */
const BYTES_PER_PARAMETER = 4;

/** `image2text download`. */
export const downloadCommand: CliCommand = {
  name: 'download',
  describe(command) {
    command
      .description(
        'Fetch a checkpoint from the Hugging Face Hub into the cache that Python shares, and print its folder.',
      )
      .argument('<model>', 'name on the Hub: microsoft/git-base-textcaps')
      .option('--quiet', 'no progress bar')
      .option('--json', 'one JSON object: folder, commit, files');
    addHub(command);
    addExamples(
      command,
      'image2text download microsoft/git-base-coco',
      'image2text caption photo.jpg --model microsoft/git-base-coco',
    );
  },
  run: runDownload,
};

/** The folder on stdout, a bar on stderr. */
async function runDownload(
  [model]: readonly string[],
  flags: HubFlags & { readonly json?: boolean; readonly quiet?: boolean },
  context: Context,
): Promise<number> {
  const { downloadSnapshot } = await import('../node.js');
  const snapshot = await downloadSnapshot(model!, {
    ...hubOptions(flags),
    signal: context.signal,
    onProgress: showLoading(context.status, { quiet: flags.quiet, patience: 0 }),
  }).finally(context.status.clear);
  await context.stdout(flags.json === true ? jsonText(snapshot, 2) : plain(snapshot.directory));
  return EXIT.done;
}
