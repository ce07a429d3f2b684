import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Command } from 'commander';
import { IMAGE_ENDING, VIDEO_ENDING } from '../file-signature.js';
import type { Reference, References } from '../metrics/index.js';
import type { CaptionOptions } from '../node.js';
import { writeWhole } from '../platform/write-whole.js';
import type { AnswerFlags, AskedImage } from './answer.js';
import { answerCommand, answerToLines } from './answer.js';
import { type CaptionFlags, captionCommand, captionToFiles } from './caption.js';
import type { CliCommand, Context } from './context.js';
import { UsageError } from './context.js';
import type { Input } from './inputs.js';
import type { Question } from './line-files.js';
import { lockFile } from './line-files.js';
import { openModelFiles } from './model.js';
import { fileFormat } from './output.js';

/** What is to be predicted, by which model, and where it goes. */
export interface PredictionRequest {
  readonly model: string;
  /** The folder that has the images, or folders of them. */
  readonly images: string;
  /** The items are about videos: files, or folders of frames. */
  readonly video?: boolean | undefined;
  /** A file of lines; what it has is kept, and the rest is added. */
  readonly output: string;
  readonly references: References;
  /** Predictions of another model or with other options are replaced. */
  readonly overwrite?: boolean | undefined;
  /** Leave out images that are not there. */
  readonly subset?: boolean | undefined;
  /** Further flags of the caption and answer commands. */
  readonly flags?: readonly string[];
  readonly decoding?: CaptionOptions;
}

/**
 * Captions the images of references, or answers their questions, each image encoded once. Resolves to how many images failed.
 * Beside the predictions, `FILE.run.json` says which model and options they are of.
 *
 * @throws UsageError for images that are not there, and a file that has predictions of another model or with other options
 */
export async function writePredictions(request: PredictionRequest, context: Context): Promise<number> {
  const { model, output, references, decoding, flags = [] } = request;
  const options = { ...decoding, signal: context.signal };
  const images = await imagesOf(request);
  const open = request.video === true ? await videoOnDisk() : onDisk;
  const args = ['--model', model, '--output', output, '--skip-existing', ...flags];
  if (references.task === 'caption') {
    const inputs = [...images.keys()].map(open);
    const captioning = parsed<CaptionFlags>(captionCommand, args);
    await checkRun(request, captioning, context);
    return captionToFiles({ inputs }, captioning, options, context);
  }
  const asked = [...images].map(
    ([path, items]): AskedImage => ({ ...open(path), questions: () => Promise.all(items.map(asQuestion)) }),
  );
  const answering = parsed<AnswerFlags>(answerCommand, args);
  await checkRun(request, answering, context);
  return answerToLines(asked, fileFormat(output, answering), answering, options, context);
}

/** Flags that change no text. */
const IRRELEVANT = new Set([
  ...['model', 'revision', 'cacheDir', 'backend', 'batch', 'quiet', 'output', 'skipExisting', 'overwrite'],
]);

/**
 * Sees to it that the predictions file has predictions of this model with these options only, so that a run can go on with it.
 *
 * @throws UsageError
 */
async function checkRun(
  { output, references, decoding = {}, overwrite }: PredictionRequest,
  flags: Readonly<Record<string, unknown>> & (CaptionFlags | AnswerFlags),
  context: Context,
): Promise<void> {
  const { fingerprintModel } = await import('../tools/index.js');
  const run: Record<string, unknown> = { task: references.task };
  for (const [name, value] of Object.entries({ ...flags, ...decoding })) {
    if (!IRRELEVANT.has(name) && value !== undefined) run[name] = value;
  }
  run['model'] = await fingerprintModel(await openModelFiles(flags, context));
  const note = `${output}.run.json`;
  const lock = await lockFile(output);
  try {
    if (((await stat(output).catch(() => undefined))?.size ?? 0) > 0) {
      const differs = differing(await readFile(note, 'utf8').catch(() => undefined), run);
      if (differs === undefined) return;
      if (overwrite !== true)
        throw new UsageError(`${output}: ${differs}: --overwrite replaces it, or name another file`);
      await rm(output);
    }
    await writeWhole(note, `${JSON.stringify(run, undefined, 2)}\n`);
  } finally {
    await lock.release();
  }
}

