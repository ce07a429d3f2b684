/**
 * What our pickle reader can build: plain data, names from a fixed list, and the two things that a checkpoint is made of.
 * Nothing here is callable, and nothing here is a JavaScript object that the file could give properties to.
 */
export type PickleValue =
  | null
  | boolean
  | number // an integer that a double holds exactly
  | bigint // a larger one
  | string
  | PickleFloat
  | PickleList
  | PickleTuple
  | PickleDict
  | PickleGlobal
  | PickleStorage
  | PickleTensor
  | PickleInert;

/** A Python float; kept apart, because 2.0 is not a size. */
export interface PickleFloat {
  readonly kind: 'float';
  readonly value: number;
}
export interface PickleList {
  readonly kind: 'list';
  readonly items: PickleValue[];
}
export interface PickleTuple {
  readonly kind: 'tuple';
  readonly items: readonly PickleValue[];
}
export interface PickleDict {
  readonly kind: 'dict';
  /** An OrderedDict may be given attributes (`_metadata`), a plain dict not. */
  readonly ordered: boolean;
  readonly entries: Map<string | number | bigint | boolean, PickleValue>;
}
/** A name from the list of allowed ones. */
export interface PickleGlobal {
  readonly kind: 'global';
  readonly name: string;
}
/** A block of numbers elsewhere in the file. */
export interface PickleStorage {
  readonly kind: 'storage';
  readonly dtype: string;
  readonly itemBytes: number;
  readonly key: string;
  /** Elements. */
  readonly count: number;
}
/** A strided view of a storage; offset and strides count elements. Checked to be inside. */
export interface PickleTensor {
  readonly kind: 'tensor';
  readonly storage: PickleStorage;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  /** torch's negative bit: the values are the stored ones with the sign changed. */
  readonly negative: boolean;
  /** torch's conjugate bit, of complex numbers. */
  readonly conjugate: boolean;
}
/** Something harmless that loading has no use for: a device, a dtype, a set. Its content is not kept. */
export interface PickleInert {
  readonly kind: 'inert';
  readonly name: string;
}

type Kinds = Exclude<PickleValue, null | boolean | number | bigint | string>;

/** Is the value of this kind? */
export function isKind<K extends Kinds['kind']>(
  value: PickleValue | undefined,
  kind: K,
): value is Extract<Kinds, { kind: K }> {
  return typeof value === 'object' && value !== null && value.kind === kind;
}

/** What a value is, for messages; never its content. */
export function kindOf(value: PickleValue | undefined): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'None';
  if (typeof value === 'object')
    return value.kind === 'global' || value.kind === 'inert' ? value.name : `a ${value.kind}`;
  return typeof value === 'number' || typeof value === 'bigint' ? 'an integer' : `a ${typeof value}`;
}

/** Makes the error at the offset of the opcode that is being run. */
export type PickleFail = (code: string, detail: string, unsupported?: boolean) => Error;
/** What a persistent id stands for: torch's way to name a storage. */
export type LoadStorage = (id: PickleTuple, fail: PickleFail) => PickleStorage;
