import assert from 'node:assert/strict';
import { constants, deflateSync, inflateSync } from 'node:zlib';
import { inflateZlib } from '../../src/image/png/inflate.js';
import { seeded } from '../support/fuzz.js';

function inflate(pieces: Uint8Array[], limit: number): { bytes: Buffer; end: string } {
  const parts: Uint8Array[] = [];
  const work = inflateZlib(pieces, { limit, blocks: 1e6 }, (bytes) => parts.push(bytes.slice()));
  let step = work.next();
  while (!step.done) step = work.next();
  return { bytes: Buffer.concat(parts), end: step.value };
}

/** Bytes with repetitions near and far, so that all block kinds, lengths and distances occur. */
function sample(random: () => number, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; ) {
    const length = Math.min(size - i, 1 + Math.floor(random() * 300));
    if (i > 0 && random() < 0.6) {
      const distance = 1 + Math.floor(random() * Math.min(i, random() < 0.5 ? 40 : 32768));
      for (const stop = i + length; i < stop; i++) bytes[i] = bytes[i - distance]!;
    } else {
      const range = random() < 0.5 ? 4 : 256;
      for (const stop = i + length; i < stop; i++) bytes[i] = Math.floor(random() * range);
    }
  }
  return bytes;
}

describe('inflate', () => {
  it('undoes zlib at every level and strategy, in any pieces', () => {
    const random = seeded(1);
    const { Z_DEFAULT_STRATEGY, Z_HUFFMAN_ONLY, Z_RLE, Z_FIXED, Z_FILTERED } = constants;
    for (const size of [0, 1, 300, 70_000, 700_000]) {
      for (const strategy of [Z_DEFAULT_STRATEGY, Z_HUFFMAN_ONLY, Z_RLE, Z_FIXED, Z_FILTERED]) {
        for (const level of [0, 1, 9]) {
          const bytes = sample(random, size);
          const packed = new Uint8Array(deflateSync(bytes, { level, strategy }));
          const cut = Math.floor(random() * packed.length);
          const result = inflate([packed.subarray(0, cut), packed.subarray(cut)], size);
          assert.equal(Buffer.compare(result.bytes, bytes), 0, `${size} bytes, level ${level}, strategy ${strategy}`);
          assert.equal(result.end, 'whole');
        }
      }
    }
  });

  it('every truncation is an error; with any bit damaged it agrees with zlib', () => {
    const bytes = sample(seeded(2), 2000);
    const packed = new Uint8Array(deflateSync(bytes));
    for (let length = 0; length < packed.length; length++) {
      assert.throws(() => inflate([packed.subarray(0, length)], 1e6), { name: 'ImageError' });
    }
    let accepted = 0;
    for (let bit = 0; bit < packed.length * 8; bit++) {
      const damaged = packed.slice();
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      const [ours, zlibs] = [outcome(() => inflate([damaged], 1e6).bytes), outcome(() => inflateSync(damaged))];
      if (typeof zlibs === 'string') assert.match(ours as string, /^ImageError/, `bit ${bit}: zlib refuses it`);
      else assert.equal(Buffer.compare(ours as Buffer, zlibs), 0, `bit ${bit}`);
      if (typeof zlibs !== 'string') accepted++;
    }
    console.log(`      ${packed.length * 8} damaged streams, ${accepted} of them legal by chance`);
  });
});

function outcome(body: () => Buffer): Buffer | string {
  try {
    return body();
  } catch (error) {
    return String(error);
  }
}
