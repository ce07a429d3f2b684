import { fault } from '../fault.js';
import type { BitReader } from './entropy.js';
import { FAST_BITS, slowLookup } from './huffman.js';
import { COEFFICIENT_BITS, inverseTransform, inverseTransformFlat } from './idct.js';
import type { BlockDecoder } from './scan.js';
import { type HuffmanTable, type Scan, ZIGZAG } from './types.js';

const FAST_MASK = (1 << FAST_BITS) - 1;

const outOfRange = () => fault('jpeg-data', 'a coefficient beyond what 8-bit samples can give');
const badCode = () => fault('jpeg-data', 'a bit pattern that is no Huffman code');

/**
 * Reads one block of baseline data (T.81, F.2.2) and dequantises it into `block`, which is zero before.
 * block[0] gets the difference to the block before, not dequantised. @returns the zigzag place of the last coefficient.
 */
function readBlock(
  reader: BitReader,
  dc: HuffmanTable,
  ac: HuffmanTable,
  quant: Int32Array,
  block: Int32Array,
): number {
  const { bytes } = reader;
  let { hold, bits, position } = reader;
  let table = dc;
  let last = 0;
  let magnitudes = 0;
  for (let k = 0; k < 64; k++) {
    if (bits < 16) {
      hold = (hold << 16) | (bytes[position]! << 8) | bytes[position + 1]!;
      position += 2;
      bits += 16;
    }
    const entry =
      table.fast[(hold >>> (bits - FAST_BITS)) & FAST_MASK]! || slowLookup(table, (hold >>> (bits - 16)) & 0xffff);
    if (entry === 0) throw badCode();
    bits -= entry >> 8;
    const size = entry & 15;
    const run = (entry >> 4) & 15;
    if (size === 0) {
      if (table === ac) {
        if (run !== 15) break; // end of block
        k += 15;
      }
    } else {
      if (bits < 16) {
        hold = (hold << 16) | (bytes[position]! << 8) | bytes[position + 1]!;
        position += 2;
        bits += 16;
      }
      bits -= size;
      k += run;
      if (k > 63) throw fault('jpeg-data', 'a run of coefficients leaves its block');
      let value = (hold >>> bits) & ((1 << size) - 1);
      if (value < 1 << (size - 1)) value += 1 - (1 << size);
      const place = ZIGZAG[k]!;
      if (k > 0) {
        value = Math.imul(value, quant[place]!);
        magnitudes |= value ^ (value >> 31);
      }
      block[place] = value;
      last = k;
    }
    table = ac;
  }
  reader.hold = hold;
  reader.bits = bits;
  reader.position = position;
  if (magnitudes >> COEFFICIENT_BITS !== 0) throw outOfRange();
  return last;
}

/** Decodes the blocks of a baseline or extended sequential scan straight into the samples of their components. */
export function sequentialDecoder(reader: BitReader, scan: Scan): BlockDecoder {
  const predictions = new Int32Array(4);
  const block = new Int32Array(64);
  return {
    restart: () => predictions.fill(0),
    block(index, row, column) {
      const { component, dc, ac } = scan.parts[index]!;
      const { plane, stride } = component;
      const quant = component.quant!;
      const last = readBlock(reader, dc!, ac!, quant, block);
      predictions[index]! += block[0]!;
      const first = Math.imul(predictions[index]!, quant[0]!);
      if (Math.abs(first) >> COEFFICIENT_BITS !== 0) throw outOfRange();
      const at = (row * stride * 8 + column) * 8;
      if (last === 0) {
        inverseTransformFlat(first, plane, at, stride * 8);
        block[0] = 0;
        return;
      }
      block[0] = first;
      inverseTransform(block, plane, at, stride * 8);
      block.fill(0);
    },
  };
}
