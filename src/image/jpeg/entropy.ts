import { fault } from '../fault.js';
import { MARKER, type Marker, nextMarker } from './markers.js';

/** Zeros after the data: more than one MCU can read past its end. */
const PADDING = 1 << 14;

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
  #marker: Marker;
  #nextRestart = 0;
  readonly #bytes: Uint8Array;
  readonly #warnings: Set<string>;

  constructor(bytes: Uint8Array, offset: number, warnings: Set<string>) {
    this.#bytes = bytes;
    this.#warnings = warnings;
    this.#marker = this.#read(offset);
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
    if (!this.exhausted) this.#warnings.add('entropy-coded data end too early: the rest is filled in');
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
      if (!isRestart || ahead !== 0) this.#warnings.add('restart markers are missing or out of order');
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
