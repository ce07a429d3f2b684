import type { RgbImage } from '../raw-image.js';
import { allocate, fault, unsupported } from '../raw-image.js';
import { arithmeticDecoder } from './arithmetic.js';
import { type BlockDecoder, defaultTables, EntropyData, progressiveHuffman, sequentialHuffman } from './huffman.js';
import { needsSmoothing, type Smoother, smoother, transformBlock, transformFlat } from './idct.js';
import { decodeLosslessScan } from './lossless.js';
import {
  type Component,
  type Frame,
  isCutOff,
  isFrameHeader,
  type JpegState,
  MARKER,
  newState,
  nextMarker,
  readFrame,
  readMiscellaneous,
  readScan,
  type Scan,
  type Segment,
  segmentOf,
} from './markers.js';
import { type Colors, colorsOf, lineSource, writeLine } from './output.js';

/**
 * Scans of a file, and how often they may visit each block of a large image: libjpeg's own script visits a block at most 6 times, while a
 * progressive file of some kilobytes can ask for hours of work.
 */
const MAX_SCANS = 500;
const MAX_VISITS = 10;
/** Visits that any image may have, however small. */
const FREE_VISITS = 4e6;

/** A JPEG file up to its first scan. */
export interface JpegHeader {
  readonly state: JpegState;
  readonly frame: Frame;
  readonly colors: Colors;
  readonly firstScan: Segment;
}

/** Reads all segments before the first scan; stray bytes between them are skipped, as Pillow and libjpeg do. */
export function readJpegHeader(bytes: Uint8Array, maxPixels: number): JpegHeader {
  const state = newState(maxPixels);
  for (let offset = 2; ; ) {
    const marker = nextMarker(bytes, offset);
    if (marker.code < 0) throw fault('jpeg-truncated', 'the file ends before the image', bytes.length);
    if (bytes[offset] !== 0xff || bytes.subarray(offset, marker.offset).some((byte) => byte !== 0xff)) {
      state.warnings.add('stray bytes between the segments of the header were skipped');
    }
    if (marker.code < 0xc0) throw fault('jpeg-marker', `unknown marker FF ${marker.code.toString(16)}`, marker.offset);
    const segment = segmentOf(bytes, marker, state.warnings);
    if (marker.code === MARKER.EOI) throw fault('jpeg-scan', 'the file has no scan', segment.offset);
    if (marker.code === MARKER.SOS) {
      const { frame } = state;
      if (!frame) throw fault('jpeg-frame', 'a scan before the frame header', segment.offset);
      const colors = colorsOf(frame, state.jfif, state.adobe);
      if (frame.process === 'lossless' && (colors === 'ycc' || colors === 'ycck')) {
        throw unsupported('jpeg-lossless', 'lossless JPEG in YCbCr is not supported', segment.offset);
      }
      return { state, frame, colors, firstScan: segment };
    }
    if (isFrameHeader(marker.code)) state.frame = readFrame(bytes, segment, state);
    else readMiscellaneous(bytes, segment, state);
    offset = segment.end;
  }
}

/**
 * Decodes a JPEG (baseline, extended sequential, progressive; Huffman or arithmetic coding; lossless with Huffman coding; 8 bits; gray,
 * YCbCr, RGB, CMYK, YCCK), bit for bit as libjpeg-turbo with its default settings, and so as Pillow's
 * `Image.open(f).convert("RGB")`; damage that libjpeg mends is mended the same way and named in `state.warnings`. A file that ends
 * with its image, before any marker, is cut to Pillow and here; so is one of several scans without its end marker. Yields now and then the work done, in blocks.
 * @throws ImageError, `unsupported` for 12-bit, hierarchical and other rare files.
 */
export function* decodeJpeg(bytes: Uint8Array, header: JpegHeader): Generator<number, RgbImage> {
  const { state, frame } = header;
  const scanner = newScanner(header, bytes);
  let ended = false;
  for (let segment = header.firstScan; !ended; ) {
    let offset = segment.end;
    if (segment.marker === MARKER.EOI) ended = true;
    else if (segment.marker === MARKER.SOS) offset = yield* scanner.scan(segment);
    else if (isFrameHeader(segment.marker)) throw fault('jpeg-frame', 'a second frame header', segment.offset);
    else readMiscellaneous(bytes, segment, state);
    if (ended) break;
    const marker = nextMarker(bytes, offset);
    if (marker.code < 0 || (!scanner.several && isCutOff(bytes, marker))) break;
    segment = segmentOf(bytes, marker, state.warnings);
  }
  if (!ended) {
    if (scanner.several || scanner.cut()) {
      throw fault('jpeg-truncated', 'the file ends before its end marker (FF D9)', bytes.length);
    }
    state.warnings.add('the end marker is missing');
  }
  checkComplete(frame, bytes.length, state);
  return yield* render(header, scanner.lastGoodRow());
}

