import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readdir, readFile, stat } from 'node:fs/promises';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { Image2TextError, ImageError } from 'generative-image2text';
import { IMAGE_ENDING } from 'generative-image2text/node';
import { fetchPublic } from '../addresses.js';
import { UsageError } from '../command-line.js';
import { decodeBase64 } from '../requests.js';
import type { Shard } from './run.js';
import type { ResultStore } from './store.js';

const LINE_FEED = 0x0a;
const TAB = 0x09;

/** Where the images are, cut into shards. */
export interface Plan {
  /** A hash of what is there. */
  readonly inputs: string;
  readonly shards: readonly Shard[];
  /** Names or addresses, a line of JSON each, that are put beside the results; where the source is no file of its own. */
  readonly list: Uint8Array | undefined;
}

/**
 * Cuts a source into shards: folders (with all folders below them), JSONL of paths and addresses, TSV files with images in base64, tar
 * files. Every worker must see paths under the same names.
 *
 * @throws UsageError where there is nothing.
 */
export async function planShards(sources: readonly string[], shardSize: number): Promise<Plan> {
  const hash = createHash('sha256');
  const shards: Shard[] = [];
  const list: { key: string; image: string }[] = [];
  for (const source of sources) {
    const path = resolve(source);
    const found = await stat(path).catch(() => undefined);
    if (found === undefined) throw new UsageError(`${source}: there is no such file or folder`);
    if (found.isDirectory()) {
      const names = await filesBelow(path);
      const tars = names.filter((name) => name.endsWith('.tar'));
      for (const name of tars) shards.push(...(await planTar(join(path, name), shardSize, hash)));
      const images = tars.length > 0 ? [] : names.filter((name) => IMAGE_ENDING.test(name));
      for (const name of images) {
        hash.update(`${name}\0${(await stat(join(path, name))).size}\0`);
        list.push({ key: name, image: join(path, name) });
      }
    } else if (path.endsWith('.tar')) shards.push(...(await planTar(path, shardSize, hash)));
    else if (path.endsWith('.tsv')) shards.push(...(await planTsv(path, found.size, shardSize, hash)));
    else if (/\.(jsonl|ndjson)$/.test(path)) list.push(...(await readList(path, hash)));
    else throw new UsageError(`${source}: expected a folder, .jsonl, .tsv or .tar`);
  }
  const written = writeList(list, shardSize);
  const all = [...shards, ...written.shards];
  if (all.length === 0) throw new UsageError(`${sources.join(', ')}: no image there`);
  return { inputs: hash.digest('hex'), shards: all, list: list.length === 0 ? undefined : written.bytes };
}

/** The name of the list below the folder of a run. */
export const LIST = 'inputs.jsonl';

async function filesBelow(folder: string): Promise<string[]> {
  const found: string[] = [];
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  for (const entry of entries) {
    if (!entry.isFile() && !entry.isSymbolicLink()) continue;
    const path = join(entry.parentPath, entry.name)
      .slice(folder.length + 1)
      .replaceAll('\\', '/');
    if (!path.split('/').some((part) => part.startsWith('.'))) found.push(path);
  }
  return found.sort();
}

function writeList(list: readonly { key: string; image: string }[], shardSize: number) {
  const shards: Shard[] = [];
  const parts: Buffer[] = [];
  let at = 0;
  for (let first = 0; first < list.length; first += shardSize) {
    const part = list.slice(first, first + shardSize);
    const bytes = Buffer.from(part.map((one) => `${JSON.stringify(one)}\n`).join(''));
    shards.push({ kind: 'list', file: LIST, start: at, end: at + bytes.length, count: part.length, first: first + 1 });
    parts.push(bytes);
    at += bytes.length;
  }
  return { shards, bytes: new Uint8Array(Buffer.concat(parts)) };
}

/** Lines of a text, or of an object with `image`, `path`, `file` or `url`; `key` or `id` names it in the results. */
async function readList(path: string, hash: Hash): Promise<{ key: string; image: string }[]> {
  const text = await readFile(path, 'utf8');
  hash.update(text);
  return text.split('\n').flatMap((line, n) => {
    if (line.trim() === '') return [];
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      throw new Image2TextError({
        file: path,
        path: `line ${n + 1}`,
        code: 'not-json',
        detail: 'expected a line of JSON',
      });
    }
    const one = Object(typeof value === 'string' ? { image: value } : value) as Record<string, unknown>;
    const image = one['image'] ?? one['path'] ?? one['file'] ?? one['url'];
    if (typeof image !== 'string')
      throw new Image2TextError({
        file: path,
        path: `line ${n + 1}`,
        code: 'no-image',
        detail: 'expected "image": a path or address',
      });
    const isPath = !/^[a-z][a-z0-9+.-]*:\/\//i.test(image);
    const key = one['key'] ?? one['id'] ?? image;
    return [{ key: String(key), image: isPath && !isAbsolute(image) ? join(dirname(path), image) : image }];
  });
}

