const BASE = 65521;
/** So many steps keep the second sum below 2^31, where integer arithmetic is fast. */
const STEPS = 3850;

/** Adler-32 (RFC 1950, section 8) of `bytes`, continued from `sum`; begin with 1. */
export function adler32(sum: number, bytes: Uint8Array): number {
  let a = sum & 0xffff;
  let b = sum >>> 16;
  for (let i = 0; i < bytes.length; ) {
    for (const stop = Math.min(bytes.length, i + STEPS); i < stop; i++) {
      a += bytes[i]!;
      b += a;
    }
    a %= BASE;
    b %= BASE;
  }
  return b * 65536 + a;
}
