import { readdir, stat } from 'node:fs/promises';

const IMAGE = /\.(png|jpe?g|jpe|jfif|webp|gif)$/i;

/**
 * The images of a folder, sorted by name; `recursive`: with those of all folders below it. Hidden files and folders are left out, and
 * linked folders are not followed below the first, so that a link to a parent cannot go on for ever.
 */
export async function imagesBelow(folder: string, recursive: boolean): Promise<string[]> {
  const at = folder.replace(/(?<=.)[\\/]+$/, '');
  const prefix = /[\\/]$/.test(at) ? at : `${at}/`;
  const found: string[] = [];
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (entry.name.startsWith('.')) continue;
    const path = prefix + entry.name;
    if (entry.isDirectory() && recursive) found.push(...(await imagesBelow(path, true)));
    else if (IMAGE.test(entry.name) && (entry.isFile() || (entry.isSymbolicLink() && (await isFile(path))))) {
      found.push(path);
    }
  }
  return found.sort();
}

/** A dangling link counts as a file: that it cannot be read is to be said, not passed over. */
const isFile = async (path: string): Promise<boolean> => {
  const found = await stat(path).catch(() => undefined);
  return found === undefined || found.isFile();
};
