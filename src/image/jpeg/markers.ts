import { latin1, u16be } from '../image-file.js';
import { checkPixels, fault, unsupported } from '../raw-image.js';

/** One color component of a frame, with all that its scans fill in. */
export interface Component {
  readonly id: number;
  /** Sampling factors, 1 to 4. */
  readonly h: number;
  readonly v: number;
  readonly quantTable: number;
  /** Real size in samples: the image's size times h / maxH, v / maxV, rounded up. */
  readonly width: number;
  readonly height: number;
  /** Size in data units (blocks of 8 by 8, samples where lossless): what the real size needs, and what whole MCUs need. */
  readonly blocksWide: number;
  readonly blocksHigh: number;
  readonly stride: number;
  readonly rows: number;
  /** Quantization, natural order, as it stood at the component's first scan. */
  quant: Int32Array | undefined;
  /** Decoded samples: `rows` units high, `stride` units wide. */
  plane: Uint8Array;
  /** Files of several scans only: rows * stride blocks of 64 coefficients, natural order, not yet dequantized. */
  coefficients: Int16Array;
  /** Progressive only, per coefficient in zigzag order: the lowest bit known so far; -1 while it was not sent. */
  readonly known: Int8Array;
  /** `known` as it was before the component's last scan. */
  readonly knownBefore: Int8Array;
}

export type Process = 'baseline' | 'progressive' | 'lossless';

export interface Frame {
  readonly process: Process;
  readonly arithmetic: boolean;
  readonly width: number;
  readonly height: number;
  readonly maxH: number;
  readonly maxV: number;
  readonly mcusWide: number;
  readonly mcusHigh: number;
  readonly components: readonly Component[];
}

/** A DHT table as sent: it is checked when a scan uses it. */
export interface HuffmanCodes {
  readonly counts: Uint8Array;
  /** [256], zeros after the last. */
  readonly symbols: Uint8Array;
  readonly offset: number;
}

/** One component's part in a scan, with the numbers of its tables. */
export interface ScanComponent {
  readonly component: Component;
  readonly dc: number;
  readonly ac: number;
}

/** A scan header: which components, which coefficients, which bits. */
export interface Scan {
  readonly parts: readonly ScanComponent[];
  readonly start: number;
  readonly end: number;
  /** Bit position before and after this scan; `high` 0 on the first scan of a coefficient. */
  readonly high: number;
  readonly low: number;
  /** Byte offset of the scan header. */
  readonly offset: number;
}

/** All that the segments of a JPEG file said so far. */
export interface JpegState {
  readonly maxPixels: number;
  readonly warnings: Set<string>;
  /** Natural order. */
  readonly quant: (Int32Array | undefined)[];
  readonly dc: (HuffmanCodes | undefined)[];
  readonly ac: (HuffmanCodes | undefined)[];
  /** Conditioning of arithmetic coding (T.81, F.1.4.4): the bounds of small DC differences, and Kx of AC. */
  readonly dcLow: number[];
  readonly dcHigh: number[];
  readonly acLimit: number[];
  restartInterval: number;
  /** Scan headers so far. */
  scans: number;
  frame: Frame | undefined;
  jfif: boolean;
  /** The color transform of Adobe's APP14: 0 none, 1 YCbCr, 2 YCCK. */
  adobe: number | undefined;
  /** A TIFF structure. */
  exif: Uint8Array | undefined;
  /** XML text. */
  xmp: Uint8Array | undefined;
}

const filled = (value: number) => new Array<number>(16).fill(value);

export const newState = (maxPixels: number): JpegState => ({
  maxPixels,
  warnings: new Set(),
  ...{ quant: [], dc: [], ac: [], dcLow: filled(0), dcHigh: filled(1), acLimit: filled(5) },
  ...{ restartInterval: 0, scans: 0, frame: undefined, jfif: false, adobe: undefined, exif: undefined, xmp: undefined },
});

/** Where coefficient k of the zigzag order stands in a block; 16 more entries, so that no broken run can leave the block. */
export const ZIGZAG = /* @__PURE__ */ zigzag();

