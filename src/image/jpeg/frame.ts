import { u16be } from '../bytes.js';
import { checkPixels, fault, unsupported } from '../fault.js';
import type { JpegState, Segment } from './segments.js';
import type { Component, Frame, Scan, ScanComponent } from './types.js';

/** Whether a marker is one of the frame headers SOF0 to SOF15 (C4, C8 and CC are other things). */
export const isFrameHeader = (marker: number): boolean =>
  marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;

/** Refuses, by name, the kinds of JPEG that hardly any decoder reads. */
function checkKind(marker: number, precision: number, offset: number): void {
  const kind = marker & 15;
  if (kind >= 5 && kind !== 9 && kind !== 10 && kind !== 11) {
    throw unsupported('jpeg-hierarchical', `hierarchical JPEG (SOF${kind}) is not supported`, offset);
  }
  if (kind === 3 || kind === 11)
    throw unsupported('jpeg-lossless', `lossless JPEG (SOF${kind}) is not supported`, offset);
  if (kind > 8) throw unsupported('jpeg-arithmetic', `arithmetic coding (SOF${kind}) is not supported`, offset);
  if (precision === 8) return;
  if (precision === 12 && kind > 0) throw unsupported('jpeg-precision', '12-bit JPEG is not supported', offset);
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

/** SOF0, SOF1, SOF2 (T.81, B.2.2). */
export function readFrame(bytes: Uint8Array, segment: Segment, state: JpegState): Frame {
  const { marker, offset, start, end } = segment;
  if (state.frame) throw fault('jpeg-frame', 'a second frame header', offset);
  const count = bytes[start + 5] ?? 0;
  if (end - start < 6) throw fault('jpeg-frame', 'the frame header is cut off', offset);
  checkKind(marker, bytes[start]!, offset);
  if (end - start !== 6 + 3 * count) throw fault('jpeg-frame', `${count} components do not fit the header`, offset);
  const [height, width] = [u16be(bytes, start + 1), u16be(bytes, start + 3)];
  if (width === 0) throw fault('image-size', 'the width is 0', offset);
  checkHeight(bytes, height, offset);
  checkPixels(width, height, state.maxPixels, offset);
  if (count === 0) throw fault('jpeg-frame', 'no components', offset);
  if (count === 2 || count > 4) throw unsupported('jpeg-frame', `${count} components have no known colours`, offset);
  const factors = Array.from({ length: count }, (_, i) => bytes[start + 7 + 3 * i]!);
  if (factors.some((f) => f >> 4 < 1 || f >> 4 > 4 || (f & 15) < 1 || (f & 15) > 4)) {
    throw fault('jpeg-sampling', 'a sampling factor is not 1 to 4', offset);
  }
  const maxH = Math.max(...factors.map((f) => f >> 4));
  const maxV = Math.max(...factors.map((f) => f & 15));
  const mcusWide = Math.ceil(width / (8 * maxH));
  const mcusHigh = Math.ceil(height / (8 * maxV));
  const sizes = { width, height, maxH, maxV, mcusWide, mcusHigh };
  const components = factors.map((factor, i) => readComponent(bytes, start + 6 + 3 * i, factor, sizes));
  if (new Set(components.map((c) => c.id)).size < count)
    throw fault('jpeg-frame', 'two components share an id', offset);
  return { progressive: marker === 0xc2, ...sizes, components };
}

function readComponent(
  bytes: Uint8Array,
  at: number,
  factor: number,
  frame: Omit<Frame, 'components' | 'progressive'>,
): Component {
  const [h, v] = [factor >> 4, factor & 15];
  if (frame.maxH % h !== 0 || frame.maxV % v !== 0) {
    throw unsupported('jpeg-sampling', `sampling factors ${h} and ${frame.maxH} do not divide`, at);
  }
  const quantTable = bytes[at + 2]!;
  if (quantTable > 3) throw fault('jpeg-quantisation', `quantisation table ${quantTable} does not exist`, at + 2);
  const width = Math.ceil((frame.width * h) / frame.maxH);
  const height = Math.ceil((frame.height * v) / frame.maxV);
  return {
    ...{ id: bytes[at]!, h, v, quantTable, width, height },
    ...{ blocksWide: Math.ceil(width / 8), blocksHigh: Math.ceil(height / 8) },
    ...{ stride: frame.mcusWide * h, rows: frame.mcusHigh * v },
    quant: undefined,
    plane: new Uint8Array(0),
    coefficients: new Int16Array(0),
    known: new Int8Array(64).fill(-1),
  };
}

/** SOS (T.81, B.2.3), with the tables that it asks for; progression is checked against what was sent before (G.1.1.1). */
export function readScan(bytes: Uint8Array, segment: Segment, state: JpegState): Scan {
  const { offset, start, end } = segment;
  const { frame } = state;
  if (!frame) throw fault('jpeg-frame', 'a scan before the frame header', offset);
  const count = bytes[start] ?? 0;
  if (count < 1 || count > 4 || end - start !== 4 + 2 * count) {
    throw fault('jpeg-scan', `${count} components do not fit the scan header`, offset);
  }
  const [first, last, bitPlanes] = bytes.subarray(end - 3, end) as unknown as [number, number, number];
  const spectral = frame.progressive
    ? { start: first, end: last, high: bitPlanes >> 4, low: bitPlanes & 15 }
    : { start: 0, end: 63, high: 0, low: 0 };
  const parts = Array.from({ length: count }, (_, i): ScanComponent => {
    const [id, tables] = [bytes[start + 1 + 2 * i]!, bytes[start + 2 + 2 * i]!];
    const component = frame.components.find((c) => c.id === id);
    if (!component) throw fault('jpeg-scan', `component ${id} is not in the frame`, offset);
    component.quant ??= state.quant[component.quantTable];
    if (!component.quant) throw fault('jpeg-quantisation', `table ${component.quantTable} is missing`, offset);
    return { component, dc: state.dc[tables >> 4], ac: state.ac[tables & 15] };
  });
  const scan = { parts, ...spectral, offset };
  checkScan(frame, scan);
  return scan;
}

function checkScan(frame: Frame, scan: Scan): void {
  const { parts, start, end, high, low, offset } = scan;
  const blocks = parts.reduce((sum, { component }) => sum + component.h * component.v, 0);
  if (new Set(parts.map((p) => p.component)).size < parts.length || (parts.length > 1 && blocks > 10)) {
    throw fault('jpeg-scan', 'a component twice in a scan, or more than 10 blocks in an MCU', offset);
  }
  const bandIsLegal = start === 0 ? end === 0 : parts.length === 1 && end >= start && end < 64;
  if (frame.progressive && (!bandIsLegal || low > 13 || (high > 0 && low !== high - 1))) {
    throw fault('jpeg-progression', `a scan of coefficients ${start} to ${end}, bits ${high} to ${low}`, offset);
  }
  for (const { component, dc, ac } of parts) {
    const { known } = component;
    if (start > 0 && known[0]! < 0) throw fault('jpeg-progression', 'a scan of details before the first', offset);
    for (let k = start; k <= end; k++) {
      if (known[k] !== (high || -1))
        throw fault('jpeg-progression', 'a scan repeats what was sent, or skips bits', offset);
      known[k] = low;
    }
    const needsDc = start === 0 && high === 0;
    const needsAc = end > 0;
    if ((needsDc && !dc) || (needsAc && !ac)) throw fault('jpeg-huffman', 'a Huffman table is missing', offset);
  }
}
