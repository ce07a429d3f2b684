import { quote, TorchFileError } from '../../errors.js';
import { recognize } from '../../file-signature.js';
import { type ByteSource, readBytes } from '../byte-source.js';
import type { TensorMap } from '../stored-tensor.js';
import { MAX_PICKLE_BYTES, unpickle } from './pickle.js';
import { isKind, kindOf, type LoadStorage, type PickleStorage, type PickleValue } from './pickle-values.js';

import { findTensors, storageLoader, torchTensor } from './tensors.js';
import { openZip, type ZipArchive, type ZipMember } from './zip.js';

const isZip = (head: Uint8Array) => head[0] === 0x50 && head[1] === 0x4b;
const isPickle = (head: Uint8Array) => head[0] === 0x80;

/** Do bytes begin as one of torch's containers does? */
export const looksLikeTorch = (head: Uint8Array): boolean => isZip(head) || isPickle(head);

/**
 * Opens what torch.save wrote (zip or legacy container) without running anything of it: the pickle is read by an interpreter
 * that can build tensors and plain data and nothing else. Tensors are read on request.
 * Throws TorchFileError; `not-torch` says what the bytes are instead.
 */
export async function readPytorch(source: ByteSource, file: string): Promise<{ readonly tensors: TensorMap }> {
  const head = await readBytes(source, 0, Math.min(512, source.size));
  if (isZip(head)) return { tensors: await readTorchZip(source, file) };
  if (isPickle(head)) return { tensors: await readTorchLegacy(source, file) };
  const what = recognize(head)?.what ?? 'neither a zip archive nor a pickle';
  throw new TorchFileError({ file, offset: 0, code: 'not-torch', detail: `this is ${what}` });
}

/**
 * The container that torch.save writes since 1.6: a zip of one folder with `data.pkl` (the object), `data/KEY` (the storages),
 * `byteorder` and `version`. Throws TorchFileError.
 */
export async function readTorchZip(source: ByteSource, file: string): Promise<TensorMap> {
  const archive = await openZip(source, file);
  const root = archiveRoot(archive, file);
  const bigEndian = await isBigEndian(archive.find(`${root}/byteorder`), file);
  const pickle = archive.find(`${root}/data.pkl`);
  if (!pickle) throw new TorchFileError({ file, code: 'torch-archive', detail: `no data.pkl under ${quote(root)}` });
  if (pickle.size > MAX_PICKLE_BYTES) {
    throw new TorchFileError({ file, path: 'data.pkl', code: 'pickle-size', detail: `${pickle.size} bytes` });
  }
  const { load, storages } = storageLoader();
  const bytes = await pickle.read();
  const { value, end } = unpickle(bytes, 0, { file, path: 'data.pkl', base: 0, loadStorage: load });
  if (end !== bytes.length) {
    const detail = `${bytes.length - end} bytes after the object`;
    throw new TorchFileError({ file, path: 'data.pkl', code: 'pickle-trailing', offset: end, detail });
  }
  const tensors = findTensors(value, file);
  const records = new Map<string, ZipMember>();
  for (const storage of storages.values()) {
    records.set(storage.key, checkedRecord(archive.find(`${root}/data/${storage.key}`), storage, file));
  }
  return new Map(
    [...tensors].map(([name, view]) => {
      const { read } = records.get(view.storage.key)!;
      return [name, torchTensor(name, view, read, { file, bigEndian })];
    }),
  );
}

/** The one folder of the archive. A TorchScript archive has code in it, and is refused for that. */
function archiveRoot({ names }: ZipArchive, file: string): string {
  const fail = (code: string, detail: string, unsupported = false) =>
    new TorchFileError({ file, code, detail, unsupported });
  const roots = new Set(names.map((name) => name.split('/', 1)[0]!));
  const [root] = roots;
  if (root === undefined) throw fail('torch-archive', 'an empty archive');
  if (roots.size > 1) throw fail('torch-archive', `${roots.size} folders at the root; a checkpoint has one`);
  for (const name of names) {
    if (name.startsWith(`${root}/code/`) || name === `${root}/constants.pkl`) {
      throw fail('torch-script', 'a TorchScript archive (a program), not a checkpoint', true);
    }
  }
  return root;
}

async function isBigEndian(member: ZipMember | undefined, file: string): Promise<boolean> {
  if (!member) return false; // files before torch 2.1 have none, and are little-endian
  const order = member.size > 16 ? '' : String.fromCharCode(...(await member.read()));
  if (order === 'little' || order === 'big') return order === 'big';
  throw new TorchFileError({ file, path: 'byteorder', code: 'byte-order', detail: 'neither little nor big' });
}

