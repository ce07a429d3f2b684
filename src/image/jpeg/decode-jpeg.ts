import { allocate, fault, unsupported } from '../fault.js';
import type { RawImage } from '../raw-image.js';
import { type Colors, colorsOf, writeLine } from './color.js';
import { readEntropy } from './entropy.js';
import { isFrameHeader, readFrame, readScan } from './frame.js';
import { progressiveDecoder, transformComponent } from './progressive.js';
import { scanSize, walkScan } from './scan.js';
import { type JpegState, MARKER, readMiscellaneous, type Segment, segmentAt } from './segments.js';
import { sequentialDecoder } from './sequential.js';
import type { Frame } from './types.js';
import { lineSource } from './upsample.js';

/**
 * Scans of a file, and how often they may visit each block of a large image: real files have up to some 20 scans, while a progressive
 * file of some kilobytes can ask for hours of work.
 */
const MAX_SCANS = 500;
const MAX_VISITS = 24;
/** Visits that any image may have, however small. */
const FREE_VISITS = 2e7;

/** A JPEG file up to its first scan. */
export interface JpegHeader {
  readonly state: JpegState;
  readonly frame: Frame;
  readonly colors: Colors;
  readonly firstScan: Segment;
}

/** Reads all segments before the first scan. */
export function readJpegHeader(bytes: Uint8Array, maxPixels: number): JpegHeader {
  const state: JpegState = {
    ...{ maxPixels, quant: [], dc: [], ac: [], restartInterval: 0, frame: undefined },
    ...{ jfif: false, adobe: undefined, exif: undefined, xmp: undefined },
  };
  for (let offset = 2; ; ) {
    const segment = segmentAt(bytes, offset, false);
    if (!segment) throw fault('jpeg-truncated', 'the file ends before the image', bytes.length);
    const { marker } = segment;
    if (marker === MARKER.EOI) throw fault('jpeg-scan', 'the file has no scan', segment.offset);
    if (marker === MARKER.SOS) {
      const { frame } = state;
      if (!frame) throw fault('jpeg-frame', 'a scan before the frame header', segment.offset);
      return { state, frame, colors: colorsOf(frame, state.jfif, state.adobe), firstScan: segment };
    }
    if (isFrameHeader(marker)) state.frame = readFrame(bytes, segment, state);
    else readMiscellaneous(bytes, segment, state);
    offset = segment.end;
  }
}

/**
 * Decodes a JPEG (baseline, extended sequential or progressive Huffman, 8 bits, gray, YCbCr, RGB, CMYK, YCCK), bit for bit as
 * libjpeg-turbo with its default settings, and so as Pillow's `Image.open(f).convert("RGB")`. Every block must be in the file: a
 * truncated scan is an error. A missing end marker alone is accepted.
 * @throws ImageError, `unsupported` for 12-bit, lossless, arithmetic and hierarchical files.
 */
export function decodeJpeg(bytes: Uint8Array, header: JpegHeader): RawImage {
  const { state, frame } = header;
  let scans = 0;
  let visits = 0;
  const allBlocks = frame.components.reduce((sum, { stride, rows }) => sum + stride * rows, 0);
  const maxVisits = Math.max(FREE_VISITS, MAX_VISITS * allBlocks);
  let ended = false;
  for (let segment: Segment | undefined = header.firstScan; segment && !ended; ) {
    let offset = segment.end;
    ended = segment.marker === MARKER.EOI;
    if (segment.marker === MARKER.SOS) {
      const scan = readScan(bytes, segment, state);
      const { blocks } = scanSize(frame, scan);
      visits += blocks;
      if (++scans > MAX_SCANS || visits > maxVisits) {
        throw fault('jpeg-scans', `too much work: ${scans} scans over ${visits} blocks`, segment.offset);
      }
      offset = decodeScan(bytes, segment.end, state, frame, scan, blocks);
    } else if (isFrameHeader(segment.marker)) {
      throw fault('jpeg-frame', 'a second frame header', segment.offset);
    } else {
      readMiscellaneous(bytes, segment, state);
    }
    if (!ended) segment = segmentAt(bytes, offset, true);
  }
  checkComplete(frame, ended, bytes.length);
  return render(frame, header.colors);
}

function decodeScan(
  bytes: Uint8Array,
  offset: number,
  state: JpegState,
  frame: Frame,
  scan: ReturnType<typeof readScan>,
  blocks: number,
): number {
  const data = readEntropy(bytes, offset, state.restartInterval > 0);
  // in all but refining scans a block costs at least a bit: a claim without data is refused before the image is allocated
  if (scan.high === 0 && scan.start === 0 && blocks > data.bytes.length * 8) {
    throw fault('jpeg-truncated', 'the entropy-coded data end too early', offset);
  }
  for (const { component } of scan.parts) {
    const size = component.stride * component.rows * 64;
    if (frame.progressive) {
      if (component.coefficients.length === 0) component.coefficients = allocate(Int16Array, size);
    } else component.plane = allocate(Uint8Array, size);
  }
  const reader = { bytes: data.bytes, position: 0, hold: 0, bits: 0 };
  const decoder = frame.progressive ? progressiveDecoder(reader, scan) : sequentialDecoder(reader, scan);
  walkScan(frame, scan, data, reader, state.restartInterval, decoder);
  return data.next;
}

/** Every component sent, and in full: a file that stops early must not pass as a blurred image. */
function checkComplete(frame: Frame, ended: boolean, offset: number): void {
  for (const { known, id } of frame.components) {
    if (known[0]! < 0) throw fault('jpeg-truncated', `component ${id} was never sent`, offset);
    const whole = known.every((low) => low === 0);
    if (!whole && !ended) throw fault('jpeg-truncated', 'the file ends before the last scan of details', offset);
    // libjpeg smooths an image whose first ten coefficients are not known exactly, in ways that differ between its versions
    if (known.subarray(0, 10).some((low) => low !== 0)) {
      throw unsupported('jpeg-progression', 'progressive JPEG without its finest scans is not supported', offset);
    }
  }
}

function render(frame: Frame, colors: Colors): RawImage {
  const { width, height, components } = frame;
  for (const component of frame.progressive ? components : []) {
    component.plane = allocate(Uint8Array, component.stride * component.rows * 64);
    transformComponent(component);
    component.coefficients = new Int16Array(0);
  }
  const data = allocate(Uint8Array, width * height * 3);
  const sources = components.map((component) => lineSource(component, frame));
  for (let y = 0; y < height; y++) writeLine(colors, sources, y, data, width);
  return { data, width, height };
}
