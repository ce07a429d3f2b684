import { HEAP_START } from './abi.js';
import { BackendError } from './errors.js';

const PAGE = 65536;
/** Blocks up to this size come from classes. */
const LARGEST_CLASS = 32768;
/** A class takes its blocks from slabs of this size. */
const SLAB_BYTES = 262144;
/** The memory grows by at least this much. */
const GROWTH_BYTES = 16 * 1024 * 1024;
/** Kernels may read a little past a block: nothing is in the last page. */
const GUARD_BYTES = PAGE;
/** How long `alloc` waits, where nothing else is left, for blocks that are held. */
const LONGEST_WAIT_MS = 1000;

interface Range {
  start: number;
  end: number;
}

/** Free ranges, sorted; none touches the next. */
class FreeRanges {
  private readonly ranges: Range[] = [];

  /** Index of the first range that does not begin before `address`. */
  private indexAfter(address: number): number {
    let [low, high] = [0, this.ranges.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.ranges[middle]!.start < address) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Adds a range and joins it with the free ones next to it. */
  add(start: number, end: number): void {
    const at = this.indexAfter(start);
    const [before, after] = [this.ranges[at - 1], this.ranges[at]];
    if (before?.end === start) {
      before.end = end;
      if (after?.start === end) {
        before.end = after.end;
        this.ranges.splice(at, 1);
      }
    } else if (after?.start === end) after.start = start;
    else this.ranges.splice(at, 0, { start, end });
  }

  /** Takes the beginning of the smallest range that fits. */
  take(bytes: number): number | undefined {
    let best: Range | undefined;
    for (const range of this.ranges) {
      const size = range.end - range.start;
      if (size >= bytes && (best === undefined || size < best.end - best.start)) best = range;
    }
    if (best === undefined) return undefined;
    const { start } = best;
    best.start += bytes;
    if (best.start === best.end) this.ranges.splice(this.ranges.indexOf(best), 1);
    return start;
  }

  /** Bytes free at the very end, so that growing adds only what is missing. */
  freeAt(end: number): number {
    const last = this.ranges.at(-1);
    return last?.end === end ? end - last.start : 0;
  }
}

/** 64, 128, 192, 256, then four steps to each power of two: at most a quarter is wasted. */
function classBytes(bytes: number): number {
  if (bytes <= 256) return Math.max(64, (bytes + 63) & ~63);
  const step = 2 ** (29 - Math.clz32(bytes - 1));
  return Math.ceil(bytes / step) * step;
}

/** What a block of `bytes` takes. */
export const blockBytes = (bytes: number) =>
  bytes <= LARGEST_CLASS ? classBytes(bytes) : Math.ceil(bytes / 4096) * 4096;

/**
 * The allocator of the backend's memory. Small blocks come from classes of equal size, which are reused but never given back;
 * large ones from a list of free ranges in the order of their addresses, where free neighbors are joined.
 */
export class Heap {
  private readonly ranges = new FreeRanges();
  private readonly classes = new Map<number, number[]>();
  /** Blocks given back that must not be used yet, and whether that is still so. */
  private readonly held: { at: number; size: number }[] = [];
  private isHeld: (() => boolean) | undefined;
  private used = 0;
  private end: number;

  /** Views of the whole memory, valid until the next `alloc`. */
  f32!: Float32Array;
  i32!: Int32Array;
  u8!: Uint8Array;

  /** `limit`: bytes that the memory can grow to. */
  constructor(
    private readonly memory: WebAssembly.Memory,
    private readonly limit = 2 ** 32,
  ) {
    this.end = memory.buffer.byteLength - GUARD_BYTES;
    this.ranges.add(HEAP_START, this.end);
    this.renewViews();
  }

  private renewViews(): void {
    const { buffer } = this.memory;
    [this.f32, this.i32, this.u8] = [new Float32Array(buffer), new Int32Array(buffer), new Uint8Array(buffer)];
  }

  /**
   * Address of at least `bytes` bytes, a multiple of 64. Zero bytes have an address as well.
   * @throws BackendError (`memory-limit`) when the memory cannot grow any further.
   */
  alloc(bytes: number): number {
    const size = blockBytes(bytes);
    this.releaseHeld();
    const at = size <= LARGEST_CLASS ? this.takeSmall(size) : this.takeLarge(size);
    this.used += size;
    return at;
  }

  /** Gives a block back; `bytes` as asked for. */
  free(address: number, bytes: number): void {
    const size = blockBytes(bytes);
    this.used -= size;
    if (this.releaseHeld()) this.release(address, size);
    else this.held.push({ at: address, size });
  }

  /** Keeps what is given back from now on out of use as long as `until` returns true: another thread may still write to it. */
  hold(until: () => boolean): void {
    this.isHeld = until;
  }

  /** Bytes in blocks that are in use, and bytes that the memory has grown to. */
  stats(): { readonly used: number; readonly size: number } {
    return { used: this.used, size: this.end + GUARD_BYTES };
  }

  /** Bytes that can still be allocated, in blocks small enough for the gaps between others. */
  freeBytes(): number {
    return this.limit - HEAP_START - GUARD_BYTES - this.used;
  }

  private takeSmall(bytes: number): number {
    const free = this.classes.get(bytes) ?? [];
    this.classes.set(bytes, free);
    if (free.length === 0) {
      const slab = this.takeLarge(SLAB_BYTES);
      for (let at = slab + SLAB_BYTES - (SLAB_BYTES % bytes) - bytes; at >= slab; at -= bytes) free.push(at);
    }
    return free.pop()!;
  }

  private takeLarge(bytes: number): number {
    const found = this.ranges.take(bytes);
    if (found !== undefined) return found;
    const more = this.grow(bytes) || this.waitForHeld() ? this.ranges.take(bytes) : undefined;
    if (more === undefined) throw this.limitReached(bytes);
    return more;
  }

  /** Grows by what is missing for a block of so many bytes, if the memory can. */
  private grow(bytes: number): boolean {
    const missing = bytes - this.ranges.freeAt(this.end);
    for (const wanted of [Math.max(missing, GROWTH_BYTES), missing]) {
      const pages = Math.ceil(wanted / PAGE);
      try {
        this.memory.grow(pages);
        this.ranges.add(this.end, this.end + pages * PAGE);
        this.end += pages * PAGE;
        this.renewViews();
        return true;
      } catch {
        // Not so much: try exactly what is missing, then give up.
      }
    }
    return false;
  }

  private limitReached(bytes: number): BackendError {
    const mebibytes = (n: number) => `${Math.ceil(n / 2 ** 20)} MiB`;
    const detail = `the backend's WebAssembly memory cannot grow: ${mebibytes(bytes)} wanted, ${mebibytes(this.used)} in use of ${mebibytes(this.end)}; 4 GiB is the most there can be`;
    return new BackendError({ path: 'simd', code: 'memory-limit', detail });
  }

  private release(at: number, size: number): void {
    if (size <= LARGEST_CLASS) this.classes.get(size)!.push(at);
    else this.ranges.add(at, at + size);
  }

  /** Makes held blocks free again where nobody writes to them any more; false where they must still be held. */
  private releaseHeld(): boolean {
    if (this.isHeld === undefined) return true;
    if (this.isHeld()) return false;
    this.isHeld = undefined;
    for (const { at, size } of this.held.splice(0)) this.release(at, size);
    return true;
  }

  /** Where nothing else is left: waits until held blocks are free. */
  private waitForHeld(): boolean {
    const end = performance.now() + LONGEST_WAIT_MS;
    while (!this.releaseHeld() && performance.now() < end) {}
    return this.isHeld === undefined;
  }
}
