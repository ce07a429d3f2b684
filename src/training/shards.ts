import { type ByteSource, readBytes } from '../checkpoint/byte-source.js';
import { Image2TextError } from '../errors.js';
import { IMAGE_ENDING } from '../file-signature.js';
import type { TrainingPair } from './data.js';

// Webdataset shards: tar files of KEY.jpg with KEY.txt or KEY.json. A shard is read once, by its headers; images stay in it until they are needed,
// which is why this reads the format itself: readers of streams do not say where a file is.

const BLOCK = 512;
/** Longest name and longest text of a pair, in bytes. */
const NAME_LIMIT = 2 ** 16;
const TEXT_LIMIT = 2 ** 20;

/** A file within a tar file. */
interface Member {
  readonly name: string;
  readonly start: number;
  readonly size: number;
}

/**
 * The pairs of a webdataset shard (a plain tar file): the image KEY.jpg (.png, .webp and so on) with the text in KEY.txt, or in KEY.json as
 * `caption` or `text`, also with `prompt` or `question`. Images are read from the shard when they are needed. A key without an image or a text is an
 * error in place of a pair.
 *
 * @param source a `File` or `Blob`, or `fromFile(path)` of generative-image2text/node.
 * @throws Image2TextError (`not-a-tar`) for what is no tar file, or is cut off
 */
export async function* shardPairs(source: ByteSource, file: string): AsyncGenerator<TrainingPair | Error, void, void> {
  let key: string | undefined;
  let members: Member[] = [];
  for await (const member of tarMembers(source, file)) {
    const [, next] = /^((?:.*\/)?[^/.]+)\./.exec(member.name) ?? [];
    if (next === undefined) continue;
    if (next !== key) yield* pairsOfKey(source, file, key, members);
    if (next !== key) members = [];
    key = next;
    members.push(member);
  }
  yield* pairsOfKey(source, file, key, members);
}

async function* pairsOfKey(
  source: ByteSource,
  file: string,
  key: string | undefined,
  members: readonly Member[],
): AsyncGenerator<TrainingPair | Error> {
  if (key === undefined) return;
  const bad = (detail: string): Error => new Image2TextError({ file, path: key, code: 'bad-pair', detail });
  const image = members.find(({ name }) => IMAGE_ENDING.test(name));
  const text = members.find(({ name }) => name === `${key}.txt`) ?? members.find(({ name }) => name === `${key}.json`);
  if (image === undefined) yield bad('there is no image of this key');
  else if (text === undefined) yield bad('there is no .txt or .json of this key');
  else if (text.size > TEXT_LIMIT) yield bad(`${text.name} has more than ${TEXT_LIMIT} bytes`);
  else {
    try {
      const said = new TextDecoder('utf-8', { fatal: true }).decode(await readMember(source, text));
      const row = text.name.endsWith('.json') ? (JSON.parse(said) as unknown) : { text: said.trim() };
      const read = (): Promise<Uint8Array> => readMember(source, image);
      for (const pair of pairsOfRow(row)) yield { ...pair, image: read, source: `${file} ${key}` };
    } catch (error) {
      yield bad((error as Error).message);
    }
  }
}

const readMember = (source: ByteSource, { start, size }: Member): Promise<Uint8Array> =>
  readBytes(source, start, start + size);

const TYPE = {
  file: '0',
  oldFile: '\0',
  contiguous: '7',
  longName: 'L',
  longLink: 'K',
  pax: 'x',
  paxAll: 'g',
};

