import type { BlockDecoder, EntropyData } from './huffman.js';
import { type JpegState, type Scan, ZIGZAG } from './markers.js';

/**
 * The probability states of T.81, table D.2: estimate of the less probable symbol (16 bits), next state after it (7 bits, with 128
 * where the symbols change places), next state after the more probable one. State 113 stays at one half.
 */
const ESTIMATES = /* @__PURE__ */ Uint16Array.of(
  ...[0x5a1d, 0x2586, 0x1114, 0x080b, 0x03d8, 0x01da, 0x00e5, 0x006f, 0x0036, 0x001a, 0x000d, 0x0006, 0x0003, 0x0001],
  ...[0x5a7f, 0x3f25, 0x2cf2, 0x207c, 0x17b9, 0x1182, 0x0cef, 0x09a1, 0x072f, 0x055c, 0x0406, 0x0303, 0x0240, 0x01b1],
  ...[0x0144, 0x00f5, 0x00b7, 0x008a, 0x0068, 0x004e, 0x003b, 0x002c, 0x5ae1, 0x484c, 0x3a0d, 0x2ef1, 0x261f, 0x1f33],
  ...[0x19a8, 0x1518, 0x1177, 0x0e74, 0x0bfb, 0x09f8, 0x0861, 0x0706, 0x05cd, 0x04de, 0x040f, 0x0363, 0x02d4, 0x025c],
  ...[0x01f8, 0x01a4, 0x0160, 0x0125, 0x00f6, 0x00cb, 0x00ab, 0x008f, 0x5b12, 0x4d04, 0x412c, 0x37d8, 0x2fe8, 0x293c],
  ...[0x2379, 0x1edf, 0x1aa9, 0x174e, 0x1424, 0x119c, 0x0f6b, 0x0d51, 0x0bb6, 0x0a40, 0x5832, 0x4d1c, 0x438e, 0x3bdd],
  ...[0x34ee, 0x2eae, 0x299a, 0x2516, 0x5570, 0x4ca9, 0x44d9, 0x3e22, 0x3824, 0x32b4, 0x2e17, 0x56a8, 0x4f46, 0x47e5],
  ...[0x41cf, 0x3c3d, 0x375e, 0x5231, 0x4c0f, 0x4639, 0x415e, 0x5627, 0x50e7, 0x4b85, 0x5597, 0x504f, 0x5a10, 0x5522],
  ...[0x59eb, 0x5a1d],
);
const AFTER_LESS = /* @__PURE__ */ Uint8Array.of(
  ...[129, 14, 16, 18, 20, 23, 25, 28, 30, 33, 35, 9, 10, 12, 143, 36, 38, 39, 40, 42, 43, 45, 46, 48, 49, 51, 52, 54],
  ...[56, 57, 59, 60, 62, 63, 32, 33, 165, 64, 65, 67, 68, 69, 70, 72, 73, 74, 75, 77, 78, 79, 48, 50, 50, 51, 52, 53],
  ...[54, 55, 56, 57, 58, 59, 61, 61, 193, 80, 81, 82, 83, 84, 86, 87, 87, 72, 72, 74, 74, 75, 77, 77, 208, 88, 89, 90],
  ...[91, 92, 93, 86, 216, 95, 96, 97, 99, 99, 93, 223, 101, 102, 103, 104, 99, 105, 106, 107, 103, 233, 108, 109, 110],
  ...[111, 238, 112, 240, 113],
);
const AFTER_MORE = /* @__PURE__ */ Uint8Array.of(
  ...[
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 13, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
  ],
  ...[
    32, 33, 34, 35, 9, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60,
  ],
  ...[
    61, 62, 63, 32, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 48, 81, 82, 83, 84, 85, 86, 87, 71, 89,
  ],
  ...[90, 91, 92, 93, 94, 86, 96, 97, 98, 99, 100, 93, 102, 103, 104, 99, 106, 107, 103, 109, 107, 111, 109, 111, 113],
);

const HALF = 113;
const DC_BINS = 64;
const AC_BINS = 256;

/** The binary decoder of T.81, annex D.2. */
class Decoder {
  readonly #entropy: EntropyData;
  #code = 0;
  #interval = 0;
  #shift = -16;
  #position = 0;
  readonly half = Uint8Array.of(HALF);

  constructor(entropy: EntropyData) {
    this.#entropy = entropy;
  }

  restart(): void {
    this.#code = this.#interval = this.#position = 0;
    this.#shift = -16;
  }

