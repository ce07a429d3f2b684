import { open, realpath, stat } from 'node:fs/promises';
import { join, resolve, sep } from 'node:path';
import type { ByteSource, ModelFiles } from '../checkpoint/byte-source.js';
import { ConfigError, Image2TextError } from '../errors.js';

/** A file on disk as a byte source; it is opened for each read and closed after it, so that no handle can be left behind. */
export async function fromFile(path: string): Promise<ByteSource> {
  const { size } = await stat(path);
  return {
    size,
    slice: (start, end) => ({
      async arrayBuffer() {
        const bytes = new Uint8Array(Math.max(0, Math.min(end, size) - start));
        await fill(path, start, bytes);
        return bytes.buffer;
      },
    }),
    readInto: (start, target) => fill(path, start, target),
  };
}

/** Reads `target.length` bytes from `start` on into `target`. */
async function fill(path: string, start: number, target: Uint8Array): Promise<void> {
  const handle = await open(path, 'r');
  try {
    for (let done = 0; done < target.length; ) {
      const { bytesRead } = await handle.read(target, done, target.length - done, start + done);
      if (bytesRead === 0) {
        const detail = `it ended at byte ${start + done} while it was read; did it change?`;
        throw new Image2TextError({ file: path, offset: start + done, code: 'file-changed', detail });
      }
      done += bytesRead;
    }
  } finally {
    await handle.close();
  }
}

/**
 * A checkpoint folder on disk. Only plain file names of that folder are opened; symbolic links may point anywhere, as those of the
 * Hugging Face cache do.
 *
 * @throws ConfigError when the path is not a folder.
 */
export async function fromDirectory(path: string): Promise<ModelFiles> {
  const folder = resolve(path);
  const found = await stat(folder).catch(() => undefined);
  if (found?.isDirectory() !== true) {
    const detail = found === undefined ? 'there is no such folder' : 'this is not a folder';
    throw new ConfigError({
      file: path,
      code: 'not-a-folder',
      detail: `${detail}; a checkpoint is a folder with config.json and weights`,
    });
  }
  return {
    label: path,
    async open(name) {
      const file = join(folder, name);
      if (!file.startsWith(folder.endsWith(sep) ? folder : folder + sep)) return undefined;
      const there = await stat(file).catch(() => undefined);
      return there?.isFile() === true ? fromFile(await realpath(file)) : undefined;
    },
  };
}
