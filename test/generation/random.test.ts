import assert from 'node:assert/strict';
import { seededRandom } from '../../src/generation/generate.js';

const draw = (count: number, seed: number, stream?: number): number[] => {
  const random = seededRandom(seed, stream);
  return Array.from({ length: count }, random);
};

describe('seeded random numbers', () => {
  it('are the same for the same seed, for ever', () => {
    assert.deepEqual(draw(5, 42), draw(5, 42));
    assert.deepEqual(
      draw(3, 0).map((x) => Math.floor(x * 1e6)),
      [416751, 587057, 637975],
    );
  });

  it('are xoshiro128**: the first output follows from the published recurrence over the SplitMix32 words', () => {
    const words = splitMix32(7, 4);
    words[3] = (words[3]! | 1) >>> 0;
    const outputs = xoshiro(words, 2);
    assert.equal(draw(1, 7)[0], ((outputs[0]! >>> 5) * 2 ** 26 + (outputs[1]! >>> 6)) / 2 ** 53);
  });

  it('differ by seed and stream, fill [0, 1) evenly and do not correlate with their neighbors', () => {
    const seeds = [0, 1, 2, 3, 2 ** 31, 2 ** 32, 2 ** 40, Number.MAX_SAFE_INTEGER].flatMap((seed) =>
      [0, 1, 2].map((s) => draw(1, seed, s)[0]),
    );
    assert.equal(new Set(seeds).size, seeds.length);
    const n = 200_000;
    const values = draw(n, 9);
    const bins = new Array<number>(100).fill(0);
    for (const x of values) bins[Math.floor(x * 100)]!++;
    const chiSquare = bins.reduce((sum, count) => sum + (count - n / 100) ** 2 / (n / 100), 0);
    const lag = values.slice(1).reduce((sum, x, i) => sum + (x - 0.5) * (values[i]! - 0.5), 0) / n;
    console.log(`      chi-square ${chiSquare.toFixed(1)} at 99 degrees, lag-1 covariance ${lag.toExponential(1)}`);
    assert.ok(chiSquare > 60 && chiSquare < 150);
    assert.ok(Math.abs(lag) < 1e-3);
    assert.ok(values.every((x) => x >= 0 && x < 1));
  });
});

/** The two published algorithms once more, with BigInt instead of 32-bit tricks. */
const M = 0xffffffffn;

function splitMix32(start: number, count: number): number[] {
  let state = BigInt(start);
  return Array.from({ length: count }, () => {
    state = (state + 0x9e3779b9n) & M;
    let z = state;
    z = ((z ^ (z >> 16n)) * 0x21f0aaadn) & M;
    z = ((z ^ (z >> 15n)) * 0x735a2d97n) & M;
    return Number(z ^ (z >> 15n));
  });
}

function xoshiro(words: readonly number[], count: number): number[] {
  const s = words.map(BigInt);
  const rotate = (x: bigint, k: bigint): bigint => ((x << k) | (x >> (32n - k))) & M;
  return Array.from({ length: count }, () => {
    const result = (rotate((s[1]! * 5n) & M, 7n) * 9n) & M;
    const t = (s[1]! << 9n) & M;
    s[2]! ^= s[0]!;
    s[3]! ^= s[1]!;
    s[1]! ^= s[2]!;
    s[0]! ^= s[3]!;
    s[2]! ^= t;
    s[3] = rotate(s[3]!, 11n);
    return Number(result);
  });
}
