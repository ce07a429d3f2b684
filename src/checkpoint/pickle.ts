import { TorchFileError } from '../errors.js';
import { type PickleFail, type PickleReader, pickleReader } from './pickle-reader.js';
import { type PickleStack, pickleStack } from './pickle-stack.js';
import { isKind, kindOf, type PickleStorage, type PickleTuple, type PickleValue } from './pickle-values.js';
import { findGlobal, reduceGlobal } from './torch-globals.js';

/** What a persistent id stands for: torch's way to name a storage. */
export type LoadStorage = (id: PickleTuple, fail: PickleFail) => PickleStorage;

export interface UnpickleOptions {
  readonly file: string;
  readonly path?: string;
  /** Where in the file the bytes begin, for offsets in messages. */
  readonly base: number;
  /** Absent: this pickle may not name storages. */
  readonly loadStorage?: LoadStorage;
}

/** A thousand times what the largest GIT needs; a file may be small and unpack to this. */
export const MAX_PICKLE_BYTES = 16 * 2 ** 20;
const MAX_OPCODES = 10_000_000;
const PROTO = 0x80;
const PROTOCOL = 2;
const STOP = 0x2e;

interface Machine {
  readonly reader: PickleReader;
  readonly stack: PickleStack;
  readonly fail: PickleFail;
  readonly loadStorage: LoadStorage | undefined;
}

/**
 * Runs one pickle as far as a checkpoint needs it: the opcodes that `torch.save` writes (protocol 2), the names of `torch-globals`, and
 * nothing else. No recursion; nothing is imported, called or evaluated. Returns the value and the index behind STOP.
 * Throws TorchFileError with the byte offset of the opcode; rule `pickle-truncated` when the bytes end first.
 */
export function unpickle(
  bytes: Uint8Array<ArrayBuffer>,
  start: number,
  options: UnpickleOptions,
): { value: PickleValue; end: number } {
  const { file, path: place, base, loadStorage } = options;
  const reader = pickleReader(
    bytes,
    start,
    (code, detail, offset, unsupported) =>
      new TorchFileError({ file, path: place, offset: base + offset, code, detail, unsupported }),
  );
  const { fail } = reader;
  const machine: Machine = { reader, stack: pickleStack(fail), fail, loadStorage };
  if (reader.opcode() !== PROTO) throw fail('not-pickle', 'does not begin with a protocol number');
  const protocol = reader.unsigned(1);
  if (protocol !== PROTOCOL) throw fail('pickle-protocol', `protocol ${protocol}; torch.save writes ${PROTOCOL}`);
  for (let count = 0; count < MAX_OPCODES; count++) {
    const code = reader.opcode();
    if (code === STOP) return { value: machine.stack.result(), end: reader.position() };
    const run = OPCODES.get(code);
    if (!run)
      throw fail('pickle-opcode', `opcode 0x${code.toString(16).padStart(2, '0')} is not among those of torch.save`);
    run(machine);
  }
  throw fail('pickle-size', `more than ${MAX_OPCODES} opcodes`);
}

