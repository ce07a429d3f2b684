import { readBin } from './fixtures.js';

/** A tensor of a trusted fixture, its values widened to double. */
export interface PeekedTensor {
  readonly shape: readonly number[];
  readonly values: Float64Array;
}

/** Reads F32, F64 and I32 tensors of a fixture that is known to be well-formed. The product's reader is src/checkpoint; this one shares no line with it. */
export function peekSafetensors(path: string): Map<string, PeekedTensor> {
  const bytes = readBin(path);
  const view = new DataView(bytes.buffer);
  const start = 8 + Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start))) as Record<string, Entry>;
  const tensors = new Map<string, PeekedTensor>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const [size, read] = READERS[entry.dtype] ?? [0, () => Number.NaN];
    if (size === 0) continue;
    const from = start + entry.data_offsets[0];
    const count = (entry.data_offsets[1] - entry.data_offsets[0]) / size;
    tensors.set(name, {
      shape: entry.shape,
      values: Float64Array.from({ length: count }, (_, i) => read(view, from + i * size)),
    });
  }
  return tensors;
}

interface Entry {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}

const READERS: Readonly<Record<string, readonly [number, (view: DataView, at: number) => number]>> = {
  F32: [4, (view, at) => view.getFloat32(at, true)],
  F64: [8, (view, at) => view.getFloat64(at, true)],
  I32: [4, (view, at) => view.getInt32(at, true)],
};
