/** Running Adler-32 (RFC 1950, section 8). */
export function adler32(): { add: (bytes: Uint8Array) => void; value: () => number } {
  let a = 1;
  let b = 0;
  return {
    add(bytes) {
      for (let i = 0; i < bytes.length; ) {
        // 3,850 steps keep b below 2^31, where integer arithmetic is fast
        for (const stop = Math.min(bytes.length, i + 3850); i < stop; i++) {
          a += bytes[i]!;
          b += a;
        }
        a %= 65521;
        b %= 65521;
      }
    },
    value: () => b * 65536 + a,
  };
}
