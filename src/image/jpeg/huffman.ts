import { fault } from '../raw-image.js';
import { type HuffmanCodes, type JpegState, MARKER, type Marker, nextMarker, type Scan, ZIGZAG } from './markers.js';

/** What is mended in a scan. */
export const EARLY_END = 'entropy-coded data end too early: the rest is filled in';
export const RESTARTS = 'restart markers are missing or out of order';

/** Zeros after the data: more than one MCU can read past its end. */
const PADDING = 1 << 14;
/** Bits that libjpeg may take into its buffer before it needs them. */
const READ_AHEAD = 57;

/**
 * The entropy-coded data of one scan, a restart interval at a time, stuffing removed, with libjpeg's ways out of damage: past the end
 * of an interval the data are zeros, and a marker that is not the expected one is skipped or left as it says.
 */
export class EntropyData {
  /** Of the current interval, then PADDING zeros. */
  data: Uint8Array = new Uint8Array(PADDING);
  /** Bytes in `data` without the zeros. */
  length = 0;
  /** Whether the interval has no more data: its blocks stay as they are until the next restart. */
  exhausted = false;
  /** Bits that the decoder of the interval has not read, as of its last MCU; arithmetic coding counts none. */
  bitsLeft = Number.POSITIVE_INFINITY;
  #marker: Marker;
  #nextRestart = 0;
  readonly #bytes: Uint8Array;
  readonly #warnings: Set<string>;

  constructor(bytes: Uint8Array, offset: number, warnings: Set<string>) {
    this.#bytes = bytes;
    this.#warnings = warnings;
    this.#marker = this.#read(offset);
  }

  /** Whether the file ends without a marker, and so early that libjpeg, which reads ahead, waits for more in the last MCU. */
  get endsInScan(): boolean {
    return this.cut && this.bitsLeft < READ_AHEAD;
  }

  /** Whether the file ends without a marker. */
  get cut(): boolean {
    return this.#marker.code < 0;
  }

  /** Offset of the marker behind the data read so far. */
  get next(): number {
    return this.#marker.offset;
  }

