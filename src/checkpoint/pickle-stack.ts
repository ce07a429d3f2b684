import type { PickleFail } from './pickle-reader.js';
import { isKind, kindOf, type PickleValue } from './pickle-values.js';

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
  /** What lies above the last mark, which goes too. */
  popMark(): PickleValue[];
  put(index: number): void;
  get(index: number): void;
  /** Appends to the list on top. */
  append(values: readonly PickleValue[]): void;
  /** Sets pairs (key, value, key, value, …) in the dict on top. */
  setItems(pairs: readonly PickleValue[]): void;
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
      if (key === null || typeof key === 'object') throw fail('pickle-key', `${kindOf(key)} as a key`);
      if (dict.entries.has(key))
        throw fail('duplicate-key', `the key ${JSON.stringify(String(key).slice(0, 60))} is set twice`);
      dict.entries.set(key, pairs[i + 1]!);
    }
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
    put: (index) => {
      if (memo.size >= MAX_MEMO) throw fail('pickle-size', `more than ${MAX_MEMO} memo entries`);
      memo.set(index, top());
    },
    get: (index) => {
      const value = memo.get(index);
      if (value === undefined) throw fail('pickle-memo', `memo entry ${index} was never put`);
      push(value);
    },
    append,
    setItems,
    result: () => {
      const value = pop();
      if (stack.length > 0 || marks.length > 0) throw fail('pickle-stack', 'values are left on the stack at the end');
      return value;
    },
  };
}