function zigzag(): Uint8Array {
  const order = new Uint8Array(80).fill(63);
  let k = 0;
  for (let sum = 0; sum < 15; sum++) {
    for (let i = 0; i <= sum; i++) {
      const [row, column] = sum % 2 ? [i, sum - i] : [sum - i, i];
      if (row < 8 && column < 8) order[k++] = row * 8 + column;
    }
  }
  return order;
}

export const MARKER = { SOF0: 0xc0, RST0: 0xd0, RST7: 0xd7, SOI: 0xd8, EOI: 0xd9, SOS: 0xda } as const;

export interface Marker {
  readonly code: number;
  /** Of its last FF byte; -1 in code means that the file ends here. */
  readonly offset: number;
  /** Behind the two bytes. */
  readonly next: number;
}

/** The first marker at or after `offset`: an FF, fill bytes FF, then neither 00 nor FF. What is before it is skipped. */
export function nextMarker(bytes: Uint8Array, offset: number): Marker {
  for (let at = bytes.indexOf(0xff, offset); at >= 0; at = bytes.indexOf(0xff, at)) {
    while (bytes[at] === 0xff) at++;
    if (at >= bytes.length) break;
    if (bytes[at] !== 0) return { code: bytes[at]!, offset: at - 1, next: at + 1 };
    at++;
  }
  return { code: -1, offset: bytes.length, next: bytes.length };
}

export interface Segment {
  readonly marker: number;
  /** Of the marker. */
  readonly offset: number;
  /** Of the parameters, after the length; `end` is behind them. */
  readonly start: number;
  readonly end: number;
}

/** Markers without parameters: TEM, RST0 to RST7, SOI, EOI. */
const isBare = (marker: number) => marker === 0x01 || (marker >= 0xd0 && marker <= 0xd9);

/** Whether the file ends inside a segment before libjpeg could object to what is in it: behind a whole image that is no loss. */
export const isCutOff = (bytes: Uint8Array, { code, next }: Marker): boolean => {
  const tables = code === 0xc4 || code === 0xcc || code === 0xdb || code === 0xdd;
  const notes = code === 0xdc || (code >= 0xe0 && code <= 0xef) || code === 0xfe;
  if (code === 0xda) return next + 3 > bytes.length;
  if (!tables && !notes) return false;
  if (next + 2 > bytes.length) return true;
  const end = next + u16be(bytes, next);
  return notes ? end > bytes.length : tablesRunOut(bytes, code, next + 2, end);
};

/** Whether reading the tables of a segment comes to the end of the file, and finds no fault before it. */
function tablesRunOut(bytes: Uint8Array, code: number, start: number, end: number): boolean {
  if (code === 0xdd) return end - start === 2 && end > bytes.length;
  const least = code === 0xc4 ? 17 : 1;
  let i = start;
  while (end - i >= least && i + least <= bytes.length) {
    const first = bytes[i]!;
    if (code === 0xdb) {
      if ((first & 15) > 3) return false;
      i += first >> 4 ? 129 : 65; // as far as the table goes, wherever the segment ends
    } else if (code === 0xcc) {
      if (i + 1 < bytes.length && !isConditioning(first, bytes[i + 1]!)) return false;
      i += 2;
    } else {
      const total = bytes.subarray(i + 1, i + 17).reduce((sum, count) => sum + count, 0);
      i += 17 + total;
      if (total > 256 || i > end || (i <= bytes.length && (first & ~0x10) > 3)) return false;
    }
  }
  return i > bytes.length || end - i >= least;
}

/**
 * The segment of a marker. As in libjpeg, a length below 2, which cannot be, counts as an empty segment.
 * @throws ImageError when it runs past the end of the file.
 */
export function segmentOf(bytes: Uint8Array, { code, offset, next }: Marker, warnings: Set<string>): Segment {
  if (isBare(code)) return { marker: code, offset, start: next, end: next };
  if (next + 2 > bytes.length) throw fault('jpeg-truncated', 'the file ends inside a segment', offset);
  const length = u16be(bytes, next);
  if (length < 2) warnings.add('a segment with an impossible length was skipped');
  if (next + length > bytes.length) {
    throw fault('jpeg-truncated', `a segment of ${length} bytes runs past the end of the file`, offset);
  }
  return { marker: code, offset, start: next + 2, end: next + Math.max(length, 2) };
}