  /** Copies what is between `offset` and the next marker to `data`. FF 00, also after fill bytes FF, is the byte FF. */
  #read(offset: number): Marker {
    const bytes = this.#bytes;
    let filled = 0;
    let from = offset;
    const copy = (to: number) => {
      const needed = filled + to - from + PADDING + 1;
      if (needed > this.data.length) {
        const larger = new Uint8Array(Math.min(bytes.length - offset + PADDING + 1, 2 * needed));
        larger.set(this.data.subarray(0, filled));
        this.data = larger;
      }
      this.data.set(bytes.subarray(from, to), filled);
      filled += to - from;
    };
    for (;;) {
      const found = bytes.indexOf(0xff, from);
      const ff = found < 0 ? bytes.length : found;
      copy(ff);
      let after = ff;
      while (bytes[after] === 0xff) after++;
      if (bytes[after] !== 0) {
        if (this.length > filled) this.data.fill(0, filled, this.length);
        this.length = filled;
        return after < bytes.length
          ? { code: bytes[after]!, offset: after - 1, next: after + 1 }
          : { code: -1, offset: bytes.length, next: bytes.length };
      }
      this.data[filled++] = 0xff;
      from = after + 1;
    }
  }

  /** To be called when more was read than there is. @throws ImageError where the file itself ends: it was cut. */
  exhaust(): void {
    if (this.#marker.code < 0) throw fault('jpeg-truncated', 'the entropy-coded data end too early', this.next);
    if (!this.exhausted) this.#warnings.add(EARLY_END);
    this.exhausted = true;
  }

  /** Goes on to the next restart interval, as libjpeg's read_restart_marker and jpeg_resync_to_restart do. */
  restart(): void {
    const desired = this.#nextRestart;
    this.#nextRestart = (desired + 1) & 7;
    let marker = this.#marker;
    for (;;) {
      const { code } = marker;
      if (code < 0) throw fault('jpeg-truncated', 'the entropy-coded data end too early', marker.offset);
      const ahead = (code - MARKER.RST0 - desired) & 7;
      const isRestart = code >= MARKER.RST0 && code <= MARKER.RST7;
      if (!isRestart || ahead !== 0) this.#warnings.add(RESTARTS);
      if (code < MARKER.SOF0 || (isRestart && (ahead === 7 || ahead === 6))) {
        marker = nextMarker(this.#bytes, marker.next); // no marker, or one that is over: look further
        continue;
      }
      this.#marker = marker;
      if (isRestart && ahead !== 1 && ahead !== 2) {
        this.#marker = this.#read(marker.next);
        this.exhausted = false;
        return;
      }
      // the intervals up to this marker are lost: the present one has no data
      this.data.fill(0, 0, this.length);
      this.length = 0;
      return;
    }
  }
}

const FAST_BITS = 9;
const FAST_MASK = (1 << FAST_BITS) - 1;

/** Codes made for looking up. */
export interface HuffmanTable {
  /** length << 8 | symbol for every 9-bit beginning that holds a whole code; 0 otherwise. */
  readonly fast: Uint16Array;
  /** First value past the codes of each length, aligned to 16 bits; [18], the last is a stop. */
  readonly limits: Int32Array;
  /** symbol index = code + offsets[length]. */
  readonly offsets: Int32Array;
  readonly symbols: Uint8Array;
}

/**
 * Builds a table (ITU-T T.81, annex C).
 * @throws ImageError when there are more codes of a length than fit, or a symbol above `mostDc` in a DC table.
 */
function huffmanTable({ counts, symbols, offset }: HuffmanCodes, mostDc: number): HuffmanTable {
  const fast = new Uint16Array(1 << FAST_BITS);
  const limits = new Int32Array(18);
  const offsets = new Int32Array(18);
  let code = 0;
  let index = 0;
  for (let length = 1; length <= 16; length++) {
    offsets[length] = index - code;
    for (let i = 0; i < counts[length - 1]!; i++, code++, index++) {
      if (symbols[index]! > mostDc) throw fault('jpeg-huffman', `a difference of ${symbols[index]} bits`, offset);
      if (length > FAST_BITS) continue;
      const first = code << (FAST_BITS - length);
      fast.fill((length << 8) | symbols[index]!, first, first + (1 << (FAST_BITS - length)));
    }
    // T.81 keeps the code of all ones free, and so does libjpeg
    if (code >= 1 << length) throw fault('jpeg-huffman', 'Huffman code lengths are oversubscribed', offset);
    limits[length] = code << (16 - length);
    code <<= 1;
  }
  limits[17] = 0x7fffffff;
  return { fast, limits, offsets, symbols };
}

/** A bit pattern that is no code: libjpeg takes 17 bits and goes on with the symbol 0. */
const BAD_CODE = 17 << 8;

/** Finds a code longer than FAST_BITS at the top of 16 bits: length << 8 | symbol. */
function slowLookup(table: HuffmanTable, bits16: number): number {
  let length = FAST_BITS + 1;
  while (bits16 >= table.limits[length]!) length++;
  if (length > 16) return BAD_CODE;
  return (length << 8) | table.symbols[((bits16 >> (16 - length)) + table.offsets[length]!) & 255]!;
}

/** Motion JPEG leaves the tables of annex K.3 out: what a file does not define is one of them. */
export function defaultTables(state: JpegState): void {
  state.dc[0] ??= codes('00010501010101010100000000000000', '000102030405060708090a0b');
  state.dc[1] ??= codes('00030101010101010101010000000000', '000102030405060708090a0b');
  state.ac[0] ??= codes(
    '0002010303020403050504040000017d',
    '01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435363738' +
      '393a434445464748494a535455565758595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4' +
      'a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa',
  );
  state.ac[1] ??= codes(
    '00020102040403040705040400010277',
    '0001020311040521310612415107617113223281081442 91a1b1c109233352f0156272d10a162434e125f11718191a262728292a353637' +
      '38393a434445464748494a535455565758595a636465666768696a737475767778797a82838485868788898a92939495969798999aa2' +
      'a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa',
  );
}

function codes(counts: string, symbols: string): HuffmanCodes {
  const bytes = (hex: string) =>
    Uint8Array.from(hex.replaceAll(' ', '').match(/../g)!, (two) => Number.parseInt(two, 16));
  const padded = new Uint8Array(256);
  padded.set(bytes(symbols));
  return { counts: bytes(counts), symbols: padded, offset: 0 };
}

/** The tables of one kind that a scan uses, by their place in the scan. @throws ImageError for one that is missing. */
function scanTables(scan: Scan, which: 'dc' | 'ac', state: JpegState, mostDc = 15): HuffmanTable[] {
  return scan.parts.map((part) => {
    const defined = state[which][part[which]];
    if (!defined) throw fault('jpeg-huffman', `Huffman table ${part[which]} is missing`, scan.offset);
    return huffmanTable(defined, which === 'dc' ? mostDc : 255);
  });
}

/** What a scan does with each of its blocks; `part` is the place of the component in the scan, `at` where its coefficients are. */
export interface BlockDecoder {
  readonly restart: () => void;
  /** Whether more was read than the interval has. */
  readonly overran: () => boolean;
  /** Adds to the coefficients [64] at `at`; gives the last place in zigzag order that may have changed. */
  readonly block: (part: number, coefficients: Int16Array, at: number) => number;
}

/** A place in the entropy-coded bits, and the readers that share it. */
class BitReader {
  readonly #entropy: EntropyData;
  bytes: Uint8Array;
  position = 0;
  /** The last bits read; only the low `bits` of them are still to come. */
  hold = 0;
  bits = 0;

  constructor(entropy: EntropyData) {
    this.#entropy = entropy;
    this.bytes = entropy.data;
  }

  restart(): void {
    this.bytes = this.#entropy.data;
    this.position = this.hold = this.bits = 0;
  }

  overran(): boolean {
    this.#entropy.bitsLeft = (this.#entropy.length - this.position) * 8 + this.bits;
    return this.#entropy.bitsLeft < 0;
  }

  /** The next `count` (at most 16) bits. */
  take(count: number): number {
    if (this.bits < count) this.fill();
    this.bits -= count;
    return (this.hold >>> this.bits) & ((1 << count) - 1);
  }

  fill(): void {
    this.hold = (this.hold << 16) | (this.bytes[this.position]! << 8) | this.bytes[this.position + 1]!;
    this.position += 2;
    this.bits += 16;
  }

  /** The next Huffman symbol. */
  symbol(table: HuffmanTable): number {
    while (this.bits < 16) this.fill();
    const { hold, bits } = this;
    const entry =
      table.fast[(hold >>> (bits - FAST_BITS)) & FAST_MASK]! || slowLookup(table, (hold >>> (bits - 16)) & 0xffff);
    this.bits = bits - (entry >> 8);
    if (this.bits < 0) this.fill();
    return entry & 255;
  }

  /** A number of `size` bits in JPEG's signed form (T.81, F.2.2.1). */
  signed(size: number): number {
    const value = this.take(size);
    return value < 1 << (size - 1) ? value + 1 - (1 << size) : value;
  }
}

/** Baseline and extended sequential blocks (T.81, F.2.2). */
export function sequentialHuffman(entropy: EntropyData, scan: Scan, state: JpegState): BlockDecoder {
  const reader = new BitReader(entropy);
  const dcTables = scanTables(scan, 'dc', state);
  const acTables = scanTables(scan, 'ac', state);
  const predictions = new Int32Array(4);
  return {
    overran: () => reader.overran(),
    restart() {
      reader.restart();
      predictions.fill(0);
    },
    block(part, coefficients, at) {
      const { bytes } = reader;
      let { hold, bits, position } = reader;
      const ac = acTables[part]!;
      let table = dcTables[part]!;
      let last = 0;
      let dc = 0;
      for (let k = 0; k < 64; k++) {
        while (bits < 16) {
          hold = (hold << 16) | (bytes[position]! << 8) | bytes[position + 1]!;
          position += 2;
          bits += 16;
        }
        const entry =
          table.fast[(hold >>> (bits - FAST_BITS)) & FAST_MASK]! || slowLookup(table, (hold >>> (bits - 16)) & 0xffff);
        bits -= entry >> 8;
        const size = entry & 15;
        const run = (entry >> 4) & 15;
        if (size === 0) {
          if (k > 0) {
            if (run !== 15) break; // end of block
            k += 15;
          }
        } else {
          while (bits < 16) {
            hold = (hold << 16) | (bytes[position]! << 8) | bytes[position + 1]!;
            position += 2;
            bits += 16;
          }
          bits -= size;
          let value = (hold >>> bits) & ((1 << size) - 1);
          if (value < 1 << (size - 1)) value += 1 - (1 << size);
          if (k === 0) dc = value;
          else {
            k += run;
            coefficients[at + ZIGZAG[k]!] = value;
            last = k;
          }
        }
        table = ac;
      }
      reader.hold = hold;
      reader.bits = bits;
      reader.position = position;
      predictions[part]! += dc;
      coefficients[at] = predictions[part]!;
      return last;
    },
  };
}

/** The decoder of one scan of a progressive image (T.81, annex G): it adds coefficients or bits of them to what is known. */
export function progressiveHuffman(entropy: EntropyData, scan: Scan, state: JpegState): BlockDecoder {
  const reader = new BitReader(entropy);
  const { start, end, high, low } = scan;
  const tables = start > 0 ? scanTables(scan, 'ac', state) : high === 0 ? scanTables(scan, 'dc', state) : [];
  const predictions = new Int32Array(4);
  const bit = 1 << low;
  /** Blocks, this one included, in which nothing more of the band is coded. */
  let endOfBand = 0;

  function dcFirst(part: number, coefficients: Int16Array, at: number): number {
    const size = reader.symbol(tables[part]!);
    if (size > 0) predictions[part]! += reader.signed(size);
    coefficients[at] = predictions[part]! << low;
    return 0;
  }

  function dcRefine(_part: number, coefficients: Int16Array, at: number): number {
    if (reader.take(1)) coefficients[at]! |= bit;
    return 0;
  }

  function acFirst(_part: number, coefficients: Int16Array, at: number): number {
    if (endOfBand > 0) {
      endOfBand--;
      return 0;
    }
    for (let k = start; k <= end; k++) {
      const code = reader.symbol(tables[0]!);
      const run = code >> 4;
      const size = code & 15;
      if (size > 0) {
        k += run;
        coefficients[at + ZIGZAG[k]!] = reader.signed(size) << low;
      } else if (run === 15) k += 15;
      else {
        endOfBand = (1 << run) - 1 + (run > 0 ? reader.take(run) : 0);
        break;
      }
    }
    return 0;
  }

  /** One more bit for a coefficient that is not zero. */
  function refine(coefficients: Int16Array, place: number): void {
    const value = coefficients[place]!;
    if (reader.take(1) && (value & bit) === 0) coefficients[place] = value + (value >= 0 ? bit : -bit);
  }

  /** Goes on from k to the `zeros + 1`-th coefficient that is zero, refining all others on the way; gives its k, or end + 1. */
  function refineAcross(coefficients: Int16Array, at: number, from: number, zeros: number): number {
    let left = zeros;
    let k = from;
    for (; k <= end; k++) {
      const place = at + ZIGZAG[k]!;
      if (coefficients[place] !== 0) refine(coefficients, place);
      else if (left-- === 0) break;
    }
    return k;
  }

  function acRefine(_part: number, coefficients: Int16Array, at: number): number {
    let k = start;
    for (; endOfBand === 0 && k <= end; k++) {
      const code = reader.symbol(tables[0]!);
      const run = code >> 4;
      let value = 0;
      if ((code & 15) > 0) value = reader.take(1) ? bit : -bit;
      else if (run < 15) {
        endOfBand = (1 << run) + (run > 0 ? reader.take(run) : 0);
        break;
      }
      k = refineAcross(coefficients, at, k, run);
      if (value !== 0) coefficients[at + ZIGZAG[k]!] = value;
    }
    if (endOfBand === 0) return 0;
    refineAcross(coefficients, at, k, 64);
    endOfBand--;
    return 0;
  }

  return {
    overran: () => reader.overran(),
    restart() {
      reader.restart();
      predictions.fill(0);
      endOfBand = 0;
    },
    block: start === 0 ? (high ? dcRefine : dcFirst) : high ? acRefine : acFirst,
  };
}

/** Reads the differences of a lossless scan (T.81, H.2.2): 16 bits stand for 32768. */
export function losslessHuffman(entropy: EntropyData, scan: Scan, state: JpegState) {
  const reader = new BitReader(entropy);
  const tables = scanTables(scan, 'dc', state, 16);
  return {
    overran: () => reader.overran(),
    restart: () => reader.restart(),
    difference(part: number): number {
      const size = reader.symbol(tables[part]!);
      return size === 0 ? 0 : size === 16 ? 32768 : reader.signed(size);
    },
  };
}