  /** The next decision in the context whose state (7 bits, and 128 for the more probable symbol) is `bins[i]`. */
  decide(bins: Uint8Array, i: number): number {
    while (this.#interval < 0x8000) {
      if (--this.#shift < 0) {
        const { data, length } = this.#entropy;
        // zeros after a marker are part of the code; a file that ends is cut
        if (this.#position >= length && this.#entropy.cut) this.#entropy.exhaust();
        const byte = this.#position < length ? data[this.#position++]! : 0;
        this.#code = (this.#code << 8) | byte;
        this.#shift += 8;
        if (this.#shift < 0 && ++this.#shift === 0) this.#interval = 0x8000;
      }
      this.#interval <<= 1;
    }
    const state = bins[i]!;
    const index = state & 127;
    const estimate = ESTIMATES[index]!;
    const more = state & 128;
    this.#interval -= estimate;
    const bound = this.#interval << this.#shift;
    if (this.#code >= bound) {
      this.#code -= bound;
      const exchanged = this.#interval < estimate;
      this.#interval = estimate;
      if (exchanged) {
        bins[i] = more ^ AFTER_MORE[index]!;
        return more >> 7;
      }
      bins[i] = more ^ AFTER_LESS[index]!;
      return (more >> 7) ^ 1;
    }
    if (this.#interval >= 0x8000) return more >> 7;
    if (this.#interval < estimate) {
      bins[i] = more ^ AFTER_LESS[index]!;
      return (more >> 7) ^ 1;
    }
    bins[i] = more ^ AFTER_MORE[index]!;
    return more >> 7;
  }
}

/** Sequential and progressive blocks with arithmetic coding (T.81, F.2.4 and G.2.3). */
export function arithmeticDecoder(
  entropy: EntropyData,
  scan: Scan,
  state: JpegState,
  progressive: boolean,
): BlockDecoder {
  const decoder = new Decoder(entropy);
  const { start, end, high, low } = scan;
  const dcBins = new Map(scan.parts.map((part) => [part.dc, new Uint8Array(DC_BINS)]));
  const acBins = new Map(scan.parts.map((part) => [part.ac, new Uint8Array(AC_BINS)]));
  const predictions = new Int32Array(4);
  const contexts = new Int32Array(4);
  const bit = 1 << low;
  /** After a code that cannot be, the rest of the interval is left alone. */
  let broken = false;
  const fail = () => {
    state.warnings.add('damaged arithmetic code: the rest of its interval is left out');
    broken = true;
  };

  /** The rest of a number whose magnitude category began at `m` in bin `at` (T.81, figures F.23 and F.24); 0 where it is broken. */
  function magnitude(bins: Uint8Array, from: number, first: number): { m: number; at: number } | undefined {
    let m = first;
    let at = from;
    while (decoder.decide(bins, at)) {
      m <<= 1;
      if (m === 0x8000) {
        fail();
        return undefined;
      }
      at++;
    }
    return { m, at };
  }

  function finish(bins: Uint8Array, at: number, category: number, negative: number): number {
    let value = category;
    for (let m = category >> 1; m > 0; m >>= 1) if (decoder.decide(bins, at + 14)) value |= m;
    return negative ? -(value + 1) : value + 1;
  }

  function dc(part: number): void {
    const table = scan.parts[part]!.dc;
    const bins = dcBins.get(table)!;
    let at = contexts[part]!;
    if (!decoder.decide(bins, at)) {
      contexts[part] = 0;
      return;
    }
    const negative = decoder.decide(bins, at + 1);
    at += 2 + negative;
    let m = decoder.decide(bins, at);
    if (m) {
      const found = magnitude(bins, 20, m);
      if (!found) return;
      ({ m, at } = found);
    }
    const context = m < (1 << state.dcLow[table]!) >> 1 ? 0 : m > (1 << state.dcHigh[table]!) >> 1 ? 12 : 4;
    contexts[part] = context === 0 ? 0 : context + negative * 4;
    predictions[part] = (predictions[part]! + finish(bins, at, m, negative)) & 0xffff;
  }

  function ac(part: number, coefficients: Int16Array, block: number): void {
    const table = scan.parts[part]!.ac;
    const bins = acBins.get(table)!;
    for (let k = Math.max(start, 1); k <= end; k++) {
      let at = 3 * (k - 1);
      if (decoder.decide(bins, at)) break; // end of block
      while (!decoder.decide(bins, at + 1)) {
        at += 3;
        if (++k > end) {
          fail();
          return;
        }
      }
      const negative = decoder.decide(decoder.half, 0);
      at += 2;
      let m = decoder.decide(bins, at);
      if (m && decoder.decide(bins, at)) {
        const found = magnitude(bins, k <= state.acLimit[table]! ? 189 : 217, 2);
        if (!found) return;
        ({ m, at } = found);
      }
      coefficients[block + ZIGZAG[k]!] = finish(bins, at, m, negative) << low;
    }
  }

  function acRefine(part: number, coefficients: Int16Array, block: number): void {
    const bins = acBins.get(scan.parts[part]!.ac)!;
    let known = end;
    while (known > 0 && coefficients[block + ZIGZAG[known]!] === 0) known--;
    for (let k = start; k <= end; k++) {
      let at = 3 * (k - 1);
      if (k > known && decoder.decide(bins, at)) break;
      for (;;) {
        const place = block + ZIGZAG[k]!;
        const value = coefficients[place]!;
        if (value !== 0) {
          if (decoder.decide(bins, at + 2)) coefficients[place] = value + (value < 0 ? -bit : bit);
          break;
        }
        if (decoder.decide(bins, at + 1)) {
          coefficients[place] = decoder.decide(decoder.half, 0) ? -bit : bit;
          break;
        }
        at += 3;
        if (++k > end) {
          fail();
          return;
        }
      }
    }
  }

  return {
    overran: () => false,
    restart() {
      decoder.restart();
      for (const bins of [...dcBins.values(), ...acBins.values()]) bins.fill(0);
      predictions.fill(0);
      contexts.fill(0);
      broken = false;
    },
    block(part, coefficients, at) {
      if (progressive && start === 0 && high > 0) {
        if (decoder.decide(decoder.half, 0)) coefficients[at]! |= bit;
      } else if (!broken) {
        if (start === 0) {
          dc(part);
          if (broken) return 63;
          coefficients[at] = predictions[part]! << low;
        }
        if (end > 0 && high > 0) acRefine(part, coefficients, at);
        else if (end > 0) ac(part, coefficients, at);
      }
      return 63;
    },
  };
}