/** DQT (T.81, B.2.4.1). */
function readQuantTables(bytes: Uint8Array, { start, end }: Segment, state: JpegState): void {
  for (let i = start; i < end; ) {
    const [wide, id] = [bytes[i]! >> 4, bytes[i]! & 15];
    if (id > 3) throw fault('jpeg-quantization', `table ${id} does not exist`, i);
    const next = i + 1 + 64 * (wide ? 2 : 1);
    if (next > end) throw fault('jpeg-quantization', 'a table is cut off', i);
    const table = new Int32Array(64);
    for (let k = 0; k < 64; k++) table[ZIGZAG[k]!] = wide ? u16be(bytes, i + 1 + 2 * k) : bytes[i + 1 + k]!;
    state.quant[id] = table;
    i = next;
  }
}

/** DHT (T.81, B.2.4.2). */
function readHuffmanTables(bytes: Uint8Array, { start, end }: Segment, state: JpegState): void {
  let i = start;
  while (end - i > 16) {
    const index = bytes[i]!;
    const [tables, id] = index & 0x10 ? [state.ac, index - 0x10] : [state.dc, index];
    if (id > 3) throw fault('jpeg-huffman', `table ${index} does not exist`, i);
    const counts = bytes.subarray(i + 1, i + 17);
    const total = counts.reduce((sum, count) => sum + count, 0);
    if (total > 256 || i + 17 + total > end) throw fault('jpeg-huffman', 'more codes than the segment holds', i);
    const symbols = new Uint8Array(256);
    symbols.set(bytes.subarray(i + 17, i + 17 + total));
    tables[id] = { counts, symbols, offset: i };
    i += 17 + total;
  }
  if (i !== end) throw fault('jpeg-huffman', 'the segment has bytes to spare', i);
}

const isConditioning = (index: number, value: number): boolean =>
  index < 16 ? (value & 15) <= value >> 4 : index < 32;

