import { stat } from 'node:fs/promises';
import type { Input } from './inputs.js';
import { UsageError } from './report.js';
import { writeWhole } from './write-whole.js';

/** Text files beside images. */
export interface Sidecars {
  has(input: Input): Promise<boolean>;
  write(input: Input, text: string): Promise<void>;
}

/**
 * Plans a sidecar for every image: `photo.jpg` with `.txt` gives `photo.txt`.
 *
 * @throws UsageError for an ending that cannot be, images that are no files, or two that would share a sidecar.
 */
export function planSidecars(inputs: readonly Input[], ending: string): Sidecars {
  if (!/^\.[^/\\]*[^/\\.]$/.test(ending)) throw new UsageError(`--sidecar ${ending}: expected an ending such as .txt`);
  const owners = new Map<string, string>();
  const paths = new Map<Input, string>();
  for (const input of inputs) {
    if (input.path === undefined) throw new UsageError(`--sidecar: ${input.name} is no file with a folder to write to`);
    const path = sidecarOf(input.path, ending);
    if (path === input.path) throw new UsageError(`--sidecar ${ending} would overwrite the image ${path}`);
    const owner = owners.get(path);
    if (owner !== undefined) throw new UsageError(`--sidecar: ${owner} and ${input.path} would both write ${path}`);
    owners.set(path, input.path);
    paths.set(input, path);
  }
  const image = inputs.find(({ path }) => owners.has(path!));
  if (image !== undefined) throw new UsageError(`--sidecar ${ending} would overwrite the image ${image.path}`);
  return {
    has: async (input) => (await stat(paths.get(input)!).catch(() => undefined))?.isFile() === true,
    write: (input, text) => writeWhole(paths.get(input)!, `${text}\n`),
  };
}

const sidecarOf = (path: string, ending: string): string => path.replace(/(?<=[^/\\])\.[^./\\]*$/, '') + ending;
