import { fault } from '../fault.js';

/** The entropy-coded bytes of one scan, stuffing removed, cut at the restart markers. */
export interface EntropyData {
  /** All bytes of all intervals, then zeros for the look-ahead. */
  readonly bytes: Uint8Array;
  /** Where each interval ends in `bytes`. */
  readonly ends: readonly number[];
  /** Byte offset in the file of the marker after the scan, or the file's length. */
  readonly next: number;
}

const LOOK_AHEAD = 16;

/**
 * Reads from `offset` to the next marker that is no restart marker (T.81, B.1.1.5). Restart markers must count 0 to 7 in turn; where
 * the scan has no restart interval the first one ends it.
 */
export function readEntropy(bytes: Uint8Array, offset: number, restarts: boolean): EntropyData {
  let out = new Uint8Array(Math.min(bytes.length - offset, 1 << 16) + LOOK_AHEAD);
  let filled = 0;
  const ends: number[] = [];
  let i = offset;
  const copy = (to: number) => {
    if (filled + to - i + LOOK_AHEAD > out.length) {
      const larger = new Uint8Array(Math.min(bytes.length - offset, 2 * (filled + to - i)) + LOOK_AHEAD);
      larger.set(out.subarray(0, filled));
      out = larger;
    }
    out.set(bytes.subarray(i, to), filled);
    filled += to - i;
  };
  for (;;) {
    const found = bytes.indexOf(0xff, i);
    const ff = found < 0 ? bytes.length : found;
    copy(ff);
    i = ff;
    let after = ff + 1;
    while (bytes[after] === 0xff) after++; // fill bytes before a marker
    const marker = bytes[after];
    if (marker === 0 && after === ff + 1) {
      copy(ff + 1); // a stuffed FF 00 is the byte FF
      i = ff + 2;
    } else if (restarts && marker !== undefined && marker >= 0xd0 && marker <= 0xd7) {
      if ((marker & 7) !== (ends.length & 7)) throw fault('jpeg-restart', 'restart markers are out of order', ff);
      ends.push(filled);
      i = after + 1;
    } else {
      ends.push(filled);
      return { bytes: out.fill(0, filled), ends, next: ff };
    }
  }
}

/** A place in the entropy-coded bits. Decoders keep it in locals inside their loops. */
export interface BitReader {
  readonly bytes: Uint8Array;
  position: number;
  /** The last bits read; only the low `bits` of them are still to come. */
  hold: number;
  bits: number;
}

/** Bits taken from the reader so far. */
export const consumed = (reader: BitReader): number => reader.position * 8 - reader.bits;

/** The next `count` (at most 16) bits. */
export function takeBits(reader: BitReader, count: number): number {
  if (reader.bits < count) {
    reader.hold = (reader.hold << 16) | (reader.bytes[reader.position]! << 8) | reader.bytes[reader.position + 1]!;
    reader.position += 2;
    reader.bits += 16;
  }
  reader.bits -= count;
  return (reader.hold >>> reader.bits) & ((1 << count) - 1);
}
