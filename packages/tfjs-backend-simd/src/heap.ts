import { BackendError } from './errors.js';
import { HEAP_START } from './memory-map.js';

/**
 * The allocator of the backend's memory. Small blocks come from classes of equal size, which are reused but never given back;
 * large ones from a list of free ranges in the order of their addresses, where neighbours melt together again.
 */
export interface Heap {
  /** Address of at least `bytes` bytes, a multiple of 64. Zero bytes have an address as well. */
  alloc(bytes: number): number;
  /** Gives a block back; `bytes` as asked for. */
  free(address: number, bytes: number): void;
  /** Keeps what is given back from now on out of use as long as `until` says so: somebody may still write to it. */
  hold(until: () => boolean): void;
  /** Views of the whole memory, valid until the next `alloc`. */
  readonly f32: Float32Array;
  readonly i32: Int32Array;
  readonly u8: Uint8Array;
  /** Bytes in blocks that are in use, and bytes that the memory has grown to. */
  stats(): { readonly used: number; readonly size: number };
}

const PAGE = 65536;
/** Blocks up to this size come from classes. */
const SMALL = 32768;
/** A class takes its blocks from slabs of this size. */
const SLAB = 262144;
/** The memory grows by at least this much. */
const GROWTH = 16 * 1024 * 1024;
/** Kernels may read a little past a block: nothing lies in the last page. */
const GUARD = PAGE;

interface Range {
  start: number;
  end: number;
}

/** 64, 128, 192, 256, then four steps to each power of two: at most a quarter is wasted. */
function sizeClass(bytes: number): number {
  if (bytes <= 256) return Math.max(64, (bytes + 63) & ~63);
  const step = 2 ** (29 - Math.clz32(bytes - 1));
  return Math.ceil(bytes / step) * step;
}

/** Free ranges, sorted; none touches the next. */
function createRanges() {
  const ranges: Range[] = [];
  const indexAfter = (address: number) => {
    let [low, high] = [0, ranges.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (ranges[middle]!.start < address) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  return {
    add(start: number, end: number): void {
      const at = indexAfter(start);
      const [before, after] = [ranges[at - 1], ranges[at]];
      if (before?.end === start) {
        before.end = end;
        if (after?.start === end) {
          before.end = after.end;
          ranges.splice(at, 1);
        }
      } else if (after?.start === end) after.start = start;
      else ranges.splice(at, 0, { start, end });
    },
    /** The smallest range that fits loses its beginning. */
    take(bytes: number): number | undefined {
      let best: Range | undefined;
      for (const range of ranges) {
        const size = range.end - range.start;
        if (size >= bytes && (best === undefined || size < best.end - best.start)) best = range;
      }
      if (best === undefined) return undefined;
      const { start } = best;
      best.start += bytes;
      if (best.start === best.end) ranges.splice(ranges.indexOf(best), 1);
      return start;
    },
    /** Bytes free at the very end, so that growing adds only what is missing. */
    freeAt: (end: number) => {
      const last = ranges.at(-1);
      return last?.end === end ? end - last.start : 0;
    },
  };
}

/** @throws BackendError (`memory-limit`) from `alloc`, when the memory cannot grow any further. */
export function createHeap(memory: WebAssembly.Memory): Heap {
  const ranges = createRanges();
  const classes = new Map<number, number[]>();
  let buffer: ArrayBufferLike | undefined;
  let [f32, i32, u8] = [new Float32Array(), new Int32Array(), new Uint8Array()] as [
    Float32Array,
    Int32Array,
    Uint8Array,
  ];
  let used = 0;
  let end = memory.buffer.byteLength - GUARD;
  ranges.add(HEAP_START, end);

  function refresh(): void {
    if (memory.buffer === buffer) return;
    buffer = memory.buffer;
    [f32, i32, u8] = [new Float32Array(buffer), new Int32Array(buffer), new Uint8Array(buffer)];
  }

  /** Grows by what is missing for a block of so many bytes, if the memory can. */
  function grow(bytes: number): boolean {
    const missing = bytes - ranges.freeAt(end);
    const pages = (n: number) => Math.ceil(n / PAGE);
    for (const wanted of [Math.max(missing, GROWTH), missing]) {
      try {
        memory.grow(pages(wanted));
        ranges.add(end, end + pages(wanted) * PAGE);
        end += pages(wanted) * PAGE;
        refresh();
        return true;
      } catch {
        // Not so much: try exactly what is missing, then give up.
      }
    }
    return false;
  }

  function full(bytes: number): BackendError {
    const mebibytes = (n: number) => `${Math.ceil(n / 2 ** 20)} MiB`;
    const detail = `the backend's WebAssembly memory cannot grow: ${mebibytes(bytes)} wanted, ${mebibytes(used)} in use of ${mebibytes(end)}; 4 GiB is the most there can be`;
    return new BackendError({ path: 'simd', code: 'memory-limit', detail });
  }

  function takeLarge(bytes: number): number {
    const found = ranges.take(bytes) ?? (grow(bytes) || heldIsFree() ? ranges.take(bytes) : undefined);
    if (found === undefined) throw full(bytes);
    return found;
  }

  function takeSmall(bytes: number): number {
    const free = classes.get(bytes) ?? [];
    classes.set(bytes, free);
    if (free.length === 0) {
      const slab = takeLarge(SLAB);
      for (let at = slab + SLAB - (SLAB % bytes) - bytes; at >= slab; at -= bytes) free.push(at);
    }
    return free.pop()!;
  }

  /** Blocks given back that must rest, and whether they still must. */
  const held: { at: number; size: number }[] = [];
  let holding: (() => boolean) | undefined;

  function release(at: number, size: number): void {
    if (size <= SMALL) classes.get(size)!.push(at);
    else ranges.add(at, at + size);
  }

  function isHolding(): boolean {
    if (holding?.() === true) return true;
    holding = undefined;
    for (const { at, size } of held.splice(0)) release(at, size);
    return false;
  }

  /** Where nothing else is left: waits, a second at most, until what must rest may be used. */
  function heldIsFree(): boolean {
    const end = performance.now() + 1000;
    while (holding !== undefined && isHolding() && performance.now() < end) {}
    return holding === undefined;
  }

  const blockSize = (bytes: number) => (bytes <= SMALL ? sizeClass(bytes) : Math.ceil(bytes / 4096) * 4096);
  refresh();
  return {
    alloc(bytes) {
      const size = blockSize(bytes);
      if (holding !== undefined) isHolding();
      const at = size <= SMALL ? takeSmall(size) : takeLarge(size);
      used += size;
      return at;
    },
    free(address, bytes) {
      const size = blockSize(bytes);
      used -= size;
      if (holding !== undefined && isHolding()) held.push({ at: address, size });
      else release(address, size);
    },
    hold(until) {
      holding = until;
    },
    get f32() {
      return f32;
    },
    get i32() {
      return i32;
    },
    get u8() {
      return u8;
    },
    stats: () => ({ used, size: end + GUARD }),
  };
}
