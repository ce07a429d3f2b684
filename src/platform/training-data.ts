import { constants, lstat, mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { Image2TextError } from '../errors.js';
import { IMAGE_ENDING } from '../file-signature.js';
import type { TrainingFolder } from '../training/checkpoint.js';
import type { TrainingPair } from '../training/data.js';
import { pairsOfRow, shardPairs } from '../training/shards.js';
import { fromDirectory, fromFile } from './node-files.js';
import { indexTsv, readBase64, readCsv, readLines, readValue } from './tables.js';
import { openPlainFile, sweepTemporaries, writeThrough } from './write-whole.js';

/**
 * Pairs on this machine, for `train`; images are opened when they are needed.
 *
 * - a folder: images with their text in a `.txt` of the same name beside them, also in folders below; or a `metadata.jsonl` or `metadata.csv`, as Hugging Face's
 *   imagefolder has it; or webdataset shards (`*.tar`);
 * - `.jsonl`: `file_name`, `image` or `file`; `text`, `caption` or `answer`, or a list in `captions` or `references`; also `prompt` or `question`;
 * - `.csv`: the same names in its first line, without lists;
 * - `.tsv`: the original's images in base64 (NAME.img.tsv or NAME.tsv) with NAME.caption.tsv beside it;
 * - `.tar`: a webdataset shard.
 *
 * What is wrong with a pair is an error in its place, which `train` reports with its line.
 *
 * @throws Image2TextError (`no-such-data`) for what is none of them
 */
export async function* trainingPairs(path: string): AsyncGenerator<TrainingPair | Error, void, void> {
  const found = await stat(path).catch(() => undefined);
  const fail = (detail: string): never => {
    throw new Image2TextError({ file: path, code: 'no-such-data', detail });
  };
  if (found === undefined) return fail('there is no such file or folder');
  if (found.isDirectory()) yield* folderPairs(path, fail);
  else if (/\.jsonl$/i.test(path)) yield* jsonPairs(path);
  else if (/\.csv$/i.test(path)) yield* csvPairs(path);
  else if (/\.tsv$/i.test(path)) yield* tsvPairs(path);
  else if (/\.tar$/i.test(path)) yield* shardPairs(await fromFile(path), path);
  else if (/\.(tar\.gz|tgz)$/i.test(path)) fail('a compressed tar file: decompress it first (gunzip)');
  else fail('expected a folder, or a .jsonl, .csv, .tsv or .tar file');
}

const bad = (file: string, line: number | undefined, detail: string): Error =>
  new Image2TextError({ file, path: line === undefined ? undefined : `line ${line}`, code: 'bad-pair', detail });

async function* folderPairs(folder: string, fail: (detail: string) => never): AsyncGenerator<TrainingPair | Error> {
  const isFile = async (path: string): Promise<boolean> => (await stat(path).catch(() => undefined))?.isFile() === true;
  const [jsonl, csv] = [join(folder, 'metadata.jsonl'), join(folder, 'metadata.csv')];
  const [hasJsonl, hasCsv] = [await isFile(jsonl), await isFile(csv)];
  if (hasJsonl && hasCsv) fail('metadata.jsonl and metadata.csv in one folder: name one of them');
  if (hasJsonl) return yield* jsonPairs(jsonl);
  if (hasCsv) return yield* csvPairs(csv);
  const names = (await readdir(folder, { recursive: true })).filter((name) => !/(^|[\\/])\./.test(name)).sort();
  const images = names.filter((name) => IMAGE_ENDING.test(name));
  const shards = names.filter((name) => /\.tar$/i.test(name));
  if (images.length > 0 && shards.length > 0) fail('images and shards in one folder: name one of them');
  for (const name of shards) yield* shardPairs(await fromFile(join(folder, name)), join(folder, name));
  for (const name of images) {
    const image = join(folder, name);
    try {
      const bytes = await readFile(image.replace(IMAGE_ENDING, '.txt'));
      yield { image, text: new TextDecoder('utf-8', { fatal: true }).decode(bytes).trim(), source: image };
    } catch (error) {
      const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT';
      yield bad(
        image,
        undefined,
        isMissing ? 'there is no .txt with its text beside it' : `its .txt: ${(error as Error).message}`,
      );
    }
  }
  if (images.length + shards.length > 0) return;
  fail('there are no images');
}

async function* jsonPairs(file: string): AsyncGenerator<TrainingPair | Error> {
  let line = 0;
  for await (const { bytes } of readLines(file)) {
    line++;
    if (bytes.length === 0) continue;
    try {
      const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes).trim();
      if (text === '') continue;
      yield* pairsOfObject(Object(JSON.parse(text)), file, line);
    } catch (error) {
      yield bad(file, line, (error as Error).message);
    }
  }
}

