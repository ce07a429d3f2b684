import { fault } from '../fault.js';
import { type BitReader, consumed, type EntropyData } from './entropy.js';
import type { Frame, Scan } from './types.js';

/** What a scan does with each of its blocks; `part` is the place of the component in the scan. */
export interface BlockDecoder {
  readonly restart: () => void;
  readonly block: (part: number, row: number, column: number) => void;
}

/** MCUs of a scan: one block each when it has one component, else a rectangle of blocks of every component (T.81, A.2). */
export function scanSize(frame: Frame, scan: Scan): { wide: number; high: number; blocks: number } {
  const single = scan.parts.length === 1 ? scan.parts[0]!.component : undefined;
  const wide = single ? single.blocksWide : frame.mcusWide;
  const high = single ? single.blocksHigh : frame.mcusHigh;
  const each = single ? 1 : scan.parts.reduce((sum, { component }) => sum + component.h * component.v, 0);
  return { wide, high, blocks: wide * high * each };
}

const truncated = (scan: Scan) => fault('jpeg-truncated', 'the entropy-coded data end too early', scan.offset);

/** Walks all MCUs of a scan in order, with its restart intervals. The data must last to the end: nothing is filled with gray. */
export function walkScan(
  frame: Frame,
  scan: Scan,
  data: EntropyData,
  reader: BitReader,
  restartInterval: number,
  decoder: BlockDecoder,
): void {
  const { wide, high } = scanSize(frame, scan);
  const single = scan.parts.length === 1;
  let interval = 0;
  let left = restartInterval || Number.POSITIVE_INFINITY;
  const check = () => {
    if (consumed(reader) > data.ends[interval]! * 8) throw truncated(scan);
  };
  const nextInterval = () => {
    check();
    if (interval + 1 === data.ends.length) throw fault('jpeg-restart', 'a restart marker is missing', scan.offset);
    reader.position = data.ends[interval++]!;
    reader.bits = reader.hold = 0;
    left = restartInterval;
    decoder.restart();
  };
  for (let row = 0; row < high; row++) {
    for (let column = 0; column < wide; column++) {
      if (left-- === 0) {
        nextInterval();
        left--;
      }
      if (single) decoder.block(0, row, column);
      else interleavedMcu(scan, row, column, decoder);
    }
    check();
  }
}

function interleavedMcu(scan: Scan, row: number, column: number, decoder: BlockDecoder): void {
  for (let part = 0; part < scan.parts.length; part++) {
    const { h, v } = scan.parts[part]!.component;
    for (let y = 0; y < v; y++) {
      for (let x = 0; x < h; x++) decoder.block(part, row * v + y, column * h + x);
    }
  }
}
