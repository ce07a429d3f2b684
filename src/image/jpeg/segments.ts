import { latin1, u16be } from '../bytes.js';
import { fault, unsupported } from '../fault.js';
import { huffmanTable } from './huffman.js';
import type { Frame, HuffmanTable } from './types.js';
import { ZIGZAG } from './types.js';

/** All that the segments of a JPEG file said so far. */
export interface JpegState {
  readonly maxPixels: number;
  /** Natural order. */
  readonly quant: (Int32Array | undefined)[];
  readonly dc: (HuffmanTable | undefined)[];
  readonly ac: (HuffmanTable | undefined)[];
  restartInterval: number;
  frame: Frame | undefined;
  jfif: boolean;
  /** The colour transform of Adobe's APP14: 0 none, 1 YCbCr, 2 YCCK. */
  adobe: number | undefined;
  /** A TIFF structure. */
  exif: Uint8Array | undefined;
  /** XML text. */
  xmp: Uint8Array | undefined;
}

export interface Segment {
  readonly marker: number;
  /** Of the marker. */
  readonly offset: number;
  /** Of the parameters, after the length; `end` is behind them. */
  readonly start: number;
  readonly end: number;
}

export const MARKER = { SOI: 0xd8, EOI: 0xd9, SOS: 0xda, DNL: 0xdc } as const;

/** Markers without parameters: TEM, RST0 to RST7, SOI, EOI. */
const isBare = (marker: number) => marker === 0x01 || (marker >= 0xd0 && marker <= 0xd9);

/**
 * The segment at `offset`, or undefined at the end of the file. Fill bytes are skipped; other bytes between segments are an
 * error, except after a scan, where decoders have always stepped over them.
 */
export function segmentAt(bytes: Uint8Array, offset: number, afterScan: boolean): Segment | undefined {
  let at = offset;
  do {
    const found = afterScan ? bytes.indexOf(0xff, at) : at;
    if (found < 0 || found >= bytes.length) return undefined;
    if (bytes[found] !== 0xff) throw fault('jpeg-marker', 'no marker where a segment ends', found);
    at = found;
    while (bytes[at] === 0xff) at++;
    if (at >= bytes.length) return undefined;
  } while (bytes[at] === 0 && afterScan);
  const marker = bytes[at]!;
  if (marker === 0) throw fault('jpeg-marker', 'no marker where a segment ends', at);
  const start = at + 1;
  if (isBare(marker)) return { marker, offset: at - 1, start, end: start };
  if (start + 2 > bytes.length) throw fault('jpeg-truncated', 'the file ends inside a segment', at - 1);
  const length = u16be(bytes, start);
  if (length < 2) throw fault('jpeg-segment', `a segment length of ${length}; the least is 2`, at - 1);
  if (start + length > bytes.length) {
    throw fault('jpeg-truncated', `a segment of ${length} bytes runs past the end of the file`, at - 1);
  }
  return { marker, offset: at - 1, start: start + 2, end: start + length };
}

/** DQT (T.81, B.2.4.1). */
export function readQuantTables(bytes: Uint8Array, segment: Segment, state: JpegState): void {
  for (let i = segment.start; i < segment.end; ) {
    const [wide, id] = [bytes[i]! >> 4, bytes[i]! & 15];
    if (wide > 1 || id > 3) throw fault('jpeg-quantisation', `precision ${wide} or table ${id} does not exist`, i);
    const next = i + 1 + 64 * (1 + wide);
    if (next > segment.end) throw fault('jpeg-quantisation', 'a table is cut off', i);
    const table = new Int32Array(64);
    for (let k = 0; k < 64; k++) table[ZIGZAG[k]!] = wide ? u16be(bytes, i + 1 + 2 * k) : bytes[i + 1 + k]!;
    state.quant[id] = table;
    i = next;
  }
}

/** DHT (T.81, B.2.4.2). */
export function readHuffmanTables(bytes: Uint8Array, segment: Segment, state: JpegState): void {
  for (let i = segment.start; i < segment.end; ) {
    const [ac, id] = [bytes[i]! >> 4, bytes[i]! & 15];
    if (ac > 1 || id > 3) throw fault('jpeg-huffman', `table class ${ac} or table ${id} does not exist`, i);
    const counts = bytes.subarray(i + 1, i + 17);
    const total = counts.reduce((sum, count) => sum + count, 0);
    const next = i + 17 + total;
    if (total > 256 || next > segment.end) throw fault('jpeg-huffman', 'more codes than the segment holds', i);
    const symbols = bytes.subarray(i + 17, next);
    if (!ac && symbols.some((size) => size > 15)) throw fault('jpeg-huffman', 'a DC difference above 15 bits', i);
    (ac ? state.ac : state.dc)[id] = huffmanTable(counts, symbols, i);
    i = next;
  }
}

function readApplication(bytes: Uint8Array, { marker, start, end }: Segment, state: JpegState): void {
  const startsWith = (name: string) => end - start >= name.length && latin1(bytes, start, name.length) === name;
  if (marker === 0xe0 && end - start >= 14 && startsWith('JFIF\0')) state.jfif = true;
  if (marker === 0xee && end - start >= 12 && startsWith('Adobe')) state.adobe = bytes[start + 11]!;
  if (marker !== 0xe1) return;
  if (startsWith('Exif\0')) state.exif ??= bytes.subarray(start + 6, end);
  const xmp = 'http://ns.adobe.com/xap/1.0/\0';
  if (startsWith(xmp)) state.xmp ??= bytes.subarray(start + xmp.length, end);
}

/** Any segment but SOF, SOS and EOI. */
export function readMiscellaneous(bytes: Uint8Array, segment: Segment, state: JpegState): void {
  const { marker, offset, start, end } = segment;
  if (marker === 0xdb) readQuantTables(bytes, segment, state);
  else if (marker === 0xc4) readHuffmanTables(bytes, segment, state);
  else if (marker === 0xdd) {
    if (end - start !== 2) throw fault('jpeg-segment', 'DRI does not have 2 bytes', offset);
    state.restartInterval = u16be(bytes, start);
  } else if (marker >= 0xe0 && marker <= 0xef) readApplication(bytes, segment, state);
  else if (marker === 0xcc) throw unsupported('jpeg-arithmetic', 'arithmetic coding is not supported', offset);
  else if (marker === 0xde || marker === 0xdf) {
    throw unsupported('jpeg-hierarchical', 'hierarchical JPEG is not supported', offset);
  } else if (marker === MARKER.SOI) throw fault('jpeg-marker', 'a second start of image', offset);
  else if (marker !== 0xfe && marker !== MARKER.DNL && !isBare(marker)) {
    throw fault('jpeg-marker', `unknown marker FF ${marker.toString(16).toUpperCase()}`, offset);
  }
}
