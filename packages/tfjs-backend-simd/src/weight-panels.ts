import type { Heap } from './heap.js';
import { FORMAT, type WeightFormat } from './memory-map.js';
import type { SimdBackend } from './simd-backend.js';
import { type Packed, packedBytes } from './stored.js';

/** Output channels of a weight, as a file or a program has them. */
export interface Channels {
  /** Numbers of `source`: Float32Array for f32, the bits as Uint16Array for bf16 and f16, Int8Array for int8. */
  readonly data: Float32Array | Uint16Array | Int8Array;
  readonly source: WeightFormat;
  /** [channels, in], as PyTorch stores them; otherwise [in, channels]. */
  readonly turned: boolean;
  /** The scales are in the panels already; only where int8 stays int8. */
  readonly given?: boolean;
}

/** Why numbers cannot be kept in a format. */
export type PackFault = 'non-finite' | 'too-large';

/** Numbers that are staged at once on their way into the panels: they stay in the second-level cache. */
const STAGE = 2 ** 18;

/** Sizes from which on a number is too large: bf16 would round it to infinity, the kernels' f16 has no room for 128. */
const TOO_LARGE: Readonly<Record<WeightFormat, number>> = {
  f32: Number.POSITIVE_INFINITY,
  bf16: 2 ** 128 - 2 ** 119,
  f16: 128 - 2 ** -5,
  int8: Number.POSITIVE_INFINITY,
};

/** Room for the panels of a weight [rows, columns]. */
export function newPanels(heap: Heap, format: WeightFormat, rows: number, columns: number): Packed {
  const bytes = packedBytes(format, rows, columns);
  const scaleBytes = format === 'int8' ? Math.ceil(columns / 8) * 8 * 4 : 0;
  const address = heap.alloc(bytes);
  try {
    return { format, rows, columns, address, bytes, scales: scaleBytes > 0 ? heap.alloc(scaleBytes) : 0, scaleBytes };
  } catch (error) {
    heap.free(address, bytes);
    throw error;
  }
}

/**
 * Puts output channels, from channel `first` (a multiple of 8) on, into their panels, rounded to the format: to the nearest, ties to even; int8
 * symmetrically, the largest of a channel becomes ±127. All channels up to the last of the weight come in multiples of 8.
 */
export function packChannels(
  backend: SimdBackend,
  packed: Packed,
  first: number,
  channels: Channels,
): PackFault | undefined {
  const { rows } = packed;
  const count = rows === 0 ? 0 : channels.data.length / rows;
  const strip = Math.max(8, Math.floor(STAGE / Math.max(1, rows)) & ~7);
  return backend.call('pack weight', () => {
    const room = Math.min(strip, count) * rows;
    const floats = backend.scratch((room + 8) * 4); // widening goes in eights
    const words = channels.source === 'f32' ? floats : backend.scratch(room * channels.data.BYTES_PER_ELEMENT);
    const spare = backend.scratch(rows * 32);
    for (let from = 0; from < count; from += strip) {
      const width = Math.min(strip, count - from);
      carry(backend, channels, words, rows, from, width);
      if (words !== floats) backend.kernels.widenStored(FORMAT[channels.source], words, floats, width * rows);
      const largest = backend.kernels.largest(floats, width * rows); // NaN counts as infinite
      if (largest === Number.POSITIVE_INFINITY) return 'non-finite';
      if (largest >= TOO_LARGE[packed.format]) return 'too-large';
      packFloats(backend, packed, first + from, floats, width, spare, channels);
    }
    return undefined;
  });
}

/** Channels `from` to `from + width` into our memory, without gaps. */
function carry(
  { heap }: SimdBackend,
  { data, turned }: Channels,
  to: number,
  rows: number,
  from: number,
  width: number,
): void {
  const size = data.BYTES_PER_ELEMENT;
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const part = (start: number, count: number) => bytes.subarray(start * size, (start + count) * size);
  if (turned) {
    heap.u8.set(part(from * rows, width * rows), to);
    return;
  }
  const columns = data.length / rows;
  for (let row = 0; row < rows; row++) heap.u8.set(part(row * columns + from, width), to + row * width * size);
}

function packFloats(
  { kernels }: SimdBackend,
  packed: Packed,
  first: number,
  floats: number,
  width: number,
  spare: number,
  { turned, given = false }: Channels,
): void {
  const { format, rows } = packed;
  const to = packed.address + packedBytes(format, rows, first);
  const rowBytes = (turned ? rows : width) * 4;
  const scales = packed.scales + first * 4;
  kernels.packStrip(FORMAT[format], floats, rowBytes, turned, to, scales, given, rows, width, spare);
}
