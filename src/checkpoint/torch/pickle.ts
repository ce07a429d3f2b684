import { TorchFileError } from '../../errors.js';
import { isKind, kindOf, type LoadStorage, type PickleFail, type PickleValue } from './pickle-values.js';
import { findGlobal, reduceGlobal } from './tensors.js';

/** Bytes, operands and errors of a pickle. Every read is checked against the end before anything is made of it. */

/** Makes the error at an offset of the bytes. */
export type PickleFault = (code: string, detail: string, offset: number, unsupported: boolean) => Error;

const MAX_LINE = 256;

export interface PickleReader {
  readonly fail: PickleFail;
  /** The next opcode. */
  opcode(): number;
  /** A little-endian number of 1, 2, 4 or 8 bytes, without sign; of 8 bytes the nearest double. */
  unsigned(size: 1 | 2 | 4 | 8): number;
  /** Throws unless so many bytes follow. */
  expect(length: number): void;
  bytes(length: number): Uint8Array<ArrayBuffer>;
  /** UTF-8, checked. */
  text(length: number): string;
  /** UTF-8 up to a line end. */
  line(): string;
  /** Where the next byte is. */
  position(): number;
}

export function pickleReader(bytes: Uint8Array<ArrayBuffer>, start: number, fault: PickleFault): PickleReader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let opcodeAt = start;
  let at = start;

  const fail: PickleFail = (code, detail, unsupported = false) => {
    return fault(code, detail, opcodeAt, unsupported);
  };

  function take(length: number): number {
    if (length > bytes.length - at)
      throw fail('pickle-truncated', `${length} bytes wanted, ${bytes.length - at} are left`);
    at += length;
    return at - length;
  }

  function decode(from: number, to: number): string {
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes.subarray(from, to));
    } catch {
      throw fail('not-utf8', 'a string that is not UTF-8');
    }
  }

  function unsigned(size: 1 | 2 | 4 | 8): number {
    const from = take(size);
    if (size === 1) return view.getUint8(from);
    if (size === 8) return Number(view.getBigUint64(from, true));
    return size === 2 ? view.getUint16(from, true) : view.getUint32(from, true);
  }

  return {
    fail,
    unsigned,
    expect: (length) => {
      at = take(length); // where it was
    },
    opcode: () => {
      opcodeAt = at;
      return unsigned(1);
    },
    bytes: (length) => {
      const from = take(length);
      return bytes.subarray(from, from + length);
    },
    text: (length) => {
      const from = take(length);
      return decode(from, from + length);
    },
    line: () => {
      const end = bytes.indexOf(0x0a, at);
      if (end < 0) throw fail('pickle-truncated', 'a line does not end');
      if (end - at > MAX_LINE) throw fail('pickle-size', `a name of ${end - at} bytes`);
      const from = at;
      at = end + 1;
      return decode(from, end);
    },
    position: () => at,
  };
}

const MAX_STACK = 1_000_000;
const MAX_MEMO = 500_000;
const MAX_MADE = 150_000; // 25,000 tensors as torch writes them; an empty dict is one byte in the file and 300 here

/** The machine's memory: a stack that marks divide, and the memo. All bounded. */
export interface PickleStack {
  push(value: PickleValue): void;
  /** Pushes a new tuple, list, dict or tensor, and counts it. */
  make(value: PickleValue): void;
  pop(): PickleValue;
  /** The top `count` values, lowest first. */
  popMany(count: number): PickleValue[];
  mark(): void;
  /** What is above the last mark, which goes too. */
  popMark(): PickleValue[];
  put(index: number): void;
  /** Puts what is on top under the next free index. */
  memoize(): void;
  get(index: number): void;
  /** Appends to the list on top. */
  append(values: readonly PickleValue[]): void;
  /** Sets pairs (key, value, key, value, …) in the dict on top. */
  setItems(pairs: readonly PickleValue[]): void;
  /** Drops values that are added to the set on top, which is not kept. */
  addItems(values: readonly PickleValue[]): void;
  /** The one value that must be left at the end. */
  result(): PickleValue;
}

