import { appendFile, mkdir, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { TrainingFolder } from '../training/folder.js';
import { fromDirectory } from './node-files.js';
import { sweepTemporaries, writeThrough } from './write-whole.js';

/** What a run writes. */
const RUN_FILES = ['state.safetensors', 'log.jsonl', 'report.html', 'last', 'best', 'merged'];

/**
 * A folder on this machine for `train` to write into; it is made where there is none. Files are there as a whole or not at all.
 *
 * @param options `overwrite`: what an earlier run left there is removed; all else stays
 */
export async function trainingFolder(
  path: string,
  { overwrite = false }: { readonly overwrite?: boolean | undefined } = {},
): Promise<TrainingFolder> {
  const folder = resolve(path);
  await mkdir(folder, { recursive: true });
  if (overwrite) for (const name of RUN_FILES) await rm(join(folder, name), { recursive: true, force: true });
  await sweepTemporaries(folder);
  const files = await fromDirectory(folder);
  const pathOf = async (name: string): Promise<string> => {
    const target = join(folder, name);
    await mkdir(dirname(target), { recursive: true });
    return target;
  };
  return {
    label: path,
    open: files.open,
    async write(name, pieces) {
      await writeThrough(await pathOf(name), async (file) => {
        for await (const piece of pieces) await file.writeFile(piece);
      });
    },
    append: async (name, text) => appendFile(await pathOf(name), text),
  };
}