/** DAC (T.81, B.2.4.3). */
function readConditioning(bytes: Uint8Array, { start, end }: Segment, state: JpegState): void {
  if ((end - start) % 2 !== 0) throw fault('jpeg-arithmetic', 'a DAC segment of odd length', start);
  for (let i = start; i < end; i += 2) {
    const [index, value] = [bytes[i]!, bytes[i + 1]!];
    if (!isConditioning(index, value))
      throw fault('jpeg-arithmetic', `conditioning ${value} of table ${index} is not possible`, i);
    if (index >= 16) state.acLimit[index - 16] = value;
    else {
      state.dcLow[index] = value & 15;
      state.dcHigh[index] = value >> 4;
    }
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

/** Whether a marker is one of the frame headers SOF0 to SOF15 (C4, C8 and CC are other things). */
export const isFrameHeader = (marker: number): boolean =>
  marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;

/** Any segment but SOF, SOS and EOI. */
export function readMiscellaneous(bytes: Uint8Array, segment: Segment, state: JpegState): void {
  const { marker, offset, start, end } = segment;
  const broken = u16be(bytes, offset + 2) < 2;
  if (broken && (marker === 0xdb || marker === 0xc4 || marker === 0xdd || marker === 0xcc)) {
    throw fault('jpeg-segment', 'a table segment without a length', offset);
  }
  if (marker === 0xdb) readQuantTables(bytes, segment, state);
  else if (marker === 0xc4) readHuffmanTables(bytes, segment, state);
  else if (marker === 0xcc) readConditioning(bytes, segment, state);
  else if (marker === 0xdd) {
    if (end - start !== 2) throw fault('jpeg-segment', 'DRI does not have 2 bytes', offset);
    state.restartInterval = u16be(bytes, start);
  } else if (marker >= 0xe0 && marker <= 0xef) readApplication(bytes, segment, state);
  else if (marker === 0xde || marker === 0xdf) {
    throw unsupported('jpeg-hierarchical', 'hierarchical JPEG is not supported', offset);
  } else if (marker === MARKER.SOI) throw fault('jpeg-marker', 'a second start of image', offset);
  else if (marker !== 0xfe && marker !== 0xdc && !isBare(marker)) {
    throw fault('jpeg-marker', `unknown marker FF ${marker.toString(16).toUpperCase()}`, offset);
  }
}

/** Refuses, by name, the kinds of JPEG that hardly any decoder reads. */
function checkKind(marker: number, precision: number, offset: number): void {
  const kind = marker & 15;
  if ((kind >= 5 && kind < 8) || kind > 12) {
    throw unsupported('jpeg-hierarchical', `hierarchical JPEG (SOF${kind}) is not supported`, offset);
  }
  if (kind === 11) throw unsupported('jpeg-lossless', 'lossless JPEG with arithmetic coding is not supported', offset);
  if (precision === 8) return;
  const possible = kind === 3 ? precision >= 2 && precision <= 16 : precision === 12 && kind > 0;
  if (possible) throw unsupported('jpeg-precision', `${precision}-bit JPEG is not supported`, offset);
  throw fault('jpeg-precision', `a precision of ${precision} bits is not possible in SOF${kind}`, offset);
}

/** A height of 0 means that a DNL segment gives it after the first scan. Such a segment cannot be part of scan data. */
function checkHeight(bytes: Uint8Array, height: number, offset: number): void {
  if (height > 0) return;
  for (let i = bytes.indexOf(0xff, offset); i >= 0; i = bytes.indexOf(0xff, i + 1)) {
    if (bytes[i + 1] === 0xdc && u16be(bytes, i + 2) === 4) {
      throw unsupported('jpeg-dnl', 'a height given after the scan (DNL) is not supported', i);
    }
  }
  throw fault('image-size', 'the height is 0', offset);
}

/** libjpeg's limit, a little below what the header can say. */
const MAX_SIDE = 65_500;

/** SOF0, 1, 2, 3, 9, 10 (T.81, B.2.2). */
export function readFrame(bytes: Uint8Array, segment: Segment, state: JpegState): Frame {
  const { marker, offset, start, end } = segment;
  if (state.frame) throw fault('jpeg-frame', 'a second frame header', offset);
  const count = bytes[start + 5] ?? 0;
  if (end - start < 6) throw fault('jpeg-frame', 'the frame header is cut off', offset);
  checkKind(marker, bytes[start]!, offset);
  if (end - start !== 6 + 3 * count) throw fault('jpeg-frame', `${count} components do not fit the header`, offset);
  const [height, width] = [u16be(bytes, start + 1), u16be(bytes, start + 3)];
  if (width === 0) throw fault('image-size', 'the width is 0', offset);
  if (Math.max(width, height) > MAX_SIDE) {
    throw fault('image-size', `a side of ${Math.max(width, height)} pixels; libjpeg reads ${MAX_SIDE}`, offset);
  }
  checkHeight(bytes, height, offset);
  checkPixels(width, height, state.maxPixels, offset);
  if (count === 0) throw fault('jpeg-frame', 'no components', offset);
  if (count === 2 || count > 4) throw unsupported('jpeg-frame', `${count} components have no known colors`, offset);
  const factors = Array.from({ length: count }, (_, i) => bytes[start + 7 + 3 * i]!);
  if (factors.some((f) => f >> 4 < 1 || f >> 4 > 4 || (f & 15) < 1 || (f & 15) > 4)) {
    throw fault('jpeg-sampling', 'a sampling factor is not 1 to 4', offset);
  }
  const process: Process =
    marker === 0xc3 ? 'lossless' : marker === 0xc2 || marker === 0xca ? 'progressive' : 'baseline';
  const unit = process === 'lossless' ? 1 : 8;
  const maxH = Math.max(...factors.map((f) => f >> 4));
  const maxV = Math.max(...factors.map((f) => f & 15));
  const mcusWide = Math.ceil(width / (unit * maxH));
  const mcusHigh = Math.ceil(height / (unit * maxV));
  const frame = { process, arithmetic: marker >= 0xc9, width, height, maxH, maxV, mcusWide, mcusHigh };
  const components = factors.map((factor, i) => readComponent(bytes, start + 6 + 3 * i, factor, frame, unit));
  return { ...frame, components };
}

function readComponent(
  bytes: Uint8Array,
  at: number,
  factor: number,
  frame: Omit<Frame, 'components'>,
  unit: number,
): Component {
  const [h, v] = [factor >> 4, factor & 15];
  if (frame.maxH % h !== 0 || frame.maxV % v !== 0) {
    throw unsupported('jpeg-sampling', `sampling factors ${h} and ${frame.maxH} do not divide`, at);
  }
  const width = Math.ceil((frame.width * h) / frame.maxH);
  const height = Math.ceil((frame.height * v) / frame.maxV);
  return {
    ...{ id: bytes[at]!, h, v, quantTable: bytes[at + 2]!, width, height },
    ...{ blocksWide: Math.ceil(width / unit), blocksHigh: Math.ceil(height / unit) },
    ...{ stride: frame.mcusWide * h, rows: frame.mcusHigh * v },
    quant: undefined,
    plane: new Uint8Array(0),
    coefficients: new Int16Array(0),
    known: new Int8Array(64).fill(-1),
    knownBefore: new Int8Array(64),
  };
}

/**
 * SOS (T.81, B.2.3). Of components that share an id each is taken once, as libjpeg does.
 * @throws ImageError for a header that libjpeg refuses.
 */
export function readScan(bytes: Uint8Array, segment: Segment, state: JpegState): Scan {
  const { offset, start, end } = segment;
  const { frame } = state;
  if (!frame) throw fault('jpeg-frame', 'a scan before the frame header', offset);
  state.scans++;
  const count = bytes[start] ?? 0;
  if (count < 1 || count > 4 || end - start !== 4 + 2 * count) {
    throw fault('jpeg-scan', `${count} components do not fit the scan header`, offset);
  }
  const [first, last, bitPlanes] = bytes.subarray(end - 3, end) as unknown as [number, number, number];
  const parts: ScanComponent[] = [];
  for (let i = 0; i < count; i++) {
    const [id, tables] = [bytes[start + 1 + 2 * i]!, bytes[start + 2 + 2 * i]!];
    // libjpeg tests whether the place in the scan with the component's number is taken, not the component
    const component = frame.components.find((c, place) => c.id === id && place >= parts.length);
    if (!component) throw fault('jpeg-scan', `component ${id} is not in the frame, or twice in a scan`, offset);
    if (parts.some((part) => part.component === component)) throw fault('jpeg-scan', `component ${id} twice`, offset);
    parts.push({ component, dc: tables >> 4, ac: tables & 15 });
  }
  const blocks = parts.reduce((sum, { component }) => sum + component.h * component.v, 0);
  if (parts.length > 1 && blocks > 10) throw fault('jpeg-scan', 'more than 10 blocks in an MCU', offset);
  const [high, low] = [bitPlanes >> 4, bitPlanes & 15];
  if (frame.process === 'baseline') {
    if (first !== 0 || last !== 63 || bitPlanes !== 0) state.warnings.add('a scan header with odd numbers');
    return { parts, start: 0, end: 63, high: 0, low: 0, offset };
  }
  const scan = { parts, start: first, end: last, high, low, offset };
  if (frame.process === 'progressive') checkProgression(scan, state);
  else if (first < 1 || first > 7 || last !== 0 || high !== 0 || low > 7) {
    throw fault('jpeg-lossless', `predictor ${first}, point transform ${low} do not exist`, offset);
  }
  return scan;
}

/** G.1.1.1: what one scan may hold is a rule; that scans follow each other sensibly libjpeg only warns about. */
function checkProgression({ parts, start, end, high, low, offset }: Scan, { warnings, scans }: JpegState): void {
  const bandIsLegal = start === 0 ? end === 0 : parts.length === 1 && end >= start && end < 64;
  if (!bandIsLegal || low > 13 || (high > 0 && low !== high - 1)) {
    throw fault('jpeg-progression', `a scan of coefficients ${start} to ${end}, bits ${high} to ${low}`, offset);
  }
  for (const { component } of parts) {
    const { known, knownBefore } = component;
    if (start > 0 && known[0]! < 0) warnings.add('a scan of details before the first');
    if (scans === 1) knownBefore.fill(0);
    else knownBefore.set(known);
    for (let k = start; k <= end; k++) {
      if (high !== Math.max(0, known[k]!)) warnings.add('a scan repeats what was sent, or skips bits');
      known[k] = low;
    }
  }
}
