/**
 * Writing files that are there as a whole or not at all, whenever the process is killed: into a temporary file beside them, created
 * exclusively, which then takes their name. A link or a FIFO that somebody put where the temporary file would go is never opened.
 */
import { createHash, randomBytes } from 'node:crypto';
import { constants, type FileHandle, open, readdir, rename, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';

const MACHINE = createHash('sha256').update(hostname()).digest('hex').slice(0, 4);
const PATTERN = /^\.i2t-([0-9a-f]{4})-(\d+)-[0-9a-f]{8}\.part$/;

/** A name of 30 bytes or so whatever the target is called, which says whose process made it. */
const temporaryName = (): string => `.i2t-${MACHINE}-${process.pid}-${randomBytes(4).toString('hex')}.part`;

/** A path in `folder` for a temporary file, link or folder; create it exclusively (`wx`, `symlink`, `link`, `mkdir`). */
export const temporaryIn = (folder: string): string => join(folder, temporaryName());

/** The same beside a file whose path is bytes that are not UTF-8. */
const temporaryBeside = (path: Buffer): Buffer =>
  Buffer.concat([path.subarray(0, path.lastIndexOf('/') + 1), Buffer.from(temporaryName())]);

/**
 * Gives `write` a new file and, when it resolves, brings the bytes to the disk and the file to `path`, replacing what is there. On
 * failure nothing is left. `folder` is where the temporary file goes, on the same file system; the folder of `path` by default.
 * Throws as `node:fs` and `write` do.
 */
export async function writeThrough(
  path: string | Buffer,
  write: (file: FileHandle) => Promise<void>,
  folder?: string,
): Promise<void> {
  const temporary =
    typeof path === 'string' || folder !== undefined
      ? temporaryIn(folder ?? dirname(path as string))
      : temporaryBeside(path);
  const file = await open(temporary, 'wx');
  try {
    try {
      await write(file);
      await file.sync(); // else a power cut could leave the name without the content
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw error;
  }
}

/** Writes a file as a whole; see `writeThrough`. */
export const writeWhole = (path: string | Buffer, content: string | Uint8Array, folder?: string): Promise<void> =>
  writeThrough(path, (file) => file.writeFile(content), folder);

/**
 * Opens what must be a plain file, and for writing one of a single name: a FIFO in its place would block for ever, a link would lead
 * elsewhere. `refusal` makes the error from what is there instead.
 * Throws that, and as `node:fs` does.
 */
export async function openPlainFile(
  path: string,
  flags: number,
  refusal: (what: string, cause?: unknown) => Error,
): Promise<FileHandle> {
  const { O_NOFOLLOW = 0, O_NONBLOCK = 0 } = constants; // not on Windows
  const forReading = flags === constants.O_RDONLY; // then a link does no harm
  const file = await open(path, flags | O_NONBLOCK | (forReading ? 0 : O_NOFOLLOW)).catch((error) => {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENXIO') throw refusal('something that is no file', error); // a FIFO that nobody reads
    throw code === 'ELOOP' ? refusal('a symbolic link', error) : error;
  });
  const stats = await file.stat();
  if (stats.isFile() && (stats.nlink === 1 || forReading)) return file;
  await file.close();
  throw refusal(stats.isFile() ? 'a file with a second name' : 'something that is no file');
}

/** Removes what killed processes of this machine left in a folder. Files of living processes and of other machines stay. */
export async function sweepTemporaries(folder: string): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    const [, machine, pid] = PATTERN.exec(name) ?? [];
    if (machine === MACHINE && !isRunning(Number(pid)))
      await rm(join(folder, name), { recursive: true, force: true }).catch(() => undefined);
  }
}

/** Is there a process of that number on this machine? */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: unknown }).code !== 'ESRCH'; // EPERM: it runs as somebody else
  }
}
