import { TorchFileError } from '../errors.js';
import { type ByteSource, readBytes } from './byte-source.js';
import { type LoadStorage, MAX_PICKLE_BYTES, unpickle } from './pickle.js';
import { isKind, kindOf, type PickleValue } from './pickle-values.js';
import type { TensorMap } from './stored-tensor.js';
import { findTensors } from './torch-root.js';
import { storageLoader, torchTensor } from './torch-storage.js';

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
      return [name, torchTensor(name, view, read, file)];
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
  const fail = (detail: string, unsupported = false) =>
    new TorchFileError({ file, offset: at, code: 'legacy-header', detail, unsupported });
  if (next() !== MAGIC) throw fail('a pickle, but not one of torch.save (its magic number is missing)');
  if (next() !== PROTOCOL_VERSION) throw fail(`the protocol is not ${PROTOCOL_VERSION}`);
  const system = next();
  const little = isKind(system, 'dict') ? system.entries.get('little_endian') : undefined;
  if (little !== true) throw fail(little === false ? 'big-endian storages' : 'no byte order', little === false);
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