/** Where the lines of a TSV begin: from its `.lineidx` (the original project's), else by reading it. */
async function planTsv(file: string, size: number, shardSize: number, hash: Hash): Promise<Shard[]> {
  const index = await readFile(file.replace(/\.tsv$/, '.lineidx'), 'utf8').catch(() => undefined);
  const starts =
    index === undefined
      ? await scanLines(file, hash)
      : index
          .split('\n')
          .filter((line) => line !== '')
          .map(Number);
  if (starts.some((start, n) => !Number.isSafeInteger(start) || start >= size || (n > 0 && start <= starts[n - 1]!)))
    throw new Image2TextError({ file, code: 'line-index', detail: 'its .lineidx does not fit the file' });
  hash.update(`${size}\0${starts.join(' ')}\0`);
  const shards: Shard[] = [];
  for (let first = 0; first < starts.length; first += shardSize) {
    const count = Math.min(shardSize, starts.length - first);
    const end = starts[first + count] ?? size;
    shards.push({ kind: 'tsv', file, start: starts[first]!, end, count, first: first + 1 });
  }
  return shards;
}

async function scanLines(file: string, hash: Hash): Promise<number[]> {
  const starts: number[] = [];
  let at = 0;
  let atStart = true;
  for await (const chunk of createReadStream(file, { highWaterMark: 2 ** 20 }) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    for (let from = 0; from < chunk.length; ) {
      if (atStart) starts.push(at + from);
      const found = chunk.indexOf(LINE_FEED, from);
      atStart = found >= 0;
      from = found < 0 ? chunk.length : found + 1;
    }
    at += chunk.length;
  }
  return starts;
}

const BLOCK = 512;

interface Member {
  readonly name: string;
  readonly header: number;
  readonly start: number;
  readonly size: number;
  readonly next: number;
}

/** Members of a tar file (ustar, pax, GNU) between two places. */
async function* tarMembers(file: string, from: number, to: number): AsyncGenerator<Member, void, void> {
  const fail = (detail: string): never => {
    throw new Image2TextError({ file, code: 'tar', detail });
  };
  const handle = await open(file, 'r');
  const read = async (at: number, length: number): Promise<Buffer> => {
    const bytes = Buffer.alloc(length);
    const { bytesRead } = await handle.read(bytes, 0, length, at);
    return bytesRead === length ? bytes : fail(`it ends at ${at + bytesRead}, in the middle of a member`);
  };
  try {
    let longName: string | undefined;
    let begin = from;
    for (let at = from; at + BLOCK <= to; ) {
      const block = await read(at, BLOCK);
      if (block.every((byte) => byte === 0)) return;
      const text = (start: number, length: number): string =>
        block
          .subarray(start, start + length)
          .toString('utf8')
          .replace(/\0.*$/s, '');
      const sum = block.reduce((total, byte, n) => total + (n >= 148 && n < 156 ? 0x20 : byte), 0);
      if (Number.parseInt(text(148, 8).trim(), 8) !== sum) fail(`what is at ${at} is no header`);
      const size =
        (block[124]! & 0x80) !== 0
          ? Number(block.readBigUInt64BE(128))
          : Number.parseInt(text(124, 12).trim() || '0', 8);
      const type = String.fromCharCode(block[156]!);
      const start = at + BLOCK;
      const next = start + Math.ceil(size / BLOCK) * BLOCK;
      if (!Number.isSafeInteger(next)) fail(`the size at ${at} is no number`);
      const isExtension = type === 'L' || type === 'x';
      if (isExtension && size > 2 ** 20) fail(`the name at ${at} is too long`);
      if (type === 'L') longName = (await read(start, size)).toString('utf8').replace(/\0.*$/s, '');
      if (type === 'x')
        longName = /(?:^|\n)\d+ path=([^\n]*)\n/.exec((await read(start, size)).toString('utf8'))?.[1] ?? longName;
      if (type === '0' || type === '\0') {
        const prefix = text(257, 5) === 'ustar' ? text(345, 155) : '';
        yield {
          name: longName ?? (prefix === '' ? text(0, 100) : `${prefix}/${text(0, 100)}`),
          header: begin,
          start,
          size,
          next,
        };
      }
      if (!isExtension) {
        longName = undefined;
        begin = next;
      }
      at = next;
    }
  } finally {
    await handle.close();
  }
}

async function planTar(file: string, shardSize: number, hash: Hash): Promise<Shard[]> {
  const shards: Shard[] = [];
  let open: { start: number; end: number; count: number; first: number } | undefined;
  let seen = 0;
  const { size } = await stat(file);
  for await (const { name, header, size: bytes, next } of tarMembers(file, 0, size)) {
    if (!IMAGE_ENDING.test(name)) continue;
    hash.update(`${name}\0${header}\0${bytes}\0`);
    seen++;
    open ??= { start: header, end: next, count: 0, first: seen };
    open = { ...open, end: next, count: open.count + 1 };
    if (open.count < shardSize) continue;
    shards.push({ kind: 'tar', file, ...open });
    open = undefined;
  }
  if (open !== undefined) shards.push({ kind: 'tar', file, ...open });
  return shards;
}