/** The files of a tar file (ustar, GNU or pax) in order, without what is in them. */
async function* tarMembers(source: ByteSource, file: string): AsyncGenerator<Member, void, void> {
  const fail = (offset: number, detail: string): never => {
    throw new Image2TextError({ file, offset, code: 'not-a-tar', detail });
  };
  let longName: string | undefined;
  let longSize: number | undefined;
  for (let at = 0; at < source.size; ) {
    if (at + BLOCK > source.size) fail(at, 'it ends within a header');
    const header = await readBytes(source, at, at + BLOCK);
    if (header.every((byte) => byte === 0)) return; // the end
    if (!hasChecksum(header)) fail(at, at === 0 ? 'this is no tar file' : 'the header of a file is damaged');
    const type = String.fromCharCode(header[156]!);
    const isExtension = [TYPE.longName, TYPE.longLink, TYPE.pax, TYPE.paxAll].includes(type);
    const stated = isExtension ? undefined : longSize; // of the file that an extension describes
    const size = stated ?? numberAt(header, 124, 12) ?? fail(at, 'the size of a file cannot be read');
    const start = at + BLOCK;
    if (start + size > source.size) fail(at, `a file of ${size} bytes is cut off`);
    const content = async (): Promise<Uint8Array> =>
      size > NAME_LIMIT ? fail(at, 'a name is too long') : readBytes(source, start, start + size);
    if (type === TYPE.longName) longName = textOf(await content());
    else if (type === TYPE.pax) {
      const { path, size } = paxFields(await content());
      longName = path ?? longName;
      longSize = size === undefined ? undefined : Number(/^\d{1,16}$/.test(size) ? size : Number.NaN);
      if (longSize !== undefined && !Number.isSafeInteger(longSize)) fail(at, 'the size of a file cannot be read');
    } else if (!isExtension) {
      const name = longName ?? nameOf(header);
      if (type === TYPE.file || type === TYPE.oldFile || type === TYPE.contiguous) yield { name, start, size };
      longName = undefined;
      longSize = undefined;
    }
    at = start + Math.ceil(size / BLOCK) * BLOCK;
  }
}

const textOf = (bytes: Uint8Array): string => {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
};

/** The name, with the folder that ustar keeps apart. */
function nameOf(header: Uint8Array): string {
  const name = textOf(header.subarray(0, 100));
  const prefix = textOf(header.subarray(257, 263)) === 'ustar' ? textOf(header.subarray(345, 500)) : '';
  return prefix === '' ? name : `${prefix}/${name}`;
}

/** Octal digits, or GNU's binary numbers for more than 8 GiB. */
function numberAt(header: Uint8Array, start: number, length: number): number | undefined {
  const field = header.subarray(start, start + length);
  if ((field[0]! & 0x80) !== 0) {
    const value = field.subarray(1).reduce((sum, byte) => sum * 256 + byte, 0);
    return field[0] === 0x80 && Number.isSafeInteger(value) ? value : undefined;
  }
  const text = textOf(field).trim();
  return /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : undefined;
}

/** The sum of all bytes of a header, its own field as blanks. */
function hasChecksum(header: Uint8Array): boolean {
  const sum = header.reduce((total, byte, at) => total + (at >= 148 && at < 156 ? 0x20 : byte), 0);
  return sum === numberAt(header, 148, 8);
}

/** `LENGTH KEY=VALUE\n` and so on. */
function paxFields(bytes: Uint8Array): Readonly<Record<string, string>> {
  const fields: Record<string, string> = {};
  for (let at = 0; at < bytes.length; ) {
    const [, length, record] = /^(\d{1,6}) ([^=]+=)/.exec(new TextDecoder().decode(bytes.subarray(at, at + 64))) ?? [];
    if (length === undefined || Number(length) === 0) break;
    const from = at + length.length + 1 + record!.length;
    fields[record!.slice(0, -1)] = new TextDecoder().decode(bytes.subarray(from, at + Number(length) - 1));
    at += Number(length);
  }
  return fields;
}

/**
 * The pairs of a row of a data set, without their image: `text`, `caption` or `answer`, or a list of `captions` or `references`, each of which is a
 * pair; also `prompt` or `question`.
 *
 * @throws Error where there is no text, or a prompt or question that is none
 */
export function pairsOfRow(row: unknown): Pick<TrainingPair, 'text' | 'prompt' | 'question'>[] {
  const fields = Object(row) as Record<string, unknown>;
  const [prompt, question] = ['prompt', 'question'].map((name) => {
    const given = fields[name] ?? undefined;
    if (given !== undefined && typeof given !== 'string') throw new Error(`expected a text in "${name}"`);
    return given;
  });
  const said = ['text', 'caption', 'answer', 'captions', 'references'].map((name) => fields[name] ?? undefined);
  const found = said.find((value) => value !== undefined);
  const texts = Array.isArray(found) ? found : [found];
  if (texts.length === 0 || texts.some((text) => typeof text !== 'string'))
    throw new Error('expected a text in "text", "caption" or "answer", or texts in "captions"');
  return (texts as string[]).map((text) => ({ text, prompt, question }));
}
