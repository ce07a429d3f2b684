import { type Image2TextError, quote, WeightError } from '../errors.js';

/** A tensor in a file: what its header says, and its bytes on request. */
export interface StoredTensor {
  readonly name: string;
  /** As safetensors writes it: F32, F16, BF16, F64, I64, … */
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** The file that holds it, for messages. */
  readonly file: string;
  /**
   * Its bytes [begin, end), row-major and little-endian; all of them by default. Only these are read. They may come in `space`, if that is
   * given and has their length, or in memory of their own.
   */
  read(begin?: number, end?: number, space?: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>>;
  /** I8 weights of a quantized file: what one is worth in each output channel, F32 [out] (dtypes.ts). */
  readonly scales?: StoredTensor;
}

/** The tensors of a checkpoint by name. */
export type TensorMap = ReadonlyMap<string, StoredTensor>;

/** Bits of one element of each dtype that the safetensors format knows. */
export const DTYPE_BITS: ReadonlyMap<string, number> = new Map([
  ['BOOL', 8],
  ['F4', 4],
  ['F6_E2M3', 6],
  ['F6_E3M2', 6],
  ['U8', 8],
  ['I8', 8],
  ['F8_E5M2', 8],
  ['F8_E4M3', 8],
  ['F8_E8M0', 8],
  ['F8_E4M3FNUZ', 8],
  ['F8_E5M2FNUZ', 8],
  ['I16', 16],
  ['U16', 16],
  ['F16', 16],
  ['BF16', 16],
  ['I32', 32],
  ['U32', 32],
  ['F32', 32],
  ['C64', 64],
  ['F64', 64],
  ['I64', 64],
  ['U64', 64],
]);

/** Limits on any checkpoint, far above what a model of this kind has. */
export const MAX_TENSORS = 100_000;
export const MAX_RANK = 8;

/** A tensor's name for a message: as it is when plain, else quoted, escaped and cut. */
export const nameOf = (name: string): string => (/^[\w./-]{1,100}$/.test(name) ? name : quote(name));

export const elementCount = (shape: readonly number[]): number => shape.reduce((count, size) => count * size, 1);

/**
 * The same tensors under other names (`undefined` drops one). Throws WeightError (`name-collision`) when two would get the same.
 */
export function renameTensors(tensors: TensorMap, rename: (name: string) => string | undefined): TensorMap {
  const renamed = new Map<string, StoredTensor>();
  for (const [name, stored] of tensors) {
    const to = rename(name);
    if (to === undefined) continue;
    const other = renamed.get(to);
    if (other) throw collision(stored, other, to);
    renamed.set(to, to === name ? stored : { ...stored, name: to });
  }
  return renamed;
}

function collision(stored: StoredTensor, other: StoredTensor, name: string): Image2TextError {
  return new WeightError({
    file: stored.file,
    path: nameOf(name),
    code: 'name-collision',
    detail: stored.file === other.file ? 'two tensors mean this one' : `also in ${other.file}`,
  });
}

/** Further names for tensors that are there (weights that the model ties); a name that exists already is left as it is. */
export function aliasTensors(tensors: TensorMap, aliases: Readonly<Record<string, string>>): TensorMap {
  const result = new Map(tensors);
  for (const [alias, name] of Object.entries(aliases)) {
    const stored = tensors.get(name);
    if (stored && !result.has(alias)) result.set(alias, { ...stored, name: alias });
  }
  return result;
}