export function pickleStack(fail: PickleFail): PickleStack {
  const marks: PickleValue[][] = [];
  const memo = new Map<number, PickleValue>();
  let stack: PickleValue[] = [];
  let made = 0;

  function push(value: PickleValue): void {
    if (stack.length >= MAX_STACK) throw fail('pickle-size', `more than ${MAX_STACK} values on the stack`);
    stack.push(value);
  }

  function pop(): PickleValue {
    const value = stack.pop();
    if (value === undefined) throw fail('pickle-stack', 'the stack is empty');
    return value;
  }

  function top(): PickleValue {
    const value = stack.at(-1);
    if (value === undefined) throw fail('pickle-stack', 'the stack is empty');
    return value;
  }

  function make(value: PickleValue): void {
    if (++made > MAX_MADE) throw fail('pickle-size', `more than ${MAX_MADE} tuples, lists, dicts and tensors`);
    push(value);
  }

  function put(index: number): void {
    if (memo.size >= MAX_MEMO) throw fail('pickle-size', `more than ${MAX_MEMO} memo entries`);
    memo.set(index, top());
  }

  function append(values: readonly PickleValue[]): void {
    const list = top();
    if (!isKind(list, 'list')) throw fail('pickle-target', `appends to ${kindOf(list)}`);
    for (const value of values) list.items.push(value);
  }

  function setItems(pairs: readonly PickleValue[]): void {
    const dict = top();
    if (!isKind(dict, 'dict')) throw fail('pickle-target', `sets an item of ${kindOf(dict)}`);
    if (pairs.length % 2 !== 0) throw fail('pickle-stack', 'a key without a value');
    for (let i = 0; i < pairs.length; i += 2) {
      const key = pairs[i]!;
      if (isKind(key, 'list') || isKind(key, 'dict')) throw fail('pickle-key', `${kindOf(key)} as a key`);
      if (key === null || typeof key === 'object') continue; // legal in Python, and no tensor's name
      if (dict.entries.has(key))
        throw fail('duplicate-key', `the key ${JSON.stringify(String(key).slice(0, 60))} is set twice`);
      dict.entries.set(key, pairs[i + 1]!);
    }
  }

  function addItems(): void {
    const set = top();
    if (!isKind(set, 'inert')) throw fail('pickle-target', `adds to ${kindOf(set)}`);
  }

  return {
    push,
    make,
    pop,
    popMany: (count) => {
      if (stack.length < count) throw fail('pickle-stack', `${count} values wanted, ${stack.length} are there`);
      return stack.splice(stack.length - count, count);
    },
    mark: () => {
      if (marks.length >= MAX_STACK) throw fail('pickle-size', `more than ${MAX_STACK} marks`);
      marks.push(stack);
      stack = [];
    },
    popMark: () => {
      const above = stack;
      const below = marks.pop();
      if (!below) throw fail('pickle-stack', 'there is no mark');
      stack = below;
      return above;
    },
    put,
    memoize: () => put(memo.size),
    get: (index) => {
      const value = memo.get(index);
      if (value === undefined) throw fail('pickle-memo', `memo entry ${index} was never put`);
      push(value);
    },
    append,
    setItems,
    addItems,
    result: () => {
      const value = pop();
      if (stack.length > 0 || marks.length > 0) throw fail('pickle-stack', 'values are left on the stack at the end');
      return value;
    },
  };
}

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
/** torch.save writes 2 unless it is told otherwise (`pickle_protocol`); 5 is Python's last. */
const PROTOCOLS = [2, 3, 4, 5];
const STOP = 0x2e;

interface Machine {
  readonly reader: PickleReader;
  readonly stack: PickleStack;
  readonly fail: PickleFail;
  readonly loadStorage: LoadStorage | undefined;
}

/**
 * Runs one pickle as far as a checkpoint needs it: the opcodes that `torch.save` writes in protocols 2 to 5, the names of `tensors.ts`, and
 * nothing else. No recursion; nothing is imported, called or evaluated. Returns the value and the index behind STOP.
 * Throws TorchFileError with the byte offset of the opcode; code `pickle-truncated` when the bytes end first.
 */
