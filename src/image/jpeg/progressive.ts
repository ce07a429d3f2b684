import { fault } from '../fault.js';
import { type BitReader, takeBits } from './entropy.js';
import { FAST_BITS, slowLookup } from './huffman.js';
import { COEFFICIENT_BITS, inverseTransform, inverseTransformFlat } from './idct.js';
import type { BlockDecoder } from './scan.js';
import { type Component, type HuffmanTable, type Scan, ZIGZAG } from './types.js';

/** The next Huffman symbol. */
function symbol(reader: BitReader, table: HuffmanTable): number {
  if (reader.bits < 16) {
    reader.hold = (reader.hold << 16) | (reader.bytes[reader.position]! << 8) | reader.bytes[reader.position + 1]!;
    reader.position += 2;
    reader.bits += 16;
  }
  const { hold, bits } = reader;
  const entry =
    table.fast[(hold >>> (bits - FAST_BITS)) & ((1 << FAST_BITS) - 1)]! ||
    slowLookup(table, (hold >>> (bits - 16)) & 0xffff);
  if (entry === 0) throw fault('jpeg-data', 'a bit pattern that is no Huffman code');
  reader.bits = bits - (entry >> 8);
  return entry & 255;
}

/** A number of `size` bits in JPEG's signed form (T.81, F.2.2.1). */
function signed(reader: BitReader, size: number): number {
  const value = takeBits(reader, size);
  return value < 1 << (size - 1) ? value + 1 - (1 << size) : value;
}

/** The decoder of one scan of a progressive image (T.81, annex G): it adds coefficients or bits of them to what is known. */
export function progressiveDecoder(reader: BitReader, scan: Scan): BlockDecoder {
  const state = { predictions: new Int32Array(4), endOfBand: 0 };
  const decode = scan.start === 0 ? (scan.high ? dcRefine : dcFirst) : scan.high ? acRefine : acFirst;
  return {
    restart() {
      state.predictions.fill(0);
      state.endOfBand = 0;
    },
    block(part, row, column) {
      const { component } = scan.parts[part]!;
      decode(reader, scan, part, component.coefficients, (row * component.stride + column) * 64, state);
    },
  };
}

interface State {
  readonly predictions: Int32Array;
  /** Blocks, this one included, in which nothing more of the band is coded. */
  endOfBand: number;
}

type Decode = (r: BitReader, scan: Scan, part: number, coefficients: Int16Array, at: number, state: State) => void;

const dcFirst: Decode = (reader, scan, part, coefficients, at, state) => {
  const size = symbol(reader, scan.parts[part]!.dc!);
  if (size > 0) state.predictions[part]! += signed(reader, size);
  coefficients[at] = state.predictions[part]! << scan.low;
};

const dcRefine: Decode = (reader, scan, _part, coefficients, at) => {
  if (takeBits(reader, 1)) coefficients[at]! |= 1 << scan.low;
};

const acFirst: Decode = (reader, scan, part, coefficients, at, state) => {
  if (state.endOfBand > 0) {
    state.endOfBand--;
    return;
  }
  const table = scan.parts[part]!.ac!;
  for (let k = scan.start; k <= scan.end; k++) {
    const code = symbol(reader, table);
    const run = code >> 4;
    const size = code & 15;
    if (size > 0) {
      k += run;
      if (k > scan.end) throw fault('jpeg-data', 'a run of coefficients leaves its band', scan.offset);
      coefficients[at + ZIGZAG[k]!] = signed(reader, size) * (1 << scan.low);
    } else if (run === 15) {
      k += 15;
    } else {
      state.endOfBand = (1 << run) - 1 + (run > 0 ? takeBits(reader, run) : 0);
      return;
    }
  }
};

/** One more bit for a coefficient that is not zero. */
function refine(reader: BitReader, coefficients: Int16Array, place: number, bit: number): void {
  const value = coefficients[place]!;
  if (takeBits(reader, 1) && (value & bit) === 0) coefficients[place] = value + (value > 0 ? bit : -bit);
}

/** Goes on from k to the `zeros + 1`-th coefficient that is zero, refining all others on the way; gives its k, or end + 1. */
function refineAcross(
  reader: BitReader,
  scan: Scan,
  coefficients: Int16Array,
  at: number,
  from: number,
  zeros: number,
) {
  let left = zeros;
  let k = from;
  for (; k <= scan.end; k++) {
    const place = at + ZIGZAG[k]!;
    if (coefficients[place] !== 0) refine(reader, coefficients, place, 1 << scan.low);
    else if (left-- === 0) break;
  }
  return k;
}

const acRefine: Decode = (reader, scan, part, coefficients, at, state) => {
  let k = scan.start;
  for (; state.endOfBand === 0 && k <= scan.end; k++) {
    const code = symbol(reader, scan.parts[part]!.ac!);
    const run = code >> 4;
    if ((code & 15) > 1) throw fault('jpeg-data', 'a refinement of more than one bit', scan.offset);
    if ((code & 1) === 0 && run < 15) {
      state.endOfBand = (1 << run) + (run > 0 ? takeBits(reader, run) : 0);
      break;
    }
    const value = code & 1 ? (takeBits(reader, 1) ? 1 : -1) * (1 << scan.low) : 0;
    k = refineAcross(reader, scan, coefficients, at, k, run);
    if (value === 0) continue;
    if (k > scan.end) throw fault('jpeg-data', 'a run of coefficients leaves its band', scan.offset);
    coefficients[at + ZIGZAG[k]!] = value;
  }
  if (state.endOfBand === 0) return;
  refineAcross(reader, scan, coefficients, at, k, 64);
  state.endOfBand--;
};

/** Dequantises and transforms all blocks of a component whose scans are over. */
export function transformComponent(component: Component): void {
  const { coefficients, plane, stride, blocksHigh, blocksWide } = component;
  const quant = component.quant!;
  const block = new Int32Array(64);
  for (let row = 0; row < blocksHigh; row++) {
    for (let column = 0; column < blocksWide; column++) {
      const from = (row * stride + column) * 64;
      const to = (row * stride * 8 + column) * 8;
      let ac = 0;
      let magnitudes = 0;
      for (let i = 0; i < 64; i++) {
        const value = Math.imul(coefficients[from + i]!, quant[i]!);
        if (i > 0) ac |= value;
        magnitudes |= value ^ (value >> 31);
        block[i] = value;
      }
      if (magnitudes >> COEFFICIENT_BITS !== 0) {
        throw fault('jpeg-data', 'a coefficient beyond what 8-bit samples can give');
      }
      if (ac === 0) inverseTransformFlat(block[0]!, plane, to, stride * 8);
      else inverseTransform(block, plane, to, stride * 8);
    }
  }
}
