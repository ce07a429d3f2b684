import { DTYPE_BITS, elementCount } from './stored-tensor.js';

/** A tensor that is to be written. */
export interface PlannedTensor {
  readonly name: string;
  /** As safetensors writes it. */
  readonly dtype: string;
  readonly shape: readonly number[];
}

export const byteLengthOf = ({ dtype, shape }: PlannedTensor): number =>
  (elementCount(shape) * DTYPE_BITS.get(dtype)!) / 8;

/** The beginning of a safetensors file, and the order in which its tensors follow. */
export interface SafetensorsPlan<T extends PlannedTensor> {
  /** Length and JSON, padded with spaces to a multiple of 8. */
  readonly header: Uint8Array<ArrayBuffer>;
  readonly tensors: readonly T[];
  /** Bytes of the whole file. */
  readonly size: number;
}

/**
 * Lays out a safetensors file as the reference writer does: wide dtypes first, then by name, so that every tensor is aligned and equal
 * checkpoints give equal files.
 */
export function planSafetensors<T extends PlannedTensor>(
  tensors: readonly T[],
  metadata: Readonly<Record<string, string>>,
): SafetensorsPlan<T> {
  const sorted = [...tensors].sort(
    (a, b) => DTYPE_BITS.get(b.dtype)! - DTYPE_BITS.get(a.dtype)! || (a.name < b.name ? -1 : 1),
  );
  let end = 0;
  const entries = sorted.map((tensor) => {
    const begin = end;
    end += byteLengthOf(tensor);
    const { name, dtype, shape } = tensor;
    return [name, { dtype, shape, data_offsets: [begin, end] }] as const;
  });
  const keys = Object.keys(metadata).sort();
  const described = Object.fromEntries([
    ['__metadata__', Object.fromEntries(keys.map((key) => [key, metadata[key]]))],
    ...entries,
  ]);
  const json = new TextEncoder().encode(JSON.stringify(described));
  const length = Math.ceil(json.length / 8) * 8;
  const header = new Uint8Array(8 + length).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true);
  header.set(json, 8);
  return { header, tensors: sorted, size: header.length + end };
}
