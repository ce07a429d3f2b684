import { readFile, stat } from 'node:fs/promises';
import { basename, dirname, relative, sep } from 'node:path';
import { Option } from 'commander';
import type { Metric, ScoredPair } from '../metrics/index.js';
import { readPieces } from '../platform/tsv.js';
import { writeWhole } from '../platform/write-whole.js';
import type { CliCommand, Context } from './context.js';
import { EXIT, UsageError } from './context.js';
import { addExamples } from './options.js';
import { imageFinder, writePredictions } from './predictions.js';
import { jsonText } from './terminal.js';

interface EvaluateFlags {
  readonly references: string;
  readonly questions?: string;
  readonly metric?: Metric;
  readonly subset?: boolean;
  readonly json?: boolean;
  readonly perItem?: string;
  readonly page?: string;
  readonly images?: string;
  readonly embed?: boolean;
  readonly export?: string;
  readonly exportAs?: 'coco' | 'vqav2';
  readonly predict?: string;
  readonly overwrite?: boolean;
}

/** Metrics apart from their code, so that `--help` is quick. A test compares them with the entry point's. */
export const METRIC_NAMES = ['captions', 'vqa', 'textvqa', 'anls', 'stvqa-accuracy', 'exact'];

/** `image2text evaluate`: scores predictions against what people said. */
export const evaluateCommand: CliCommand = {
  name: 'evaluate',
  describe(command) {
    command
      .description('Score captions or answers against what people said, as the field does (docs/evaluation.md).')
      .argument('<predictions>', "our JSONL, the original's TSV, or results of COCO or VQAv2 as JSON")
      .requiredOption('--references <file>', 'annotations of COCO, VQAv2 or TextVQA, or JSONL')
      .option('--questions <file>', "VQAv2's questions, to be shown beside the answers")
      .addOption(
        new Option('--metric <name>', 'default: as the references are scored in the field').choices(METRIC_NAMES),
      )
      .option('--subset', 'score what is predicted, where references have more')
      .option('--json', 'one JSON object of scores')
      .option('--per-item <file>', 'scores of each item as JSONL, worst first')
      .option('--page <file>', 'an HTML page with images, predictions and references, worst first')
      .option('--images <dir>', 'where the images are, for --page and --predict')
      .option('--embed', 'images inside the page, so that it can be moved')
      .option('--export <file>', 'results as the coco server and EvalAI take them')
      .addOption(new Option('--export-as <layout>', 'default: as the references are').choices(['coco', 'vqav2']))
      .option(
        '--predict <model>',
        'caption the images, or answer the questions about them, into the predictions file first; goes on where it stopped',
      )
      .option('--overwrite', 'replace files that are there, predictions only where they are of another model');
    addExamples(
      command,
      'image2text evaluate captions.jsonl --references captions_val2014.json',
      'image2text evaluate answers.jsonl --references v2_mscoco_val2014_annotations.json --json',
      'image2text evaluate out.jsonl --references refs.json --predict demo --images photos/ --page page.html',
    );
  },
  run,
};

async function run([predictionsFile]: readonly string[], flags: EvaluateFlags, context: Context): Promise<number> {
  await checkOutputs(flags);
  const metrics = await import('../metrics/index.js');
  const { questions } = flags;
  const asked = questions === undefined ? undefined : { content: readPieces(questions), file: questions };
  const references = await metrics.readReferences(readPieces(flags.references), flags.references, asked);
  if (flags.predict !== undefined) {
    const { predict, subset } = { ...flags, predict: flags.predict };
    const output = predictionsFile!;
    const request = { model: predict, images: flags.images!, output, references, subset, overwrite: flags.overwrite };
    const failed = await writePredictions(request, context);
    if (failed > 0) return EXIT.failed;
  }
  const predictions = await metrics.readPredictions(readPieces(predictionsFile!), predictionsFile!);
  const pairs = metrics.pairUp(predictions, references, flags.subset);
  const evaluation = metrics.evaluatePairs(pairs, flags.metric ?? references.metric);
  const { scores, count, items, metric } = evaluation;
  if (flags.perItem !== undefined) {
    const lines = items.map(({ texts, ...item }) => jsonText({ ...item, references: texts }));
    await writeWhole(flags.perItem, `${lines.join('\n')}\n`);
  }
  if (flags.export !== undefined) {
    const exportsCaptions = (flags.exportAs ?? (references.task === 'caption' ? 'coco' : 'vqav2')) === 'coco';
    await writeWhole(flags.export, exportsCaptions ? metrics.cocoResults(pairs) : metrics.vqaResults(pairs));
  }
  if (flags.page !== undefined) {
    const addresses = await imageAddresses(items, flags);
    await writeWhole(
      flags.page,
      metrics.evaluationPage(
        evaluation,
        `${basename(predictionsFile!)} against ${basename(flags.references)}`,
        (item) => addresses.get(item.id),
      ),
    );
  }
  if (flags.json === true) await context.stdout(jsonText({ metric, count, scores }, 2));
  else {
    const width = Math.max(...Object.keys(scores).map((name) => name.length));
    for (const [name, value] of Object.entries(scores))
      await context.stdout(`${name.padEnd(width)}  ${value.toFixed(2).padStart(6)}`);
  }
  const left = references.items.length - pairs.length;
  context.stderr(
    `${count} ${references.task}s by ${metric}${left > 0 ? `; ${left} references had no prediction` : ''}`,
  );
  return EXIT.done;
}

/** Nothing is read before it is known that everything can be written. */
async function checkOutputs({
  perItem,
  page,
  export: exported,
  overwrite,
  predict: model,
  images,
}: EvaluateFlags): Promise<void> {
  const outputs = [perItem, page, exported].filter((file) => file !== undefined);
  const twice = outputs.find((file, i) => outputs.indexOf(file) !== i);
  if (twice !== undefined) throw new UsageError(`${twice} is named twice`);
  if (model !== undefined && images === undefined) throw new UsageError('--predict needs --images DIR');
  if (overwrite === true) return;
  for (const file of outputs) {
    if ((await stat(file).catch(() => undefined)) !== undefined)
      throw new UsageError(`${file} is there already: --overwrite replaces it`);
  }
}

const TYPES: Readonly<Record<string, string>> = { png: 'png', apng: 'png', webp: 'webp', gif: 'gif', avif: 'avif' };

/** Where a page finds the image of each item: inside itself, or by a path from its folder. */
async function imageAddresses(
  items: readonly ScoredPair[],
  flags: EvaluateFlags,
): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  const find = await imageFinder(flags.images);
  for (const item of items) {
    const path = await find(item);
    if (path === undefined) continue;
    const ending = path.split('.').at(-1)!.toLowerCase();
    const address =
      flags.embed === true
        ? `data:image/${TYPES[ending] ?? 'jpeg'};base64,${(await readFile(path)).toString('base64')}`
        : addressFrom(dirname(flags.page!), path);
    found.set(item.id, address);
  }
  return found;
}

/** A relative address, so that page and images can move together. */
const addressFrom = (folder: string, path: string): string =>
  relative(folder, path).split(sep).map(encodeURIComponent).join('/');
