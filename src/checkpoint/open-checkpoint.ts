import { WeightError } from '../errors.js';
import type { ByteSource, ModelFiles } from './byte-source.js';
import { readSafetensors } from './safetensors.js';
import { readSharded } from './sharded.js';
import type { TensorMap } from './stored-tensor.js';

/** A checkpoint whose headers were read and checked, and none of whose tensors was. */
export interface OpenCheckpoint {
  readonly tensors: TensorMap;
  readonly format: CheckpointFormat;
  /** The files that hold it. */
  readonly files: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  /** What is odd, but harmless. */
  readonly warnings: readonly string[];
}

export type CheckpointFormat = 'safetensors' | 'safetensors-sharded';
type Opener = (files: ModelFiles, name: string, source: ByteSource) => Promise<OpenCheckpoint>;

async function openSafetensors(_files: ModelFiles, name: string, source: ByteSource): Promise<OpenCheckpoint> {
  return { format: 'safetensors', files: [name], warnings: [], ...(await readSafetensors(source, name)) };
}

async function openShardedSafetensors(files: ModelFiles, name: string, source: ByteSource): Promise<OpenCheckpoint> {
  return { format: 'safetensors-sharded', ...(await readSharded(files, { name, source }, readSafetensors)) };
}

/** In the order in which they are looked for. */
const FORMATS: readonly (readonly [name: string, open: Opener])[] = [
  ['model.safetensors', openSafetensors],
  ['model.safetensors.index.json', openShardedSafetensors],
];

/**
 * Opens the checkpoint of a folder: the first of the known file names that is there. A file that is there and broken is an error;
 * nothing else is tried in its place. Throws WeightError (`no-weights`) when there is none, else what reading the file throws.
 */
export async function openCheckpoint(files: ModelFiles): Promise<OpenCheckpoint> {
  for (const [name, open] of FORMATS) {
    const source = await files.open(name);
    if (source) return open(files, name, source);
  }
  const names = FORMATS.map(([name]) => name).join(', ');
  throw new WeightError({ file: files.label, rule: 'no-weights', detail: `no weights here; looked for ${names}` });
}