/** Reads scans: straight to samples where the file has one, to coefficients where several share them. */
function newScanner({ state, frame, firstScan }: JpegHeader, bytes: Uint8Array) {
  const allBlocks = frame.components.reduce((sum, { stride, rows }) => sum + stride * rows, 0);
  const maxVisits = Math.max(FREE_VISITS, MAX_VISITS * allBlocks);
  const several = frame.process === 'progressive' || (bytes[firstScan.start] ?? 0) < frame.components.length;
  let visits = 0;
  let lastGoodRow = frame.mcusHigh - 1;
  let cut = false;

  /** Decodes one scan; gives the offset of the marker behind it. */
  function* decode(segment: Segment): Generator<number, number> {
    if (state.scans > 0 && !several)
      throw fault('jpeg-scan', 'a second scan of an image that is whole', segment.offset);
    const scan = readScan(bytes, segment, state);
    const { blocks } = scanSize(frame, scan);
    visits += blocks;
    if (state.scans > MAX_SCANS || visits > maxVisits) {
      throw fault('jpeg-scans', `too much work: ${state.scans} scans over ${visits} blocks`, segment.offset);
    }
    if (!frame.arithmetic && frame.process === 'baseline') defaultTablesOnce(state);
    const entropy = new EntropyData(bytes, segment.end, state.warnings);
    // in all but refining scans a block costs at least a bit: a claim without data is refused before the image is allocated
    if (entropy.cut && !frame.arithmetic && scan.high === 0 && scan.start === 0 && blocks > entropy.length * 8) {
      throw fault('jpeg-truncated', 'the entropy-coded data end too early', segment.end);
    }
    if (frame.process === 'lossless') {
      for (const { component } of scan.parts) prepare(component, component.stride * component.rows, false);
      yield* decodeLosslessScan(entropy, frame, scan, state);
      cut = entropy.endsInScan;
      return entropy.next;
    }
    for (const { component } of scan.parts) {
      component.quant ??= state.quant[component.quantTable];
      if (!component.quant) throw fault('jpeg-quantization', `table ${component.quantTable} is missing`, scan.offset);
      prepare(component, component.stride * component.rows * 64, several);
    }
    const decoder = frame.arithmetic
      ? arithmeticDecoder(entropy, scan, state, frame.process === 'progressive')
      : frame.process === 'progressive'
        ? progressiveHuffman(entropy, scan, state)
        : sequentialHuffman(entropy, scan, state);
    const target = several ? toCoefficients(scan, decoder) : toSamples(scan, decoder);
    yield* walkScan(frame, scan, entropy, decoder, state.restartInterval, target, (row) => {
      lastGoodRow = row;
    });
    cut = entropy.endsInScan;
    return entropy.next;
  }
  return { scan: decode, several, cut: () => cut, lastGoodRow: () => lastGoodRow };
}

const withDefaults = /* @__PURE__ */ new WeakSet<JpegState>();

/** What is not defined at the first scan gets the standard's tables; later scans must define what they use. */
function defaultTablesOnce(state: JpegState): void {
  if (withDefaults.has(state)) return;
  withDefaults.add(state);
  if (![...state.dc, ...state.ac].some(Boolean)) state.warnings.add("no Huffman tables: the standard's are taken");
  defaultTables(state);
}

function prepare(component: Component, size: number, several: boolean): void {
  if (!several) component.plane = allocate(Uint8Array, size);
  else if (component.coefficients.length === 0) component.coefficients = allocate(Int16Array, size);
}

/** What becomes of one block. `skip` is called in place of it where there are no data. */
interface BlockTarget {
  readonly block: (part: number, row: number, column: number) => void;
  readonly skip: (part: number, row: number, column: number) => void;
}

function toCoefficients(scan: Scan, decoder: BlockDecoder): BlockTarget {
  return {
    block(part, row, column) {
      const { coefficients, stride } = scan.parts[part]!.component;
      decoder.block(part, coefficients, (row * stride + column) * 64);
    },
    skip: () => undefined,
  };
}