/** What an earlier run has otherwise; undefined where it is the same. */
function differing(note: string | undefined, run: Readonly<Record<string, unknown>>): string | undefined {
  if (note === undefined) return 'these predictions do not say which model they are of';
  let earlier: Record<string, unknown> = {};
  try {
    earlier = Object(JSON.parse(note));
  } catch {
    return 'what says which model these predictions are of cannot be read';
  }
  const now = JSON.parse(JSON.stringify(run)) as Record<string, unknown>;
  const names = [...new Set([...Object.keys(now), ...Object.keys(earlier)])];
  const odd = names.filter((name) => JSON.stringify(now[name]) !== JSON.stringify(earlier[name]));
  if (odd.length === 0) return undefined;
  if (odd.includes('model')) return 'these predictions are of another model';
  const shown = odd.map((name) => `${name} ${JSON.stringify(earlier[name])}, not ${JSON.stringify(now[name])}`);
  return `these predictions were made with ${shown.join('; ')}`;
}

const onDisk = (path: string): Input => ({ name: path, path, read: async () => path });

async function videoOnDisk(): Promise<(path: string) => Input> {
  const { video } = await import('../node.js');
  return (path) => ({ name: path, path, read: async () => video(path) });
}

async function asQuestion({ id, question }: Reference): Promise<Question> {
  const { numericId } = await import('../metrics/index.js'); // not at once: `--help` is quick
  if (question !== undefined) return { id: numericId(id), question };
  throw new UsageError(`question ${id} has no text: --questions names the file that has it`);
}

/** Flags with their defaults, as the command's own parser gives them. */
function parsed<Flags>({ describe }: CliCommand, args: readonly string[]): Flags {
  const command = new Command().exitOverride();
  describe(command);
  command.parse(args, { from: 'user' });
  return command.opts() as Flags;
}

/** The images of references, each with those that are about it. */
async function imagesOf({ references, images, subset, video }: PredictionRequest): Promise<Map<string, Reference[]>> {
  const find = await imageFinder(images, video);
  const found = new Map<string, Reference[]>();
  const missing: string[] = [];
  for (const item of references.items) {
    const path = await find(item);
    if (path === undefined) missing.push(item.file ?? item.imageId ?? item.id);
    else found.set(path, [...(found.get(path) ?? []), item]);
  }
  if (found.size === 0 || (missing.length > 0 && subset !== true)) {
    throw new UsageError(
      `${images}: ${video === true ? 'videos' : 'images'} of ${missing.length} of ${references.items.length} items are not there`,
      missing,
    );
  }
  return found;
}

/** Images that may be animations, and so videos. */
const ANIMATION = /\.(a?png|webp|gif|avif)$/i;

/**
 * Says where the image of an item is: by its name below `folder`, by the last part of it, or by its id, which ends the names of COCO's files. A
 * `video` may be a folder of frames too.
 */
export async function imageFinder(
  folder: string | undefined,
  video = false,
): Promise<(item: Reference) => Promise<string | undefined>> {
  const paths = new Map<string, string[]>();
  const add = (key: string, path: string): void => {
    const known = paths.get(key);
    if (known === undefined) paths.set(key, [path]);
    else if (!known.includes(path)) known.push(path);
  };
  const entries = folder === undefined ? [] : await readdir(folder, { recursive: true, withFileTypes: true });
  for (const entry of entries) {
    const { name } = entry;
    const ending = [IMAGE_ENDING, ...(video ? [VIDEO_ENDING] : [])].find((pattern) => pattern.test(name));
    const isMeant = video
      ? entry.isDirectory() || VIDEO_ENDING.test(name) || ANIMATION.test(name)
      : ending !== undefined;
    if (!isMeant) continue;
    const path = join(entry.parentPath, name);
    const stem = ending === undefined ? name : name.replace(ending, '');
    add(name, path);
    add(stem, path);
    const number = /(?:^|\D)0*(\d+)$/.exec(stem)?.[1];
    if (number !== undefined) add(number, path);
  }
  return async ({ file, imageId, id }) => {
    const name = file ?? imageId ?? id;
    for (const path of folder === undefined ? [name] : [join(folder, name), name]) {
      const found = await stat(path).catch(() => undefined);
      if (found?.isFile() === true || (video && found?.isDirectory() === true)) return path;
    }
    for (const key of [basename(name), ...(imageId === undefined ? [] : [imageId])]) {
      const found = paths.get(key) ?? [];
      if (found.length > 1) throw new UsageError(`${folder}: ${key} may be ${found[0]} or ${found[1]}`, found.slice(2));
      if (found.length === 1) return found[0];
    }
    return undefined;
  };
}
