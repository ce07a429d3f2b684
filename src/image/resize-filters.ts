/** Names of Pillow's filters. */
export type ResizeFilter = 'nearest' | 'box' | 'bilinear' | 'hamming' | 'bicubic' | 'lanczos';

interface Filter {
  /** Half the width of the filter, in pixels of the larger of source and target. */
  readonly support: number;
  /** Weight at distance x. The order of the operations is Pillow's: it decides the last bit. */
  readonly weight: (x: number) => number;
}

const sinc = (x: number): number => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));

function hamming(distance: number): number {
  const x = Math.abs(distance);
  if (x >= 1) return 0;
  return x === 0 ? 1 : sinc(x) * (0.54 + 0.46 * Math.cos(x * Math.PI));
}

/** Keys' cubic with a = -0.5. */
function bicubic(distance: number): number {
  const a = -0.5;
  const x = Math.abs(distance);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

export const FILTERS: Readonly<Record<Exclude<ResizeFilter, 'nearest'>, Filter>> = {
  box: { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  hamming: { support: 1, weight: hamming },
  bicubic: { support: 2, weight: bicubic },
  lanczos: { support: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** For each pixel of one axis of the target: which source pixels it sums up, with which weights. */
export interface Taps {
  /** First source pixel. */
  readonly starts: Int32Array;
  /** Number of source pixels. */
  readonly counts: Int32Array;
  /** Where its weights begin in `weights`. */
  readonly offsets: Int32Array;
  /** Integers times 2^22. */
  readonly weights: Int32Array;
}

/** The taps of target pixels [first, first + count) when `inSize` pixels become `outSize`, as Pillow's precompute_coeffs. */
export function tapsOf(
  inSize: number,
  outSize: number,
  first: number,
  count: number,
  name: Exclude<ResizeFilter, 'nearest'>,
): Taps {
  const { support, weight } = FILTERS[name];
  const scale = inSize / outSize;
  const stretch = Math.max(scale, 1);
  const reach = support * stretch;
  const most = Math.ceil(reach) * 2 + 1;
  const taps = { starts: new Int32Array(count), counts: new Int32Array(count), offsets: new Int32Array(count) };
  const weights = new Int32Array(count * Math.min(most, inSize));
  const exact = new Float64Array(most);
  let filled = 0;
  for (let i = 0; i < count; i++) {
    const center = (first + i + 0.5) * scale;
    const start = Math.max(0, Math.trunc(center - reach + 0.5));
    const length = Math.min(inSize, Math.trunc(center + reach + 0.5)) - start;
    let sum = 0;
    for (let t = 0; t < length; t++) {
      const w = weight((t + start - center + 0.5) * (1 / stretch));
      exact[t] = w;
      sum += w;
    }
    taps.starts[i] = start;
    taps.counts[i] = length;
    taps.offsets[i] = filled;
    for (let t = 0; t < length; t++) {
      const scaled = (sum === 0 ? exact[t]! : exact[t]! / sum) * (1 << 22);
      weights[filled++] = Math.trunc(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
    }
  }
  return { ...taps, weights: weights.subarray(0, filled) };
}
