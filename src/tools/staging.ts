import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rename, rm, rmdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { OptionError } from '../errors.js';
import { whatIsAt, writeError } from './files.js';

/**
 * Runs `body` with an empty folder beside `destination`, which takes its place when `body` has ended well and is removed when not.
 *
 * @throws OptionError (`destination-exists`); Image2TextError (`cannot-write`); what `body` throws.
 */
export async function withStaging<T>(
  destination: string,
  overwrite: boolean,
  body: (staging: string) => Promise<T>,
): Promise<T> {
  const staging = join(dirname(destination), `.${basename(destination)}.${randomUUID()}.unfinished`);
  try {
    await mkdir(staging, { recursive: true });
    const result = await body(staging);
    await publish(staging, destination, overwrite);
    return result;
  } catch (error) {
    await rm(staging, { recursive: true, force: true }).catch(() => undefined);
    throw writeError(error, destination);
  }
}

/** Throws OptionError (`destination-exists`) where files would be in the way. */
export async function checkDestination(destination: string, overwrite: boolean): Promise<void> {
  const there = await whatIsAt(destination);
  if (there === 'nothing' || there === 'empty' || (there === 'folder' && overwrite)) return;
  const detail =
    there === 'file' ? 'this is a file; name a folder' : 'there are files in it; ask for overwriting, or name another';
  throw new OptionError({ file: destination, path: 'destination', code: 'destination-exists', detail });
}

/** One rename where the place is free; else file by file, since other files of that folder are none of our business. */
async function publish(staging: string, destination: string, overwrite: boolean): Promise<void> {
  if ((await whatIsAt(destination)) === 'empty') await rmdir(destination);
  if ((await whatIsAt(destination)) === 'nothing') return rename(staging, destination);
  await checkDestination(destination, overwrite); // it may have come while we were writing
  const fresh = await readdir(staging);
  for (const old of await readdir(destination)) {
    if (isWeights(old) && !fresh.includes(old)) await rm(join(destination, old));
  }
  for (const name of fresh) await rename(join(staging, name), join(destination, name));
  await rmdir(staging);
}

/** Weights of an earlier conversion: left there, they would be loaded instead of, or together with, the new ones. */
const isWeights = (name: string): boolean =>
  /^(model|pytorch_model)(-\d{5}-of-\d{5})?\.(safetensors|bin)(\.index\.json)?$/.test(name) || name === 'model.pt';
