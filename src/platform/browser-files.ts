import type { ModelFiles } from '../checkpoint/byte-source.js';

/** Files that a user chose or dropped, as a checkpoint folder. Names are taken without folders. */
export function fromFiles(files: Iterable<File>, label = 'chosen files'): ModelFiles {
  const byName = new Map([...files].map((file) => [file.name, file]));
  return { label, open: async (name) => byName.get(name) };
}
