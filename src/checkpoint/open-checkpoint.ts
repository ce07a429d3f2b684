import { TorchFileError, WeightError } from '../errors.js';
import { type ByteSource, type ModelFiles, readBytes } from './byte-source.js';
import { attachScales } from './dtypes.js';
import { fromOriginalLayout, isOriginalLayout } from './original-layout.js';
import { readSafetensors } from './safetensors.js';
import { readSharded } from './sharded.js';
import { renameTensors, type TensorMap } from './stored-tensor.js';
import { looksLikeTorch, readPytorch } from './torch/torch-file.js';

/** A checkpoint whose headers were read and checked, and none of whose tensors was. */
export interface OpenCheckpoint {
  /** By Hugging Face's names, whatever the layout of the files. */
  readonly tensors: TensorMap;
  readonly format: CheckpointFormat;
  /** Whose names the files use. */
  readonly layout: 'hugging-face' | 'original';
  /** The files that hold it. */
  readonly files: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  /** What is odd, but harmless. */
  readonly warnings: readonly string[];
}

export type CheckpointFormat = 'safetensors' | 'safetensors-sharded' | 'pytorch' | 'pytorch-sharded';
type Opened = Omit<OpenCheckpoint, 'layout'>;
type Opener = (files: ModelFiles, name: string, source: ByteSource) => Promise<Opened>;

async function openSafetensors(_files: ModelFiles, name: string, source: ByteSource): Promise<Opened> {
  return { format: 'safetensors', files: [name], warnings: [], ...(await readSafetensors(source, name)) };
}

async function openShardedSafetensors(files: ModelFiles, name: string, source: ByteSource): Promise<Opened> {
  return { format: 'safetensors-sharded', ...(await readSharded(files, { name, source }, readSafetensors)) };
}

async function openPytorch(_files: ModelFiles, name: string, source: ByteSource): Promise<Opened> {
  return { format: 'pytorch', files: [name], warnings: [], metadata: {}, ...(await readPytorch(source, name)) };
}

async function openShardedPytorch(files: ModelFiles, name: string, source: ByteSource): Promise<Opened> {
  return { format: 'pytorch-sharded', ...(await readSharded(files, { name, source }, readPytorch, TorchFileError)) };
}

/** In the order in which they are looked for: what cannot hide a program comes first. */
const FORMATS: readonly (readonly [name: string, open: Opener])[] = [
  ['model.safetensors', openSafetensors],
  ['model.safetensors.index.json', openShardedSafetensors],
  ['pytorch_model.bin', openPytorch],
  ['pytorch_model.bin.index.json', openShardedPytorch],
  ['model.pt', openPytorch],
];

/**
 * Opens the checkpoint of a folder: the first of the known file names that is there. A file that is there and broken is an error;
 * nothing else is tried in its place. Throws WeightError (`no-weights`) when there is none, else what reading the file throws.
 */
export async function openCheckpoint(files: ModelFiles): Promise<OpenCheckpoint> {
  for (const [name, open] of FORMATS) {
    const source = await files.open(name);
    if (source) return byOurNames(await open(files, name, source));
  }
  const names = FORMATS.map(([name]) => name).join(', ');
  throw new WeightError({ file: files.label, code: 'no-weights', detail: `no weights here; looked for ${names}` });
}

/**
 * Opens one file of weights, whatever its name: an index by its ending (its shards come from `files`), else by what it begins with.
 * Throws what reading the file throws.
 */
export async function openWeights(files: ModelFiles, name: string, source: ByteSource): Promise<OpenCheckpoint> {
  return byOurNames(await (await openerOf(name, source))(files, name, source));
}

async function openerOf(name: string, source: ByteSource): Promise<Opener> {
  if (/\.index\.json$/.test(name)) return /\.(bin|pt|pth)\./.test(name) ? openShardedPytorch : openShardedSafetensors;
  if (/\.safetensors$/.test(name)) return openSafetensors;
  if (/\.(bin|pt|pth|ckpt)$/.test(name)) return openPytorch;
  return looksLikeTorch(await readBytes(source, 0, Math.min(2, source.size))) ? openPytorch : openSafetensors;
}

function byOurNames(opened: Opened): OpenCheckpoint {
  const stored = withoutWrappers(opened.tensors);
  if (!isOriginalLayout(stored)) {
    const tensors = attachScales(stored, opened.metadata, opened.files[0]!);
    return { ...opened, layout: 'hugging-face', tensors };
  }
  return { ...opened, layout: 'original', tensors: fromOriginalLayout(stored) };
}

/** What torch.compile, data-parallel training and training code put before every name of the model that they wrap. */
const WRAPPERS = ['_orig_mod.', 'module.', 'model.'];
const MAX_WRAPPERS = 8;

/** The same tensors without such prefixes, in any order and number, as far as all names begin with them. */
function withoutWrappers(tensors: TensorMap): TensorMap {
  let result = tensors;
  for (let count = 0; count < MAX_WRAPPERS; count++) {
    const names = [...result.keys()];
    const prefix = WRAPPERS.find((wrapper) => names.every((name) => name.startsWith(wrapper)));
    if (prefix === undefined || names.length === 0) break;
    result = renameTensors(result, (name) => name.slice(prefix.length));
  }
  return result;
}
