import { fault } from '../fault.js';

/** Bits looked up at once. Longer codes (rare by construction) take the slow path. */
export const FAST_BITS = 10;

/** A deflate Huffman code: a table over the next FAST_BITS bits, and counts and sorted symbols for the longer codes. */
export interface HuffmanCode {
  /** symbol << 4 | length, at every index whose low bits are the (bit-reversed) code; 0 where the code is longer or absent. */
  readonly fast: Uint16Array;
  /** Number of codes of each length, [16]. */
  readonly counts: Uint16Array;
  /** Symbols in order of their codes. */
  readonly symbols: Uint16Array;
}

function reverseBits(code: number, length: number): number {
  let reversed = 0;
  for (let i = 0; i < length; i++) reversed |= ((code >>> i) & 1) << (length - 1 - i);
  return reversed;
}

/**
 * Builds the canonical code of RFC 1951, section 3.2.2, from code lengths (0..15). As zlib: too many codes is an error, too few
 * as well, except for a single code of one bit or none at all.
 */
export function huffmanCode(lengths: Uint8Array): HuffmanCode {
  const counts = new Uint16Array(16);
  for (const length of lengths) counts[length]!++;
  const used = lengths.length - counts[0]!;
  counts[0] = 0;
  const next = new Uint16Array(16); // next code of each length
  const place = new Uint16Array(16); // next place in symbols
  let left = 1;
  for (let length = 1; length < 16; length++) {
    left = left * 2 - counts[length]!;
    if (left < 0) throw fault('zlib-huffman', 'Huffman code lengths are oversubscribed');
    next[length] = (next[length - 1]! + counts[length - 1]!) << 1;
    place[length] = place[length - 1]! + counts[length - 1]!;
  }
  if (left > 0 && used > 0 && !(used === 1 && counts[1] === 1)) {
    throw fault('zlib-huffman', 'Huffman code lengths are incomplete');
  }
  const fast = new Uint16Array(1 << FAST_BITS);
  const symbols = new Uint16Array(used);
  for (let symbol = 0; symbol < lengths.length; symbol++) {
    const length = lengths[symbol]!;
    if (length === 0) continue;
    symbols[place[length]!++] = symbol;
    const code = next[length]!++;
    if (length > FAST_BITS) continue;
    const entry = (symbol << 4) | length;
    for (let i = reverseBits(code, length); i < fast.length; i += 1 << length) fast[i] = entry;
  }
  return { fast, counts, symbols };
}

/** Finds a code longer than FAST_BITS in the next 15 bits: symbol << 4 | length, or 0 when there is none. */
export function slowLookup(code: HuffmanCode, bits: number): number {
  let value = 0;
  let first = 0;
  let index = 0;
  for (let length = 1; length < 16; length++) {
    value |= (bits >>> (length - 1)) & 1;
    const count = code.counts[length]!;
    if (value - first < count) return (code.symbols[index + value - first]! << 4) | length;
    index += count;
    first = (first + count) << 1;
    value <<= 1;
  }
  return 0;
}

/** The fixed code of RFC 1951, section 3.2.6. */
export function fixedCodes(): { literals: HuffmanCode; distances: HuffmanCode } {
  const lengths = new Uint8Array(288).fill(8, 0, 144).fill(9, 144, 256).fill(7, 256, 280).fill(8, 280);
  return { literals: huffmanCode(lengths), distances: huffmanCode(new Uint8Array(32).fill(5)) };
}
