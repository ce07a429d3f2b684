import { open, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/**
 * Writes a file so that it is either there as a whole or not at all, whenever the process is killed: into a hidden file beside it,
 * which then takes its name. The hidden file's name depends on the file's alone, so that a later run overwrites what a killed one left.
 */
export async function writeWhole(path: string, content: string | Uint8Array): Promise<void> {
  const part = partOf(path);
  try {
    const handle = await open(part, 'w');
    try {
      await handle.writeFile(content);
      await handle.sync(); // else a power cut could leave the name without the content
    } finally {
      await handle.close();
    }
    await rename(part, path);
  } catch (error) {
    await unlink(part).catch(() => {});
    throw error;
  }
}

/** Where `writeWhole` writes first. */
export const partOf = (path: string): string => join(dirname(path), `.${basename(path)}.image2text-part`);
