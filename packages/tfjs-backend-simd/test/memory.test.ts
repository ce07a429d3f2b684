import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { HEAP_START } from '../src/abi.js';
import { Heap } from '../src/heap.js';
import type { SimdBackend } from '../src/index.js';
import { useVariant } from './support.js';

describe('simd: memory', () => {
  it('blocks never overlap, are aligned, and are reused', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(200_000), fc.boolean()), { maxLength: 120 }), (steps) => {
        const heap = new Heap(new WebAssembly.Memory({ initial: 16, maximum: 1024 }));
        const live: { address: number; bytes: number }[] = [];
        for (const [bytes, release] of steps) {
          const address = heap.alloc(bytes);
          assert.equal(address % 64, 0);
          for (const other of live) {
            const apart = address + bytes <= other.address || other.address + other.bytes <= address;
            assert.ok(apart, `${address} + ${bytes} meets ${other.address} + ${other.bytes}`);
          }
          live.push({ address, bytes });
          if (release) {
            const [freed] = live.splice((bytes * 7) % live.length, 1);
            heap.free(freed!.address, freed!.bytes);
          }
        }
        for (const { address, bytes } of live) heap.free(address, bytes);
        assert.equal(heap.stats().used, 0);
      }),
      { seed: 20_26, numRuns: 40 },
    );
  });

  it('after long and random use nothing overlaps, sizes are honest, and free memory is used again', () => {
    let state = 7;
    const random = (below: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) | 0;
      return (state >>> 8) % below;
    };
    const heap = new Heap(new WebAssembly.Memory({ initial: 16, maximum: 4096 }));
    const live: { address: number; bytes: number }[] = [];
    let largest = 0;
    for (let step = 0; step < 60_000; step++) {
      const many = step % 20_000 < 10_000 ? 300 : 50; // grows and shrinks in waves
      if (live.length < random(many)) {
        const bytes = random(10) === 0 ? random(900_000) : random(4000);
        live.push({ address: heap.alloc(bytes), bytes });
      } else if (live.length > 0) {
        const [freed] = live.splice(random(live.length), 1);
        heap.free(freed!.address, freed!.bytes);
      }
      if (step % 500 !== 0) continue;
      const sorted = [...live].sort((a, b) => a.address - b.address);
      sorted.forEach(({ address, bytes }, i) => {
        const end = sorted[i + 1]?.address ?? heap.stats().size;
        assert.ok(address >= HEAP_START && address + bytes <= end, `${address} + ${bytes} meets ${end}`);
      });
      const sum = live.reduce((total, { bytes }) => total + bytes, 0);
      const { used, size } = heap.stats();
      assert.ok(
        used >= sum && used <= sum * 1.25 + live.length * 4096 && used <= size,
        `${used} for ${sum} of ${size}`,
      );
      largest = Math.max(largest, used);
    }
    for (const { address, bytes } of live) heap.free(address, bytes);
    const { used, size } = heap.stats();
    assert.equal(used, 0);
    assert.ok(size < 4 * largest, `${size} bytes for ${largest} at most`);
    let free = 0; // for large blocks: slabs of small ones keep their places
    while (heap.alloc(300_000) > 0 && heap.stats().size === size) free += 300_000;
    assert.ok(free > size / 2, `only ${free} of ${size} bytes`);
    console.log(`    heap: at most ${(largest / 1e6).toFixed(1)} MB in use, grown to ${(size / 1e6).toFixed(1)} MB`);
  });

  it('a memory that is full says so, and is as usable as before', () => {
    const heap = new Heap(new WebAssembly.Memory({ initial: 16, maximum: 64 }));
    const first = heap.alloc(1 << 20);
    const pattern = /simd: memory-limit: .* cannot grow: 4 MiB wanted, 1 MiB in use of 2 MiB/;
    assert.throws(() => heap.alloc(4 << 20), pattern);
    heap.free(first, 1 << 20);
    assert.equal(heap.alloc(1 << 20), first);
  });

  it('free neighbors are joined', () => {
    const heap = new Heap(new WebAssembly.Memory({ initial: 64, maximum: 64 }));
    const parts = Array.from({ length: 8 }, () => heap.alloc(400_000));
    for (const i of [1, 3, 5, 7, 0, 2, 4, 6]) heap.free(parts[i]!, 400_000);
    assert.equal(heap.alloc(3_200_000), Math.min(...parts));
  });

  it('a block that is held is not used while another thread may still write to it', () => {
    const heap = new Heap(new WebAssembly.Memory({ initial: 17, maximum: 17 }));
    let held = true;
    for (const bytes of [100, 100_000]) {
      const block = heap.alloc(bytes);
      held = true;
      heap.hold(() => held);
      heap.free(block, bytes);
      assert.equal(heap.stats().used, 0);
      const other = heap.alloc(bytes);
      assert.notEqual(other, block);
      held = false;
      heap.free(other, bytes);
      const again = [heap.alloc(bytes), heap.alloc(bytes)];
      assert.ok(again.includes(block));
      for (const at of again) heap.free(at, bytes);
    }
    // A memory that is full waits for it.
    const all = heap.alloc(600_000);
    let looks = 0;
    heap.hold(() => ++looks < 1000);
    heap.free(all, 600_000);
    assert.equal(heap.alloc(600_000), all);
    assert.equal(looks, 1000, 'it looked until the block was free');
  });

  it('memory grows beneath live tensors, shared or not', async () => {
    for (const variant of ['simd', 'simd-plain-unshared']) {
      await useVariant(variant);
      const [small, packed] = [tf.tensor1d([1, 2, 3]), tf.tensor2d([1, 2, 3, 4], [2, 2])];
      tf.dispose(tf.engine().runKernel('GitPackWeight', { w: packed }) as tf.Tensor);
      const { size } = (tf.backend() as SimdBackend).heap.stats();
      const large = tf.fill([size / 2], 1); // twice as many bytes as there are
      assert.ok((tf.backend() as SimdBackend).heap.stats().size > size);
      assert.deepEqual([...(await small.data())], [1, 2, 3]);
      assert.deepEqual([...(await packed.data())], [1, 2, 3, 4]);
      assert.equal((await tf.sum(large).data())[0], size / 2);
      tf.dispose([small, packed, large]);
    }
  });

  it('10,000 small forwards leave memory, tensors and data as they were', async () => {
    await useVariant('simd');
    const [x, w, g] = [tf.ones([4, 24]), tf.ones([24, 24]), tf.ones([24])];
    const heads = [tf.ones([4, 3, 2, 8]), tf.ones([2, 3, 5, 8])];
    const forward = () =>
      tf.tidy(() => {
        const run = (name: string, inputs: tf.NamedTensorMap, attrs = {}) =>
          tf.engine().runKernel(name, inputs, attrs) as tf.Tensor;
        const h = run('GitLinear', { x, weight: w, bias: g }, { activation: 'gelu' });
        const n = run('GitLayerNorm', { x: h, residual: x, gamma: g, beta: g }, { epsilon: 1e-5 });
        const [q, image] = heads as [tf.Tensor, tf.Tensor];
        const a = run('GitAttention', { q, key: q, value: q, imageKey: image, imageValue: image });
        return tf.add(
          tf.sum(tf.softmax(tf.concat([n, tf.transpose(n)].map((t) => tf.reshape(t, [1, -1]))))),
          tf.max(a),
        );
      });
    const look = () => ({ ...tf.memory(), ids: tf.engine().backend.numDataIds(), reasons: [] });
    for (let i = 0; i < 50; i++) forward().dispose();
    const before = look();
    for (let i = 0; i < 10_000; i++) {
      const y = forward();
      if (i % 1000 === 0) assert.ok(Number.isFinite((await y.data())[0]));
      y.dispose();
    }
    assert.deepEqual(look(), before);
    tf.dispose([x, w, g, heads]);
  });

  it('a kernel that throws gives back what it took', async () => {
    await useVariant('simd');
    const before = (tf.backend() as SimdBackend).heap.stats().used;
    const x = tf.ones([50, 50]);
    const attrs = { transposeA: false, transposeB: false, activation: 'swish' };
    const call = () => tf.engine().runKernel('_FusedMatMul', { a: x, b: x }, attrs);
    assert.throws(call, /unsupported-activation: activation swish/);
    x.dispose();
    assert.equal((tf.backend() as SimdBackend).heap.stats().used, before);
  });
});