/** The pairs of a row, whose image is beside the file where its path says no more. */
function* pairsOfObject(row: Readonly<Record<string, unknown>>, file: string, line: number): Generator<TrainingPair> {
  const image = row['file_name'] ?? row['image'] ?? row['file'];
  if (typeof image !== 'string') throw new Error('no text in "file_name" or "image"');
  const isWhole = isAbsolute(image) || /^(https?|data|file):/i.test(image);
  const where = isWhole ? image : join(dirname(file), image);
  for (const pair of pairsOfRow(row)) yield { ...pair, image: where, source: `${file} line ${line}` };
}

/** The first record names the columns; an empty field is none. */
async function* csvPairs(file: string): AsyncGenerator<TrainingPair | Error> {
  let names: readonly string[] | undefined;
  for await (const record of readCsv(file)) {
    if (record instanceof Error) {
      if (names === undefined) throw record;
      yield record;
      continue;
    }
    const { line, fields } = record;
    if (names === undefined) {
      names = fields.map((name) => name.trim());
      if (names.some((name) => ['file_name', 'image', 'file'].includes(name))) continue;
      const detail = `the first line names no column "file_name", "image" or "file"`;
      throw new Image2TextError({ file, path: `line ${line}`, code: 'bad-csv', detail });
    }
    try {
      if (fields.length !== names.length)
        throw new Error(`${fields.length} fields where the first line has ${names.length}`);
      const entries = names.map((name, n) => [name, fields[n]!] as const).filter(([, value]) => value !== '');
      yield* pairsOfObject(Object.fromEntries(entries), file, line);
    } catch (error) {
      yield bad(file, line, (error as Error).message);
    }
  }
}

/** Rows of images and rows of captions (a JSON list) go together by their key. */
async function* tsvPairs(file: string): AsyncGenerator<TrainingPair | Error> {
  const captions = file.replace(/(\.img)?\.tsv$/i, '.caption.tsv');
  const texts = new Map((await indexTsv(captions)).map((row) => [row.key, row]));
  for (const row of await indexTsv(file)) {
    const said = texts.get(row.key);
    try {
      if (said === undefined) throw new Error(`${captions} has no line of the key "${row.key}"`);
      const list: unknown = JSON.parse((await readValue(said)).toString('utf8'));
      if (!Array.isArray(list)) throw new Error(`${captions} line ${said.line}: the captions are no JSON list`);
      const image = (): Promise<Uint8Array> => readBase64(row);
      for (const entry of list)
        for (const pair of pairsOfRow(entry)) yield { ...pair, image, source: `${file} line ${row.line}` };
    } catch (error) {
      yield bad(file, row.line, (error as Error).message);
    }
  }
}

/** What a run writes. */
const RUN_FILES = ['state.safetensors', 'log.jsonl', 'report.html', 'last', 'best', 'merged'];

/**
 * A folder on this machine for `train` to write into; it is made where there is none. Files are there as a whole or not at all. Links that
 * somebody put where they go are never followed: Image2TextError (`not-a-plain-file`).
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
  const refusal = (file: string, what: string, cause?: unknown): Error => {
    const detail = `here is ${what} where a run writes; it was left as it is: remove it`;
    return new Image2TextError({ file, code: 'not-a-plain-file', detail, cause });
  };
  const pathOf = async (name: string): Promise<string> => {
    const target = join(folder, name);
    for (let above = dirname(target); above.length > folder.length; above = dirname(above)) {
      // a link in the place of a folder of ours would lead elsewhere
      if ((await lstat(above).catch(() => undefined))?.isSymbolicLink() === true)
        throw refusal(above, 'a symbolic link');
    }
    await mkdir(dirname(target), { recursive: true });
    return target;
  };
  const { O_WRONLY, O_APPEND, O_CREAT } = constants;
  return {
    label: path,
    open: files.open,
    async write(name, pieces) {
      await writeThrough(await pathOf(name), async (file) => {
        for await (const piece of pieces) await file.writeFile(piece);
      });
    },
    async append(name, text) {
      const path = await pathOf(name);
      const refuse = (what: string, cause?: unknown): Error => refusal(path, what, cause);
      const file = await openPlainFile(path, O_WRONLY | O_APPEND | O_CREAT, refuse);
      await file.appendFile(text).finally(() => file.close());
    },
  };
}
