/** Uniform numbers in [0, 1), each a multiple of 2^-53. */
export type Random = () => number;

/**
 * A seeded generator: xoshiro128** (Blackman and Vigna, 2018; period 2^128 - 1), its four words filled by SplitMix32 from the seed and the
 * stream number; a double takes the high 27 and 26 bits of two outputs. The same on every platform, since only 32-bit integer arithmetic is
 * used. It is for sampling words, not for secrets.
 *
 * seed: a safe integer >= 0. stream: an independent sequence of the same seed.
 */
export function seededRandom(seed: number, stream = 0): Random {
  const words = splitMix32(
    (seed >>> 0) ^ Math.imul(Math.floor(seed / 2 ** 32), 0x85ebca6b) ^ Math.imul(stream, 0xc2b2ae35),
  );
  let [a, b, c, d] = [words(), words(), words(), words() | 1]; // all four zero would be a fixed point
  const next = (): number => {
    const result = Math.imul(rotate(Math.imul(b, 5), 7), 9) >>> 0;
    const t = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= t;
    d = rotate(d, 11);
    return result;
  };
  return () => ((next() >>> 5) * 2 ** 26 + (next() >>> 6)) * 2 ** -53;
}

const rotate = (x: number, bits: number): number => (x << bits) | (x >>> (32 - bits));

/** SplitMix32: well mixed 32-bit words from any start, neighboring ones included. */
function splitMix32(start: number): () => number {
  let state = start | 0;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return z ^ (z >>> 15);
  };
}
