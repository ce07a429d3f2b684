import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { uploadWeight, type WeightFormat } from '../src/index.js';
import { orderOf, type PanelsAtOnce, ReadingOrder } from '../src/product.js';
import { holds, make, specs, useVariant, VARIANTS } from './support.js';

const FORMATS: readonly WeightFormat[] = ['f32', 'bf16', 'f16', 'int8', 'int8-fast'];

describe('the order in which few rows read their weights', () => {
  it('is tried in turns, then the faster one stays, whatever comes later', () => {
    for (const faster of [1, 4] as const) {
      const order = new ReadingOrder();
      const tried: Record<PanelsAtOnce, number> = { 1: 0, 4: 0 };
      while (!order.decided) {
        tried[order.panels]++;
        assert.ok(tried[1] + tried[4] < 1000);
        // A third of the products are held up by something else.
        order.took((tried[1] + tried[4]) % 3 === 0 ? 50 : order.panels === faster ? 2 : 3);
      }
      assert.ok(tried[1] === tried[4] && tried[1] > 10, `${tried[1]} and ${tried[4]}`);
      assert.equal(order.panels, faster);
      for (let i = 0; i < 200; i++) order.took(1000);
      assert.equal(order.panels, faster);
    }
  });

  it('is found on a machine that holds up four products of ten', () => {
    let state = 1;
    const chance = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state / 2 ** 32;
    };
    for (let i = 0; i < 200; i++) {
      const order = new ReadingOrder();
      const faster = i % 2 === 0 ? 1 : 4;
      for (let tried = 0; !order.decided; tried++) {
        assert.ok(tried < 1000);
        order.took((order.panels === faster ? 1 : 1.25) + (chance() < 0.4 ? 20 * chance() : 0));
      }
      assert.equal(order.panels, faster);
    }
  });

  it('is four panels side by side where a clock sees no difference', () => {
    const order = new ReadingOrder();
    while (!order.decided) order.took(0);
    assert.equal(order.panels, 4);
  });

  for (const { name } of VARIANTS) {
    it(`changes no bit on ${name}`, async () => {
      await useVariant(name);
      for (const format of FORMATS) {
        await holds(
          fc
            .tuple(
              fc.integer({ min: 1, max: 8 }),
              fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 1200 })),
              fc.integer({ min: 1, max: 90 }),
            )
            .chain(([m, k, n]) => fc.tuple(specs([m, k]), specs([k, n]), specs([n]))),
          async ([x, w, bias]) => {
            const data = Float32Array.from(w.values);
            const inputs = {
              ...{ x: make(x), bias: make(bias) },
              weight: uploadWeight({ format, data, shape: w.shape as [number, number] }),
            };
            const found: string[] = [];
            for (const panels of [1, 4] as const) {
              orderOf(format, x.shape[0]!).use(panels);
              const y = tf.engine().runKernel('GitLinear', inputs, { activation: 'gelu' }) as tf.Tensor;
              found.push(Buffer.from((await y.data()).slice().buffer).toString('hex'));
              y.dispose();
            }
            tf.dispose(Object.values(inputs));
            assert.equal(found[1], found[0], `${format} [${x.shape}] · [${w.shape}]`);
          },
          25,
        );
      }
    });
  }
});
