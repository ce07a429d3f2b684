import { readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Option } from 'commander';
import type { References } from '../metrics/index.js';
import { readPieces } from '../platform/tsv.js';
import { writeWhole } from '../platform/write-whole.js';
import type { PublishedModel } from '../tools/index.js';
import type { CliCommand, Context } from './context.js';
import { EXIT, UsageError } from './context.js';
import { addBackend, addExamples, addHub, addNote, integer } from './options.js';
import { writePredictions } from './predictions.js';
import { jsonText } from './terminal.js';

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
  run,
};

async function run([model, data]: readonly string[], flags: ReproduceFlags, context: Context): Promise<number> {
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
