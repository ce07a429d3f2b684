import { TorchFileError } from '../errors.js';
import { type ByteSource, readBytes } from './byte-source.js';
import { recogniseBytes } from './disguise.js';
import type { TensorMap } from './stored-tensor.js';
import { readTorchLegacy } from './torch-legacy.js';
import { readTorchZip } from './torch-zip.js';

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
  const what = recogniseBytes(head) ?? 'neither a zip archive nor a pickle';
  throw new TorchFileError({ file, offset: 0, code: 'not-torch', detail: `this is ${what}` });
}