function checkedRecord(
  record: ZipMember | undefined,
  { key, count, itemBytes }: PickleStorage,
  file: string,
): ZipMember {
  const fail = (detail: string) => new TorchFileError({ file, path: `data/${key}`, code: 'storage-record', detail });
  if (!record) throw fail('the archive lacks this storage');
  if (record.size !== count * itemBytes) throw fail(`${record.size} bytes, ${count * itemBytes} by the pickle`);
  return record;
}

const MAGIC = 0x1950a86a20f9469cfc6cn;
const PROTOCOL_VERSION = 1001;
const COUNT_BYTES = 8;
const FIRST_WINDOW = 2 ** 20;

interface Header {
  readonly root: PickleValue;
  readonly keys: readonly string[];
  readonly end: number;
  readonly storages: ReturnType<typeof storageLoader>['storages'];
}

/**
 * The container of torch.save before 1.6: five pickles (magic number, protocol, system, object, storage keys), then the storages in
 * the order of the keys, each an element count of 64 bits and its elements. Throws TorchFileError.
 */
export async function readTorchLegacy(source: ByteSource, file: string): Promise<TensorMap> {
  const { root, keys, end, storages } = await readHeader(source, file);
  const fail = (code: string, detail: string, offset: number) => new TorchFileError({ file, offset, code, detail });
  const views = findTensors(root, file);
  const starts = new Map<string, number>();
  let at = end;
  for (const key of keys) {
    const storage = storages.get(key);
    if (!storage) throw fail('storage-keys', `storage ${JSON.stringify(key.slice(0, 40))} belongs to no tensor`, at);
    if (starts.has(key)) throw fail('storage-keys', `storage ${key} is listed twice`, at);
    if (at + COUNT_BYTES > source.size) throw fail('storage-past-end', `the file ends before storage ${key}`, at);
    const count = new DataView((await readBytes(source, at, at + COUNT_BYTES)).buffer).getBigInt64(0, true);
    if (count !== BigInt(storage.count)) {
      throw fail('storage-count', `storage ${key} has ${count} elements, ${storage.count} by the pickle`, at);
    }
    starts.set(key, at + COUNT_BYTES);
    at += COUNT_BYTES + storage.count * storage.itemBytes;
    if (at > source.size) throw fail('storage-past-end', `storage ${key} runs past the end of the file`, source.size);
  }
  for (const key of storages.keys()) {
    if (!starts.has(key)) throw fail('storage-keys', `storage ${key} is missing from the list of keys`, end);
  }
  if (at !== source.size) throw fail('trailing-bytes', `${source.size - at} bytes after the last storage`, at);
  return new Map(
    [...views].map(([name, view]) => {
      const start = starts.get(view.storage.key)!;
      const read = (begin: number, stop: number) => readBytes(source, start + begin, start + stop);
      return [name, torchTensor(name, view, read, { file, bigEndian: false })];
    }),
  );
}

/** Pickles do not say how long they are: read a part of the file, and a larger one where the pickles go on. */
async function readHeader(source: ByteSource, file: string): Promise<Header> {
  for (let window = FIRST_WINDOW; ; window *= 4) {
    const bytes = await readBytes(source, 0, Math.min(window, source.size, MAX_PICKLE_BYTES));
    try {
      return parseHeader(bytes, file);
    } catch (error) {
      const cut = error instanceof TorchFileError && error.code === 'pickle-truncated';
      if (!cut || bytes.length === source.size || bytes.length >= MAX_PICKLE_BYTES) throw error;
    }
  }
}

function parseHeader(bytes: Uint8Array<ArrayBuffer>, file: string): Header {
  let at = 0;
  const next = (loadStorage?: LoadStorage): PickleValue => {
    const { value, end } = unpickle(bytes, at, loadStorage ? { file, base: 0, loadStorage } : { file, base: 0 });
    at = end;
    return value;
  };
  const fail = (detail: string) => new TorchFileError({ file, offset: at, code: 'legacy-header', detail });
  if (next() !== MAGIC) throw fail('a pickle, but not one of torch.save (its magic number is missing)');
  if (next() !== PROTOCOL_VERSION) throw fail(`the protocol is not ${PROTOCOL_VERSION}`);
  // Says what machine wrote the file; the storages are little-endian whatever it says (THPStorage_writeFileRaw of torch).
  if (!isKind(next(), 'dict')) throw fail('no description of the system');
  const { load, storages } = storageLoader();
  const root = next(load);
  const list = next();
  if (!isKind(list, 'list')) throw fail(`${kindOf(list)} in place of the storage keys`);
  const keys = list.items.map((key) => {
    if (typeof key !== 'string') throw fail('a storage key that is not a string');
    return key;
  });
  return { root, keys, end: at, storages };
}
