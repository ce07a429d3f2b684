import type { ModelFiles } from '../checkpoint/byte-source.js';
import { HubError } from '../errors.js';
import type { Image2Text, ImageWarning, NodeBackend, WeightFormat } from '../node.js';
import type { InitialWeightsOptions } from '../training/index.js';
import type { Context } from './context.js';
import { checkStrategy, DEFAULT_MODEL, type GivenOptions, type ImageFlags, imageOptionsOf } from './options.js';
import { showLoading } from './terminal.js';

/** Options that say where a checkpoint comes from and where it is kept. */
export interface HubFlags {
  readonly revision?: string;
  readonly cacheDir?: string;
}

/** Options that choose and place the model, and say how it reads images. */
export interface ModelFlags extends HubFlags, ImageFlags {
  readonly model?: string;
  readonly backend: NodeBackend;
  readonly weights: WeightFormat;
  readonly adapter?: string;
  /** Random numbers in place of the model's weights. */
  readonly fromScratch?: InitialScheme;
  readonly seed?: number;
  readonly quiet?: boolean;
}
type InitialScheme = NonNullable<InitialWeightsOptions['scheme']>;

/**
 * Starts the backend, loads the model, and frees it when `body` has ended. `generation`: options of generation that `body` uses, if any, so
 * that one that the model's own strategy does not take is refused before the weights are read.
 */
export async function withModel<T>(
  flags: ModelFlags,
  context: Context,
  generation: GivenOptions,
  body: (model: Image2Text) => Promise<T>,
): Promise<T> {
  const { signal, status } = context;
  const options = { weights: flags.weights, ...imageOptionsOf(flags) };
  const { quietTensorflow, startBackend } = await import('../node.js');
  const { openGenerationConfig, prepareBackend } = await import('../image2text/load.js');
  quietTensorflow();
  await startBackend(flags.backend);
  await prepareBackend(options); // before a download of hundreds of megabytes
  const onWarning = ({ file, warning }: ImageWarning) => context.stderr(`image2text: warning: ${file}: ${warning}`);
  const onProgress = showLoading(status, { quiet: flags.quiet, name: flags.model ?? DEFAULT_MODEL });
  const load = async (): Promise<Image2Text> => {
    const files = await initialized(await openModelFiles(flags, context), flags);
    if (generation.strategy === undefined) {
      checkStrategy(generation, (await openGenerationConfig(files))?.strategy ?? 'original');
    }
    return context.loadModel(files, { ...options, signal, onProgress, onWarning });
  };
  const model = await load().finally(() => status.clear());
  if (flags.adapter !== undefined) {
    try {
      await applyAdapter(model, flags.adapter);
    } catch (error) {
      model.dispose();
      throw error;
    }
  }
  if (model.warnings.length > 0) context.stderr(`image2text: warning: ${model.warnings.join('; ')}`);
  try {
    return await body(model);
  } finally {
    model.dispose();
  }
}

/** The model's files, with weights of random numbers where they are asked for. */
async function initialized(files: ModelFiles, { fromScratch, seed }: ModelFlags): Promise<ModelFiles> {
  if (fromScratch === undefined) return files;
  const { withInitialWeights } = await import('../training/index.js');
  return withInitialWeights(files, { scheme: fromScratch, seed });
}

async function applyAdapter(model: Image2Text, folder: string): Promise<void> {
  const { fromDirectory } = await import('../node.js');
  const { disposeAdapter, loadAdapter } = await import('../training/index.js');
  const adapter = await loadAdapter(await fromDirectory(folder), model);
  try {
    model.useAdapter(adapter);
  } finally {
    disposeAdapter(adapter); // merged into weights of its own
  }
}

/** The files of the model that the flags name, downloaded where they have to be. */
export async function openModelFiles(
  flags: HubFlags & Pick<ModelFlags, 'model' | 'quiet'>,
  context: Context,
): Promise<ModelFiles> {
  const { openModel } = await import('../platform/open-model.js');
  const { signal, status } = context;
  const name = flags.model ?? DEFAULT_MODEL;
  if (flags.quiet !== true) await announceDownload(name, flags, context);
  const onProgress = showLoading(status, { quiet: flags.quiet, name });
  return openModel(name, { ...hubOptions(flags), signal, onProgress })
    .catch((error: unknown) => {
      throw withAdvice(error, flags);
    })
    .finally(() => status.clear());
}

/** Options of the Hub, without those that were not given. */
export const hubOptions = ({ revision, cacheDir }: HubFlags): { revision?: string; cacheDir?: string } => ({
  ...(revision === undefined ? {} : { revision }),
  ...(cacheDir === undefined ? {} : { cacheDir }),
});

/** `owner/name`, as the Hub names repositories. */
const REPOSITORY = /^[\w][\w.-]*\/[\w][\w.-]*$/;

/** A download of hundreds of megabytes is said before it begins. */
async function announceDownload(
  name: string,
  flags: HubFlags & Pick<ModelFlags, 'model'>,
  context: Context,
): Promise<void> {
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
function withAdvice(error: unknown, flags: Pick<ModelFlags, 'model'>): unknown {
  if (!(error instanceof HubError) || flags.model !== undefined) return error;
  const { file, path, code, detail } = error;
  const advice = '--model demo needs no download, and --model takes a folder with the files of a checkpoint';
  return new HubError({ file, path, code, detail: `${detail}; ${advice}`, cause: error });
}
