import { fault } from '../fault.js';
import type { HuffmanTable } from './types.js';

export const FAST_BITS = 9;

/**
 * Builds a table from a DHT segment: 16 counts of code lengths, then the symbols (ITU-T T.81, annex C).
 * @throws ImageError when there are more codes of a length than fit.
 */
export function huffmanTable(counts: Uint8Array, symbols: Uint8Array, offset: number): HuffmanTable {
  const fast = new Uint16Array(1 << FAST_BITS);
  const limits = new Int32Array(18);
  const offsets = new Int32Array(18);
  let code = 0;
  let index = 0;
  for (let length = 1; length <= 16; length++) {
    offsets[length] = index - code;
    for (let i = 0; i < counts[length - 1]!; i++, code++, index++) {
      if (length > FAST_BITS) continue;
      const first = code << (FAST_BITS - length);
      fast.fill((length << 8) | symbols[index]!, first, first + (1 << (FAST_BITS - length)));
    }
    // T.81 keeps the code of all ones free, and so do the decoders that we agree with
    if (code >= 1 << length) throw fault('jpeg-huffman', 'Huffman code lengths are oversubscribed', offset);
    limits[length] = code << (16 - length);
    code <<= 1;
  }
  limits[17] = 0x7fffffff;
  return { fast, limits, offsets, symbols };
}

/** Finds a code longer than FAST_BITS at the top of 16 bits: length << 8 | symbol, or 0 when there is none. */
export function slowLookup(table: HuffmanTable, bits16: number): number {
  let length = FAST_BITS + 1;
  while (bits16 >= table.limits[length]!) length++;
  if (length > 16) return 0;
  return (length << 8) | table.symbols[(bits16 >> (16 - length)) + table.offsets[length]!]!;
}
