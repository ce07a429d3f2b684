import { allocate, fault } from '../fault.js';
import type { GifFrame } from './gif-file.js';

const MAX_CODES = 4096;

/** Decompresses a frame to palette indices, uint8 [height, width] in stored (perhaps interlaced) row order. */
export function decompressFrame(frame: GifFrame): Uint8Array {
  const { data, codeBits, offset } = frame;
  const size = frame.width * frame.height;
  const clear = 1 << codeBits;
  const end = clear + 1;
  // a code stands for at most 4096 pixels: a claim beyond that is refused before it is allocated
  if (size > data.length * 8 * MAX_CODES) throw fault('gif-truncated', 'fewer pixels than the header says', offset);
  const out = allocate(Uint8Array, size);
  const prefix = new Uint16Array(MAX_CODES); // code = string of prefix + last byte
  const suffix = new Uint8Array(MAX_CODES);
  const lengths = new Uint16Array(MAX_CODES).fill(1, 0, clear);
  for (let i = 0; i < clear; i++) suffix[i] = i;
  let [next, bits, previous, first] = [end + 1, codeBits + 1, -1, 0];
  let [hold, held, filled] = [0, 0, 0];
  for (let i = 0; filled < size; ) {
    for (; held < bits; held += 8) {
      if (i === data.length) throw fault('gif-truncated', 'fewer pixels than the header says', offset);
      hold |= data[i++]! << held;
    }
    const code = hold & ((1 << bits) - 1);
    hold >>>= bits;
    held -= bits;
    if (code === clear) {
      [next, bits, previous] = [end + 1, codeBits + 1, -1];
      continue;
    }
    if (code === end) throw fault('gif-truncated', 'fewer pixels than the header says', offset);
    if (code > next || (code === next && previous < 0))
      throw fault('gif-data', 'an LZW code that is not defined', offset);
    const known = code < next ? code : previous;
    const length = lengths[known]!;
    let string = known;
    for (let to = filled + length - 1; to >= filled; to--) {
      first = suffix[string]!;
      if (to < size) out[to] = first;
      string = prefix[string]!;
    }
    filled += length;
    if (code === next) {
      if (filled < size) out[filled] = first;
      filled++;
    }
    if (previous >= 0 && next < MAX_CODES) {
      prefix[next] = previous;
      suffix[next] = first;
      lengths[next] = lengths[previous]! + 1;
      next++;
      if (next === 1 << bits && bits < 12) bits++;
    }
    previous = code;
  }
  return out;
}
