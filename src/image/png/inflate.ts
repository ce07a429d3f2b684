import { ImageError } from '../../errors.js';
import { join } from '../image-file.js';
import { fault } from '../raw-image.js';

/** Bits looked up at once. Longer codes (rare by construction) take the slow path. */
const FAST_BITS = 10;
const FAST_MASK = (1 << FAST_BITS) - 1;

/** A deflate Huffman code: a table over the next FAST_BITS bits, and counts and sorted symbols for the longer codes. */
interface HuffmanCode {
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
function huffmanCode(lengths: Uint8Array): HuffmanCode {
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
function slowLookup(code: HuffmanCode, bits: number): number {
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

interface Codes {
  readonly literals: HuffmanCode;
  readonly distances: HuffmanCode;
}

let fixed: Codes | undefined;

/** The fixed code of RFC 1951, section 3.2.6. */
function fixedCodes(): Codes {
  fixed ??= makeFixedCodes();
  return fixed;
}

function makeFixedCodes(): Codes {
  const lengths = new Uint8Array(288).fill(8, 0, 144).fill(9, 144, 256).fill(7, 256, 280).fill(8, 280);
  return { literals: huffmanCode(lengths), distances: huffmanCode(new Uint8Array(32).fill(5)) };
}

const BASE = 65521;
/** So many steps keep the second sum below 2^31, where integer arithmetic is fast. */
const STEPS = 3850;

/** Adler-32 (RFC 1950, section 8) of `bytes`, continued from `sum`; begin with 1. */
function adler32(sum: number, bytes: Uint8Array): number {
  let a = sum & 0xffff;
  let b = sum >>> 16;
  for (let i = 0; i < bytes.length; ) {
    for (const stop = Math.min(bytes.length, i + STEPS); i < stop; i++) {
      a += bytes[i]!;
      b += a;
    }
    a %= BASE;
    b %= BASE;
  }
  return b * 65536 + a;
}

const WINDOW = 32768;
const PIECE = 1 << 18;
/** Zeros after the input, so that the bit buffer can be filled without looking for the end each time. */
const PADDING = 16;

const LENGTH_BASE = /* @__PURE__ */ Uint16Array.of(
  ...[
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258,
  ],
);
const LENGTH_EXTRA = /* @__PURE__ */ Uint8Array.of(
  ...[0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0],
);
const DISTANCE_BASE = /* @__PURE__ */ Uint16Array.from({ length: 30 }, (_, i) =>
  i < 4 ? i + 1 : (2 + (i & 1)) * 2 ** ((i >> 1) - 1) + 1,
);
const CODE_LENGTH_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

interface Stream {
  /** The deflate data and PADDING zeros. */
  readonly input: Uint8Array;
  readonly end: number;
  position: number;
  hold: number;
  bits: number;
  /** The last 32 KiB of output and what was not handed on yet. */
  readonly output: Uint8Array;
  filled: number;
  /** Where in `output` the bytes begin that were not handed on. */
  pending: number;
  /** Bytes of output before output[0]. */
  before: number;
  readonly limit: number;
  readonly write: (bytes: Uint8Array) => void;
}

const truncated = () => fault('zlib-truncated', 'the compressed data end too early');
const invalid = (what: string) => fault('zlib-data', what);

function need(s: Stream, count: number): number {
  while (s.bits < count) {
    if (s.position >= s.end + PADDING) throw truncated();
    s.hold |= s.input[s.position++]! << s.bits;
    s.bits += 8;
  }
  return s.hold;
}

function take(s: Stream, count: number): number {
  const value = need(s, count) & ((1 << count) - 1);
  s.hold >>>= count;
  s.bits -= count;
  return value;
}

function decode(s: Stream, code: HuffmanCode): number {
  const hold = need(s, 15);
  const entry = code.fast[hold & FAST_MASK]! || slowLookup(code, hold);
  if (entry === 0) throw invalid('a bit pattern that is no Huffman code');
  s.hold >>>= entry & 15;
  s.bits -= entry & 15;
  return entry >>> 4;
}

/** Hands on what is pending and keeps the last 32 KiB for back references. */
function flush(s: Stream): void {
  s.write(s.output.subarray(s.pending, s.filled));
  const keep = Math.min(WINDOW, s.filled);
  s.output.copyWithin(0, s.filled - keep, s.filled);
  s.before += s.filled - keep;
  s.filled = s.pending = keep;
}

/** More output than asked for: the caller has all it wants, and a bomb must not go on. */
const full = (s: Stream) => s.before + s.filled > s.limit;

function storedBlock(s: Stream): void {
  take(s, s.bits & 7);
  const length = take(s, 16);
  if ((take(s, 16) ^ 0xffff) !== length) throw invalid('the length of a stored block is damaged');
  let from = s.position - (s.bits >> 3);
  s.hold = s.bits = 0;
  const stop = from + length;
  if (stop > s.end) throw truncated();
  while (from < stop) {
    const count = Math.min(stop - from, WINDOW + PIECE - s.filled);
    s.output.set(s.input.subarray(from, from + count), s.filled);
    s.filled += count;
    from += count;
    if (s.filled >= WINDOW + PIECE) flush(s);
  }
  s.position = stop;
}

function dynamicCodes(s: Stream): Codes {
  const literalCount = take(s, 5) + 257;
  const distanceCount = take(s, 5) + 1;
  const lengthCount = take(s, 4) + 4;
  if (literalCount > 286 || distanceCount > 30) throw invalid('too many Huffman symbols');
  const lengths = new Uint8Array(19);
  for (let i = 0; i < lengthCount; i++) lengths[CODE_LENGTH_ORDER[i]!] = take(s, 3);
  const lengthCode = huffmanCode(lengths);
  const all = new Uint8Array(literalCount + distanceCount);
  for (let i = 0; i < all.length; ) {
    const symbol = decode(s, lengthCode);
    if (symbol < 16) {
      all[i++] = symbol;
      continue;
    }
    if (symbol === 16 && i === 0) throw invalid('a repeated code length without one before it');
    const value = symbol === 16 ? all[i - 1]! : 0;
    const count = symbol === 16 ? 3 + take(s, 2) : symbol === 17 ? 3 + take(s, 3) : 11 + take(s, 7);
    if (i + count > all.length) throw invalid('more code lengths than symbols');
    all.fill(value, i, i + count);
    i += count;
  }
  if (all[256] === 0) throw invalid('no code for the end of the block');
  return {
    literals: huffmanCode(all.subarray(0, literalCount)),
    distances: huffmanCode(all.subarray(literalCount)),
  };
}

/**
 * Literals and back references to the end of the block (true) or until the output is to be handed on. All state lives in locals, nothing is called but on rare paths: this loop is nearly
 * all of the decoder's time.
 */
function codedBlock(s: Stream, literals: HuffmanCode, distances: HuffmanCode): boolean {
  const { input, output } = s;
  const { end } = s;
  let { hold, bits, position, filled } = s;
  let ended = true;
  let sure = filled;
  // behind the end of the input are zeros: what is made of them is no output
  const wrong = (what: string) => {
    if (position <= end) return invalid(what);
    s.filled = sure;
    return truncated();
  };
  for (;;) {
    if (position > end && bits < 8 * (position - end)) throw wrong('');
    sure = filled;
    while (bits < 24) {
      hold |= input[position++]! << bits;
      bits += 8;
    }
    let entry = literals.fast[hold & FAST_MASK]! || slowLookup(literals, hold);
    if (entry === 0) throw wrong('a bit pattern that is no Huffman code');
    hold >>>= entry & 15;
    bits -= entry & 15;
    const symbol = entry >>> 4;
    if (symbol < 256) {
      output[filled++] = symbol;
    } else if (symbol === 256) {
      break;
    } else {
      if (symbol > 285) throw wrong('a length symbol that does not exist');
      let extra = LENGTH_EXTRA[symbol - 257]!;
      const length = LENGTH_BASE[symbol - 257]! + (hold & ((1 << extra) - 1));
      hold >>>= extra;
      bits -= extra;
      while (bits < 24) {
        hold |= input[position++]! << bits;
        bits += 8;
      }
      entry = distances.fast[hold & FAST_MASK]! || slowLookup(distances, hold);
      if (entry === 0) throw wrong('a bit pattern that is no Huffman code');
      hold >>>= entry & 15;
      bits -= entry & 15;
      const code = entry >>> 4;
      if (code > 29) throw wrong('a distance symbol that does not exist');
      extra = code < 4 ? 0 : (code >> 1) - 1;
      // a code of 15 bits and 13 extra bits are more than were made sure of
      while (bits < extra) {
        hold |= input[position++]! << bits;
        bits += 8;
      }
      const distance = DISTANCE_BASE[code]! + (hold & ((1 << extra) - 1));
      hold >>>= extra;
      bits -= extra;
      if (distance > filled) throw wrong('a distance before the start of the data');
      for (const stop = filled + length; filled < stop; filled++) output[filled] = output[filled - distance]!;
    }
    if (filled >= WINDOW + PIECE) {
      ended = false;
      break;
    }
  }
  Object.assign(s, { hold, bits, position, filled });
  return ended;
}

/** Stops on work that is out of proportion: empty blocks cost time and give nothing. */
export interface InflateBounds {
  /** Most bytes of output; a byte more ends the work. */
  readonly limit: number;
  /** Most blocks. */
  readonly blocks: number;
}

/**
 * Inflates a zlib stream (RFC 1950, 1951) given in pieces, handing the output on in pieces of about 256 KiB (valid during the call only),
 * and yields after each piece and each block. Stops once more than `limit` bytes came out, so that a bomb costs no more than the image
 * it pretends to be; otherwise the Adler-32 checksum must hold. Bytes after the stream are ignored.
 * @returns `unproved` where all bytes of a stream came out, but it ends before its checksum.
 * @throws ImageError for any broken, truncated or preset-dictionary stream, and for one of more blocks than `bounds` says.
 */
export function* inflateZlib(
  pieces: readonly Uint8Array[],
  bounds: InflateBounds,
  write: (bytes: Uint8Array) => void,
): Generator<undefined, 'whole' | 'longer' | 'unproved'> {
  const input = join(pieces, PADDING);
  const end = input.length - PADDING;
  if (end < 2) throw truncated();
  const [method, flags] = [input[0]!, input[1]!];
  if ((method & 15) !== 8 || method >> 4 > 7 || (method * 256 + flags) % 31 !== 0) throw invalid('not a zlib header');
  if (flags & 32) throw invalid('the stream asks for a preset dictionary');
  let sum = 1;
  const output = new Uint8Array(WINDOW + PIECE + 258);
  const handOn = (bytes: Uint8Array) => {
    sum = adler32(sum, bytes);
    write(bytes);
  };
  const state = { position: 2, hold: 0, bits: 0, filled: 0, pending: 0, before: 0 };
  const s: Stream = { input, end, output, limit: bounds.limit, write: handOn, ...state };
  const allThere = () => s.before + s.filled >= bounds.limit;
  try {
    let blocks = 0;
    for (let final = 0; final === 0 && !full(s); yield) {
      final = take(s, 1);
      const type = take(s, 2);
      if (++blocks > bounds.blocks) throw fault('zlib-blocks', `more than ${bounds.blocks} blocks for this image`);
      if (type === 0) storedBlock(s);
      else if (type === 3) throw invalid('a block of reserved type');
      else {
        const { literals, distances } = type === 1 ? fixedCodes() : dynamicCodes(s);
        while (!codedBlock(s, literals, distances) && !full(s)) {
          flush(s);
          yield;
        }
      }
    }
    flush(s);
    if (full(s)) return 'longer';
    take(s, s.bits & 7);
    const expected = take(s, 8) * 0x1000000 + (take(s, 8) << 16) + (take(s, 8) << 8) + take(s, 8);
    if (s.position - (s.bits >> 3) > end) throw truncated();
    if (sum !== expected) throw invalid('the zlib checksum is wrong');
    return 'whole';
  } catch (error) {
    if (!(error instanceof ImageError) || error.code !== 'zlib-truncated' || !allThere()) throw error;
    flush(s);
    return 'unproved';
  }
}
