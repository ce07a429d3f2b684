import { fileURLToPath } from 'node:url';
import { HubError } from '../errors.js';
import type { ImageOptions } from '../image/image-options.js';
import type { Image2Text, NodeBackend, NodeLoadOptions, WeightFormat } from '../node.js';
import type { Context } from './context.js';
import { UsageError } from './errors.js';
import { showLoading } from './progress.js';

/** Options that say where a checkpoint comes from and where it is kept. */
export interface HubFlags {
  readonly revision?: string;
  readonly cacheDir?: string;
}

/** Options that choose and place the model, and say how images become its input. */
export interface ModelFlags extends HubFlags {
  readonly model?: string;
  readonly backend: NodeBackend;
  readonly weights: WeightFormat;
  readonly preprocessing: NonNullable<ImageOptions['preprocessing']>;
  readonly keepRatio?: NonNullable<ImageOptions['keepRatio']>;
  readonly ignoreOrientation?: boolean;
  readonly maxMegapixels?: number;
  readonly quiet?: boolean;
}

/** What is used where no model is named. */
export const DEFAULT_MODEL = 'microsoft/git-base-textcaps';

/** The demo checkpoint that comes with the package. */
export const DEMO_FOLDER = fileURLToPath(new URL('../../weights/demo', import.meta.url));

/** Starts the backend, loads the model, and frees it when `body` has ended. */
export async function withModel<T>(
  flags: ModelFlags,
  context: Context,
  body: (model: Image2Text) => Promise<T>,
): Promise<T> {
  const { signal, status } = context;
  const options = loadOptions(flags);
  const { loadImage2Text, quietTensorflow, startBackend } = await import('../node.js');
  quietTensorflow();
  await startBackend(flags.backend);
  const name = flags.model ?? DEFAULT_MODEL;
  if (flags.quiet !== true) await announceDownload(name, flags, context);
  const onProgress = showLoading(status, { quiet: flags.quiet, name });
  const model = await loadImage2Text(modelSource(name), { ...options, signal, onProgress })
    .catch((error: unknown) => {
      throw withAdvice(error, flags);
    })
    .finally(() => status.clear());
  if (model.warnings.length > 0) context.stderr(`image2text: warning: ${model.warnings.join('; ')}`);
  try {
    return await body(model);
  } finally {
    model.dispose();
  }
}

/** `demo` is the package's own; a folder of that name is `./demo`. */
export const modelSource = (name: string): string => (name === 'demo' ? DEMO_FOLDER : name);

function loadOptions(flags: ModelFlags): NodeLoadOptions {
  if (flags.keepRatio !== undefined && flags.preprocessing !== 'original') {
    throw new UsageError('--keep-ratio is for --preprocessing original');
  }
  return {
    ...hubOptions(flags),
    weights: flags.weights,
    preprocessing: flags.preprocessing,
    ...(flags.keepRatio === undefined ? {} : { keepRatio: flags.keepRatio }),
    orientation: flags.ignoreOrientation !== true,
    maxPixels: flags.maxMegapixels === undefined ? undefined : Math.max(1, Math.round(flags.maxMegapixels * 1e6)),
  };
}

/** Options of the Hub, without those that were not given. */
export const hubOptions = ({ revision, cacheDir }: HubFlags): { revision?: string; cacheDir?: string } => ({
  ...(revision === undefined ? {} : { revision }),
  ...(cacheDir === undefined ? {} : { cacheDir }),
});

/** `owner/name`, as the Hub names repositories. */
const REPOSITORY = /^[\w][\w.-]*\/[\w][\w.-]*$/;

/** A download of hundreds of megabytes is said before it begins. */
async function announceDownload(name: string, flags: ModelFlags, context: Context): Promise<void> {
  if (!REPOSITORY.test(name) || (await isFolder(name))) return;
  const { downloadSnapshot, hubCache } = await import('../node.js');
  const local = { ...hubOptions(flags), localFilesOnly: true, signal: context.signal };
  const cached = await downloadSnapshot(name, local).then(
    () => true,
    () => false,
  );
  context.signal.throwIfAborted();
  if (cached) return;
  const size = await publishedSize(name);
  const reason = flags.model === undefined ? ' (no --model was given; --model demo needs no download)' : '';
  const to = flags.cacheDir ?? hubCache(process.env);
  context.stderr(`image2text: fetching ${name}${size === undefined ? '' : `, ${size},`} into ${to}${reason}`);
}

async function isFolder(path: string): Promise<boolean> {
  const { stat } = await import('node:fs/promises');
  return (await stat(path).catch(() => undefined))?.isDirectory() === true;
}

/** Size of the weights of a checkpoint that Microsoft published: its files have four bytes a parameter. */
async function publishedSize(name: string): Promise<string | undefined> {
  const { listModels } = await import('../tools/index.js');
  const found = listModels().find(({ id }) => id === name);
  return found && `${Math.round((found.parameters * 4) / 1e6)} MB`;
}

/** The failure to fetch the default model, with what needs no download. */
function withAdvice(error: unknown, flags: ModelFlags): unknown {
  if (!(error instanceof HubError) || flags.model !== undefined) return error;
  const { file, path, code, detail } = error;
  const advice = '--model demo needs no download, and --model takes a folder with the files of a checkpoint';
  return new HubError({ file, path, code, detail: `${detail}; ${advice}`, cause: error });
}