/** By pickle's own letters, as in Python's pickletools. */
const OPCODES: ReadonlyMap<number, (machine: Machine) => void> = new Map<number, (machine: Machine) => void>([
  [0x28, ({ stack }) => stack.mark()], // MARK
  [0x4e, ({ stack }) => stack.push(null)], // NONE
  [0x88, ({ stack }) => stack.push(true)], // NEWTRUE
  [0x89, ({ stack }) => stack.push(false)], // NEWFALSE
  [0x4b, ({ stack, reader }) => stack.push(reader.unsigned(1))], // BININT1
  [0x4d, ({ stack, reader }) => stack.push(reader.unsigned(2))], // BININT2
  [0x4a, ({ stack, reader }) => stack.push(reader.unsigned(4) | 0)], // BININT
  [0x8a, ({ stack, reader }) => stack.push(longInteger(reader.bytes(reader.unsigned(1))))], // LONG1
  [0x47, ({ stack, reader }) => stack.push({ kind: 'float', value: bigEndianDouble(reader.bytes(8)) })], // BINFLOAT
  [0x58, ({ stack, reader }) => stack.push(reader.text(reader.unsigned(4)))], // BINUNICODE
  [0x5d, ({ stack }) => stack.make({ kind: 'list', items: [] })], // EMPTY_LIST
  [0x7d, ({ stack }) => stack.make({ kind: 'dict', ordered: false, entries: new Map() })], // EMPTY_DICT
  [0x29, ({ stack }) => stack.make({ kind: 'tuple', items: [] })], // EMPTY_TUPLE
  [0x85, ({ stack }) => stack.make({ kind: 'tuple', items: stack.popMany(1) })], // TUPLE1
  [0x86, ({ stack }) => stack.make({ kind: 'tuple', items: stack.popMany(2) })], // TUPLE2
  [0x87, ({ stack }) => stack.make({ kind: 'tuple', items: stack.popMany(3) })], // TUPLE3
  [0x74, ({ stack }) => stack.make({ kind: 'tuple', items: stack.popMark() })], // TUPLE
  [0x61, ({ stack }) => stack.append([stack.pop()])], // APPEND
  [0x65, ({ stack }) => stack.append(stack.popMark())], // APPENDS
  [0x73, ({ stack }) => stack.setItems(stack.popMany(2))], // SETITEM
  [0x75, ({ stack }) => stack.setItems(stack.popMark())], // SETITEMS
  [0x71, ({ stack, reader }) => stack.put(reader.unsigned(1))], // BINPUT
  [0x72, ({ stack, reader }) => stack.put(reader.unsigned(4))], // LONG_BINPUT
  [0x68, ({ stack, reader }) => stack.get(reader.unsigned(1))], // BINGET
  [0x6a, ({ stack, reader }) => stack.get(reader.unsigned(4))], // LONG_BINGET
  [0x63, global], // GLOBAL
  [0x52, reduce], // REDUCE
  [0x62, build], // BUILD
  [0x51, persistentId], // BINPERSID
]);

function global({ stack, reader, fail }: Machine): void {
  const module = reader.line();
  stack.push(findGlobal(module, reader.line(), fail));
}

function reduce({ stack, fail }: Machine): void {
  const args = stack.pop();
  const callee = stack.pop();
  if (!isKind(callee, 'global')) throw fail('pickle-call', `${kindOf(callee)} cannot be called`);
  if (!isKind(args, 'tuple')) throw fail('pickle-call', `${kindOf(args)} as arguments`);
  stack.make(reduceGlobal(callee, args.items, fail));
}

/** A state dict has attributes (`_metadata`, the versions of its modules), which loading has no use for: checked, then dropped. */
function build({ stack, fail }: Machine): void {
  const state = stack.pop();
  const target = stack.pop();
  if (!isKind(target, 'dict') || !target.ordered) throw fail('pickle-target', `sets attributes of ${kindOf(target)}`);
  if (!isKind(state, 'dict')) throw fail('pickle-target', `${kindOf(state)} as attributes`);
  stack.push(target);
}

function persistentId({ stack, fail, loadStorage }: Machine): void {
  const id = stack.pop();
  if (!isKind(id, 'tuple')) throw fail('storage-id', `${kindOf(id)} as a storage's id`);
  if (!loadStorage) throw fail('storage-id', 'a storage where none may be');
  stack.push(loadStorage(id, fail));
}

/** Two's complement, lowest byte first. */
function longInteger(bytes: Uint8Array): number | bigint {
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
  const signed = BigInt.asIntN(8 * bytes.length, value);
  const number = Number(signed);
  return Number.isSafeInteger(number) ? number : signed;
}

function bigEndianDouble(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset, 8).getFloat64(0, false);
}
