import { quote, TorchFileError } from '../errors.js';
import type { ByteSource } from './byte-source.js';
import { MAX_PICKLE_BYTES, unpickle } from './pickle.js';
import type { PickleStorage } from './pickle-values.js';
import type { TensorMap } from './stored-tensor.js';
import { findTensors } from './torch-root.js';
import { storageLoader, torchTensor } from './torch-storage.js';
import { openZip, type ZipArchive, type ZipMember } from './zip.js';

/**
 * The container that torch.save writes since 1.6: a zip of one folder with `data.pkl` (the object), `data/KEY` (the storages),
 * `byteorder` and `version`. Throws TorchFileError.
 */
export async function readTorchZip(source: ByteSource, file: string): Promise<TensorMap> {
  const archive = await openZip(source, file);
  const root = archiveRoot(archive, file);
  await checkByteOrder(archive.find(`${root}/byteorder`), file);
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
    [...tensors].map(([name, view]) => [name, torchTensor(name, view, records.get(view.storage.key)!.read, file)]),
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

async function checkByteOrder(member: ZipMember | undefined, file: string): Promise<void> {
  if (!member) return; // files before torch 2.1 have none, and are little-endian
  const order = member.size > 16 ? '' : String.fromCharCode(...(await member.read()));
  if (order === 'little') return;
  const detail = order === 'big' ? 'big-endian storages' : 'unknown byte order';
  throw new TorchFileError({ file, path: 'byteorder', code: 'byte-order', detail, unsupported: order === 'big' });
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