export function unpickle(
  bytes: Uint8Array<ArrayBuffer>,
  start: number,
  options: UnpickleOptions,
): { value: PickleValue; end: number } {
  const { file, path, base, loadStorage } = options;
  const reader = pickleReader(
    bytes,
    start,
    (code, detail, offset, unsupported) =>
      new TorchFileError({ file, path, offset: base + offset, code, detail, unsupported }),
  );
  const { fail } = reader;
  const machine: Machine = { reader, stack: pickleStack(fail), fail, loadStorage };
  if (reader.opcode() !== PROTO) throw fail('not-pickle', 'does not begin with a protocol number');
  const protocol = reader.unsigned(1);
  if (!PROTOCOLS.includes(protocol)) throw fail('pickle-protocol', `protocol ${protocol}; known are 2 to 5`);
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
  [0x8c, ({ stack, reader }) => stack.push(reader.text(reader.unsigned(1)))], // SHORT_BINUNICODE
  [0x8d, ({ stack, reader }) => stack.push(reader.text(reader.unsigned(8)))], // BINUNICODE8
  [0x54, ({ stack, reader }) => stack.push(reader.text(reader.unsigned(4)))], // BINSTRING, of Python 2
  [0x55, ({ stack, reader }) => stack.push(reader.text(reader.unsigned(1)))], // SHORT_BINSTRING, of Python 2
  [0x43, (machine) => skipBytes(machine, 1)], // SHORT_BINBYTES
  [0x42, (machine) => skipBytes(machine, 4)], // BINBYTES
  [0x8e, (machine) => skipBytes(machine, 8)], // BINBYTES8
  [0x96, (machine) => skipBytes(machine, 8)], // BYTEARRAY8
  [0x8f, ({ stack }) => stack.make(SET)], // EMPTY_SET
  [0x90, ({ stack }) => stack.addItems(stack.popMark())], // ADDITEMS
  [0x91, frozenSet], // FROZENSET
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
  [0x94, ({ stack }) => stack.memoize()], // MEMOIZE
  [0x95, ({ reader }) => reader.expect(reader.unsigned(8))], // FRAME: how much may be read at once
  [0x63, global], // GLOBAL
  [0x93, stackGlobal], // STACK_GLOBAL
  [0x52, reduce], // REDUCE
  [0x81, reduce], // NEWOBJ: the same for what can be made here
  [0x62, build], // BUILD
  [0x51, persistentId], // BINPERSID
]);

function global({ stack, reader, fail }: Machine): void {
  const module = reader.line();
  stack.push(findGlobal(module, reader.line(), fail));
}

function stackGlobal({ stack, fail }: Machine): void {
  const name = stack.pop();
  const module = stack.pop();
  if (typeof module !== 'string' || typeof name !== 'string') throw fail('pickle-call', 'a name that is not a string');
  stack.push(findGlobal(module, name, fail));
}

const SET: PickleValue = { kind: 'inert', name: 'a set' };
const BYTES: PickleValue = { kind: 'inert', name: 'bytes' };

function skipBytes({ stack, reader }: Machine, size: 1 | 4 | 8): void {
  reader.bytes(reader.unsigned(size));
  stack.push(BYTES);
}

function frozenSet({ stack }: Machine): void {
  stack.popMark();
  stack.make(SET);
}

function reduce({ stack, fail }: Machine): void {
  const args = stack.pop();
  const callee = stack.pop();
  if (!isKind(callee, 'global')) throw fail('pickle-call', `${kindOf(callee)} cannot be called`);
  if (!isKind(args, 'tuple')) throw fail('pickle-call', `${kindOf(args)} as arguments`);
  stack.make(reduceGlobal(callee, args.items, fail));
}

/** A state dict has attributes (`_metadata`, the versions of its modules), which loading has no use for: dropped. */
function build({ stack, fail }: Machine): void {
  const state = stack.pop();
  const target = stack.pop();
  const hasAttributes = isKind(target, 'inert') || (isKind(target, 'dict') && target.ordered);
  if (!hasAttributes) throw fail('pickle-target', `sets attributes of ${kindOf(target)}`);
  if (!isKind(state, 'dict') && !isKind(state, 'tuple')) throw fail('pickle-target', `${kindOf(state)} as attributes`);
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