/** One image of a shard. */
export interface Item {
  readonly line: number;
  readonly key: string;
  /** @throws ImageError for an image that cannot be had; what else is thrown may be over later. */
  read(signal: AbortSignal): Promise<Uint8Array>;
}

/** The images of a shard, in order. */
export async function readItems(shard: Shard, run: string, store: ResultStore, fetch: string): Promise<Item[]> {
  if (shard.kind === 'tar') return readTar(shard);
  const bytes =
    shard.kind === 'list'
      ? await store.read(`${run}/${shard.file}`, shard.start, shard.end)
      : await readRange(shard.file, shard.start, shard.end);
  if (bytes === undefined)
    throw new Image2TextError({ file: shard.file, code: 'missing', detail: 'the list of inputs is gone' });
  const lines: Buffer[] = [];
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let from = 0; from < all.length; ) {
    const found = all.indexOf(LINE_FEED, from);
    const to = found < 0 ? all.length : found;
    lines.push(all.subarray(from, to));
    from = to + 1;
  }
  if (lines.length !== shard.count)
    throw new Image2TextError({
      file: shard.file,
      code: 'file-changed',
      detail: `${lines.length} lines where ${shard.count} were`,
    });
  return lines.map((line, n): Item => {
    const number = shard.first + n;
    if (shard.kind === 'list') {
      const { key, image } = JSON.parse(line.toString('utf8')) as { key: string; image: string };
      return { line: number, key, read: (signal) => readImage(image, fetch, signal) };
    }
    const tab = line.indexOf(TAB);
    const second = tab < 0 ? -1 : line.indexOf(TAB, tab + 1);
    const key = tab < 0 ? `line ${number}` : line.subarray(0, tab).toString('utf8').trim();
    const value = line.subarray(tab + 1, second < 0 ? line.length : second);
    return { line: number, key, read: async () => fromBase64(value, tab >= 0, shard.file, number) };
  });
}

function fromBase64(value: Buffer, hasTab: boolean, file: string, line: number): Uint8Array {
  const bytes = hasTab ? decodeBase64(value.toString('latin1').trim()) : undefined;
  if (bytes !== undefined) return bytes;
  throw new ImageError({
    file,
    path: `line ${line}`,
    code: 'tsv-base64',
    detail: 'expected a key, a tab and an image in base64',
  });
}

async function readTar({ file, start, end, first, count }: Shard): Promise<Item[]> {
  const items: Item[] = [];
  for await (const { name, start: at, size } of tarMembers(file, start, end)) {
    if (!IMAGE_ENDING.test(name)) continue;
    const line = first + items.length;
    items.push({ line, key: name, read: () => readRange(file, at, at + size) });
  }
  if (items.length === count) return items;
  throw new Image2TextError({ file, code: 'file-changed', detail: `${items.length} images where ${count} were` });
}

async function readRange(file: string, start: number, end: number): Promise<Uint8Array> {
  const handle = await open(file, 'r');
  try {
    const bytes = new Uint8Array(end - start);
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, start);
    if (bytesRead === bytes.length) return bytes;
  } finally {
    await handle.close();
  }
  throw new Image2TextError({ file, code: 'file-changed', detail: 'it got shorter' });
}

/** Most bytes of an image file. */
const MAX_IMAGE_BYTES = 256 * 2 ** 20;
const TRIES = 3;
const PAUSE_MS = 1000;

/** A path or an address. What is not there is the image's own failure; a disk or a network that fails is not. */
async function readImage(image: string, fetch: string, signal: AbortSignal): Promise<Uint8Array> {
  if (/^https?:/i.test(image)) {
    if (fetch === 'none')
      throw new ImageError({ file: image, code: 'addresses-not-allowed', detail: 'this worker fetches none' });
    for (let tries = 1; ; tries++) {
      try {
        return await fetchPublic(image, { maxBytes: MAX_IMAGE_BYTES, allowPrivate: fetch === 'all', signal });
      } catch (error) {
        const again =
          error instanceof ImageError && (error.code === 'cannot-fetch' || /answered (5|429)/.test(error.detail));
        if (!again || tries === TRIES) throw error;
        await new Promise((resolve) => setTimeout(resolve, tries * PAUSE_MS));
      }
    }
  }
  try {
    return new Uint8Array(await readFile(image, { signal }));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'EISDIR' || code === 'EACCES')
      throw new ImageError({ file: image, code: 'cannot-open', detail: code, cause: error });
    throw error;
  }
}
