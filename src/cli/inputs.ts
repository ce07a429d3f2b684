import { stat } from 'node:fs/promises';
import { UsageError } from './terminal.js';

/** One picture that the command line names: its name for the results, and how to get it. */
export interface Input {
  readonly name: string;
  read(): Promise<string | Uint8Array>;
}

/** File endings that a folder or a `**` stands for. A file that is named itself may have any. */
const PICTURE_FILES = '*.{png,jpg,jpeg,jpe,jfif,webp,gif,PNG,JPG,JPEG,WEBP,GIF}';

/**
 * Files, URLs, globs (for shells that leave them), folders (their pictures, not those of folders below) and `-` for stdin, in
 * the order given; the files of a folder or glob are sorted.
 *
 * @throws UsageError when a glob or folder holds no picture, or nothing is named.
 */
export async function expandInputs(names: readonly string[]): Promise<Input[]> {
  const inputs: Input[] = [];
  for (const name of names) inputs.push(...(await expandOne(name)));
  if (inputs.length === 0) throw new UsageError('name at least one picture, folder or glob, or - for stdin');
  return inputs;
}

async function expandOne(name: string): Promise<Input[]> {
  if (name === '-') return [{ name: 'stdin', read: readStdin }];
  if (/^(https?|data|file):/i.test(name)) return [asIs(name)];
  const found = await stat(name).catch(() => undefined);
  if (found?.isDirectory() === true) return some(name, await globSorted(PICTURE_FILES, name));
  if (found === undefined && /[*?[{]/.test(name)) return some(name, await globSorted(name));
  return [asIs(name)];
}

const asIs = (name: string): Input => ({ name, read: async () => name });

function some(name: string, files: string[]): Input[] {
  if (files.length === 0) throw new UsageError(`${name}: no picture there (png, jpg, webp, gif)`);
  return files.map(asIs);
}

async function globSorted(pattern: string, folder?: string): Promise<string[]> {
  const { glob } = await import('tinyglobby');
  const files = await glob(pattern, { cwd: folder ?? process.cwd(), expandDirectories: false });
  const joined = folder === undefined ? files : files.map((file) => `${folder.replace(/[\\/]+$/, '')}/${file}`);
  return joined.sort();
}

async function readStdin(): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return new Uint8Array(Buffer.concat(chunks));
}
