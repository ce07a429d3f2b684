import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join, relative, sep } from 'node:path';
import { Option } from 'commander';
import type { Metric, References, ScoredPair } from '../metrics/index.js';
import { readPieces } from '../platform/tables.js';
import { writeWhole } from '../platform/write-whole.js';
import type { PublishedModel } from '../tools/index.js';
import { type CliCommand, type Context, EXIT, UsageError } from './context.js';
import { addBackend, addExamples, addHub, addNote, integer } from './options.js';
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
  run: runEvaluate,
};

async function runEvaluate(
  [predictionsFile]: readonly string[],
  flags: EvaluateFlags,
  context: Context,
): Promise<number> {
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

interface ReproduceFlags {
  readonly as?: string;
  readonly references?: string;
  readonly questions?: string;
  readonly output?: string;
  readonly export?: string;
  readonly overwrite?: boolean;
  readonly limit?: number;
  readonly batch?: number;
  readonly backend: string;
  readonly revision?: string;
  readonly cacheDir?: string;
  readonly catalog?: string;
  readonly json?: boolean;
}

/** `image2text reproduce`: a published figure, measured again. */
export const reproduceCommand: CliCommand = {
  name: 'reproduce',
  describe(command) {
    command
      .description(
        'Measure a published figure again: predict as the original did, score, and compare (docs/evaluation.md).',
      )
      .argument('<model>', 'a published checkpoint (microsoft/git-base-coco), or a folder or copy of one with --as')
      .argument('<data>', 'a folder with the images or videos, and with the annotations or questions')
      .option('--as <name>', 'the published checkpoint whose figure and settings apply')
      .option('--references <file>', 'annotations; default: the one JSON or JSONL file in the folder that can be')
      .option('--questions <file>', "VQAv2's questions; default: likewise")
      .option(
        '--output <file>',
        'the predictions (.jsonl); a run that was stopped goes on there; default reproduce-NAME.jsonl',
      )
      .option('--export <file>', 'results as the coco server and EvalAI take them')
      .option('--overwrite', 'replace predictions of another model or with other settings')
      .option('--limit <n>', 'only the first n items', integer(1, 10_000_000))
      .option('--batch <n>', 'how many images or questions at once', integer(1, 256))
      .addOption(new Option('--catalog <file>', 'published figures of your own, as weights/models.json has them'))
      .option('--json', 'one JSON object, with the settings and their sources');
    addHub(addBackend(command));
    addExamples(
      command,
      'image2text reproduce microsoft/git-base-coco coco/ --references dataset_coco.json',
      'image2text reproduce ./git-large-textvqa textvqa/ --as microsoft/git-large-textvqa',
    );
    addNote(
      command,
      'Questions without public answers (VQAv2 test-dev) are answered into --export, for the server that scores them.',
    );
  },
  run: runReproduce,
};

async function runReproduce(
  [model, data]: readonly string[],
  flags: ReproduceFlags,
  context: Context,
): Promise<number> {
  const { compareWithPublished, readPublishedModels } = await import('../tools/index.js');
  const metrics = await import('../metrics/index.js');
  const { models, decoding, sources } = readPublishedModels(flags.catalog);
  const published = publishedAs(flags.as ?? model!, models);
  const { score, preprocessing } = published;
  if (score?.evaluation === undefined || preprocessing === undefined) {
    throw new UsageError(
      `${published.id}: no source says enough of how its figure was measured (image2text models --json)`,
    );
  }
  const all = await readReferences(data!, published.task, flags);
  const references: References = { ...all, items: all.items.slice(0, flags.limit) };
  const task = published.task.endsWith('caption') ? 'caption' : 'question';
  const video = published.task.startsWith('video');
  const item = task === 'question' ? 'questions' : video ? 'videos' : 'images';
  if (references.task !== task)
    throw new UsageError(`${published.id} is for ${task}s, the references are ${references.task}s`);
  const answered = references.items.filter(({ texts }) => texts.length > 0).length;
  if (answered === 0 && flags.export === undefined) {
    throw new UsageError(
      'there are no references to compare with: --export FILE writes results for the server that has them',
    );
  }
  const output = flags.output ?? `reproduce-${basename(model!)}.jsonl`;
  const { source: _, ...options } = decoding;
  const failed = await writePredictions(
    {
      ...{ model: model!, images: data!, video, output, references, overwrite: flags.overwrite },
      ...{ decoding: options, flags: modelFlags(published, flags) },
    },
    context,
  );
  const predictions = await metrics.readPredictions(readPieces(output), output);
  const pairs = metrics.pairUp(within(predictions, references, flags), references, failed > 0);
  if (flags.export !== undefined) {
    await writeWhole(flags.export, task === 'caption' ? metrics.cocoResults(pairs) : metrics.vqaResults(pairs));
  }
  if (answered === 0) {
    context.stderr(`${pairs.length} answers in ${flags.export}; the published ${score.value} is of ${score.dataset}`);
    return failed > 0 ? EXIT.failed : EXIT.done;
  }
  const comparison = compareWithPublished(published, metrics.evaluatePairs(pairs, score.evaluation.metric));
  if (comparison === undefined)
    throw new UsageError(`${published.id}: there is no score ${score.evaluation.score} of ${score.evaluation.metric}`);
  const { value, difference, count, dataset } = comparison;
  if (flags.json === true) {
    const said = (name: string) => ({ source: sources[name] ?? name });
    const settings = {
      decoding: { ...decoding, ...said(decoding.source) },
      preprocessing: { ...preprocessing, ...said(preprocessing.source) },
      ...(video ? { frames: { count: published.frames, chosen: FRAMES, ...said('frames') } } : {}),
      metric: score.evaluation.metric,
    };
    await context.stdout(
      jsonText({ model, as: published.id, ...comparison, source: sources[score.source] ?? score.source, settings }, 2),
    );
  } else {
    const sign = difference < 0 ? '-' : '+';
    await context.stdout(
      `${comparison.score} ${value.toFixed(2)} on ${count} ${item}; published ${score.value} (${dataset}): ${sign}${Math.abs(difference).toFixed(2)}`,
    );
  }
  const least =
    references.items.length < all.items.length ? `only ${count} of ${all.items.length} items were measured` : undefined;
  if (video) context.stderr(`image2text: no source says which frames the published figure is of; here: ${FRAMES}`);
  if (least !== undefined) context.stderr(`image2text: ${least}: the published figure is of all of ${dataset}`);
  return failed > 0 ? EXIT.failed : EXIT.done;
}

/** As videos are opened; the original takes its frames from whoever calls it. */
const FRAMES =
  'the middle of each of as many equal parts of a video as the model has frames; all where there are no more';

/** Predictions of an earlier, longer run are more than `--limit` asks for. */
function within<P extends { readonly id: string }>(
  predictions: readonly P[],
  { items }: References,
  { limit }: ReproduceFlags,
): readonly P[] {
  if (limit === undefined) return predictions;
  const names = new Set(items.flatMap(({ id, file }) => [id, ...(file === undefined ? [] : [basename(file)])]));
  return predictions.filter(({ id }) => names.has(id) || names.has(basename(id)));
}

function publishedAs(name: string, models: readonly PublishedModel[]): PublishedModel {
  const found = models.find(({ id }) => id === name || id.split('/').at(-1) === name);
  if (found !== undefined) return found;
  throw new UsageError(
    `${name} is no published checkpoint: --as says which one's figure is meant`,
    models.filter(({ score }) => score?.evaluation !== undefined).map(({ id }) => id),
  );
}

function modelFlags(
  { preprocessing }: PublishedModel,
  { backend, revision, cacheDir, batch }: ReproduceFlags,
): string[] {
  const { preprocessing: name, keepRatio } = preprocessing!;
  return [
    ...['--backend', backend],
    ...(name === undefined ? [] : ['--preprocessing', name]),
    ...(keepRatio === undefined ? [] : ['--keep-ratio', `${keepRatio.min},${keepRatio.max}`]),
    ...(revision === undefined ? [] : ['--revision', revision]),
    ...(cacheDir === undefined ? [] : ['--cache-dir', cacheDir]),
    ...(batch === undefined ? [] : ['--batch', String(batch)]),
  ];
}

async function readReferences(data: string, task: PublishedModel['task'], flags: ReproduceFlags): Promise<References> {
  const { readReferences } = await import('../metrics/index.js');
  if ((await stat(data).catch(() => undefined))?.isDirectory() !== true)
    throw new UsageError(`${data}: there is no such folder`);
  const files = flags.references === undefined ? await listJson(data) : [];
  const asked = files.filter((file) => /questions[^/\\]*\.json$/i.test(file));
  const others = files.filter((file) => !asked.includes(file));
  const only = (list: readonly string[], flag: string): string | undefined => {
    if (list.length > 1)
      throw new UsageError(`${data} has several files that may be meant: name one with ${flag}`, list);
    return list[0];
  };
  const questions = flags.questions ?? (task.endsWith('question') ? only(asked, '--questions') : undefined);
  const references = flags.references ?? only(others, '--references') ?? questions;
  if (references === undefined) throw new UsageError(`${data}: no annotations there: --references names them`);
  const hasOwnFile = questions !== undefined && questions !== references;
  const second = hasOwnFile ? { content: readPieces(questions), file: questions } : undefined;
  return readReferences(readPieces(references), references, second);
}

async function listJson(folder: string): Promise<string[]> {
  const names = (await readdir(folder)).filter((name) => /^(?!reproduce-).*(?<!\.run)\.jsonl?$/i.test(name)).sort();
  return names.map((name) => join(folder, name));
}