function toSamples(scan: Scan, decoder: BlockDecoder): BlockTarget {
  const block = new Int16Array(64);
  const write = (part: number, row: number, column: number, last: number) => {
    const { plane, stride, quant } = scan.parts[part]!.component;
    const at = (row * stride * 8 + column) * 8;
    if (last === 0 && transformFlat(block[0]!, quant![0]!, plane, at, stride * 8)) {
      block[0] = 0;
      return;
    }
    transformBlock(block, 0, quant!, plane, at, stride * 8);
    block.fill(0);
  };
  return {
    block: (part, row, column) => write(part, row, column, decoder.block(part, block, 0)),
    skip: (part, row, column) => write(part, row, column, 0),
  };
}

/** MCUs of a scan: one block each when it has one component, else a rectangle of blocks of every component (T.81, A.2). */
function scanSize(frame: Frame, scan: Scan): { wide: number; high: number; blocks: number } {
  const single = scan.parts.length === 1 ? scan.parts[0]!.component : undefined;
  const wide = single ? single.blocksWide : frame.mcusWide;
  const high = single ? single.blocksHigh : frame.mcusHigh;
  const each = single ? 1 : scan.parts.reduce((sum, { component }) => sum + component.h * component.v, 0);
  return { wide, high, blocks: wide * high * each };
}

/** Walks all MCUs of a scan in order, with its restart intervals; `good` is called with each row of MCUs that has data. */
function* walkScan(
  frame: Frame,
  scan: Scan,
  entropy: EntropyData,
  decoder: BlockDecoder,
  restartInterval: number,
  target: BlockTarget,
  good: (mcuRow: number) => void,
): Generator<number> {
  const { wide, high } = scanSize(frame, scan);
  const { parts } = scan;
  const single = parts.length === 1 ? parts[0]!.component : undefined;
  let left = restartInterval || Number.POSITIVE_INFINITY;
  for (let row = 0; row < high; row++) {
    for (let column = 0; column < wide; column++) {
      if (!entropy.exhausted) good(single ? Math.floor(row / single.v) : row);
      if (left-- === 0) {
        entropy.restart();
        decoder.restart();
        left = restartInterval - 1;
      }
      const each = entropy.exhausted ? target.skip : target.block;
      if (single) each(0, row, column);
      else {
        for (let part = 0; part < parts.length; part++) {
          const { h, v } = parts[part]!.component;
          for (let y = 0; y < v; y++) for (let x = 0; x < h; x++) each(part, row * v + y, column * h + x);
        }
      }
      if (!entropy.exhausted && decoder.overran()) entropy.exhaust();
    }
    yield wide;
  }
}

/** A file that ends properly may lack details, as libjpeg has it. */
function checkComplete({ components, process }: Frame, offset: number, { warnings }: JpegState): void {
  for (const { known, id, coefficients, plane } of components) {
    const sent = coefficients.length > 0 || plane.length > 0;
    if (!sent && process === 'lossless') throw unsupported('jpeg-lossless', `component ${id} was never sent`, offset);
    const whole = sent && (process !== 'progressive' || known.every((low) => low === 0));
    if (!whole) warnings.add(sent ? 'scans of finer details are missing' : `component ${id} was never sent`);
  }
}

function* render({ state, frame, colors }: JpegHeader, lastGoodRow: number): Generator<number, RgbImage> {
  const { width, height, components } = frame;
  const smoothed = needsSmoothing(frame);
  for (const component of components) {
    if (component.plane.length > 0) continue;
    component.plane = allocate(Uint8Array, component.stride * component.rows * 64);
    const smooth = smoothed ? smoother(component, frame, state.scans, lastGoodRow) : undefined;
    yield* transformComponent(component, smooth);
    if (!smoothed) component.coefficients = new Int16Array(0);
  }
  const data = allocate(Uint8Array, width * height * 3);
  const sources = components.map((component) => lineSource(component, frame));
  for (let y = 0; y < height; y++) {
    writeLine(colors, sources, y, data, width);
    if ((y & 7) === 7) yield Math.ceil(width / 8);
  }
  return { data, width, height };
}

/** Dequantizes and transforms all blocks of a component whose scans are over. */
function* transformComponent(component: Component, smooth: Smoother | undefined): Generator<number> {
  const { coefficients, plane, stride, blocksHigh, blocksWide, quant } = component;
  if (!quant) {
    plane.fill(128); // never sent
    return;
  }
  for (let row = 0; row < blocksHigh; row++) {
    for (let column = 0; column < blocksWide; column++) {
      const to = (row * stride * 8 + column) * 8;
      if (smooth) transformBlock(smooth(row, column), 0, quant, plane, to, stride * 8);
      else transformBlock(coefficients, (row * stride + column) * 64, quant, plane, to, stride * 8);
    }
    yield blocksWide;
  }
}
