import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { itInFull } from '../../../test/support/full.js';
import { holds, sameAsCpu, specs, useVariant } from './support.js';

describe('simd: convolution', () => {
  before(() => useVariant('simd'));

  it('conv2d and fused conv2d against tfjs’s cpu backend', () =>
    holds(
      fc
        .tuple(
          ...[fc.integer({ min: 1, max: 2 }), fc.integer({ min: 3, max: 9 }), fc.integer({ min: 3, max: 9 })],
          ...[fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 10 })],
          ...[fc.integer({ min: 1, max: 3 }), fc.constantFrom('same', 'valid', 1), fc.integer({ min: 1, max: 2 })],
        )
        .chain((r) => {
          const [batch, height, width, filter, channels, out] = r as number[];
          return fc.tuple(
            fc.constant(r),
            specs([batch!, height!, width!, channels!]),
            specs([filter!, filter!, channels!, out!]),
            specs([out!]),
          );
        }),
      async ([r, x, filter, bias]) => {
        const [stride, pad, dilation] = [r[6] as number, r[7] as 'same', r[8] as number];
        const steps = dilation > 1 ? 1 : stride;
        await sameAsCpu(
          ...(['simd', [x, filter]] as const),
          (a, f) => tf.conv2d(a as tf.Tensor4D, f as tf.Tensor4D, steps, pad, 'NHWC', dilation),
          1e-5,
        );
        await sameAsCpu(
          ...(['simd', [x, filter, bias]] as const),
          (a, f, b) =>
            tf.fused.conv2d({
              ...{ x: a as tf.Tensor4D, filter: f as tf.Tensor4D, strides: stride, pad, bias: b! },
              activation: 'relu6',
            }),
          1e-5,
        );
      },
    ));

  // the cpu backend takes seconds
  itInFull('images whose patches do not fit into memory at once, and their gradients', () =>
    holds(
      fc.tuple(specs([2, 201, 150, 8]), specs([3, 3, 8, 2]), specs([2, 201, 150, 2])),
      ([x, filter, dy]) =>
        sameAsCpu(
          ...(['simd', [x, filter, dy]] as const),
          (a, f, d) => {
            const options = { strides: 1, pad: 'same', dataFormat: 'NHWC', dilations: 1 };
            const run = (kernel: string, inputs: object, shapes = {}) =>
              tf.engine().runKernel(kernel, inputs as never, { ...options, ...shapes }) as tf.Tensor;
            return [
              run('Conv2D', { x: a, filter: f }),
              run('Conv2DBackpropInput', { dy: d, filter: f }, { inputShape: x.shape }),
              tf.div(run('Conv2DBackpropFilter', { x: a, dy: d }, { filterShape: filter.shape }), 1000),
            ];
          },
          2e-5,
        ),
      1,
    ),
  );

  it('channels first give what channels last give', () =>
    holds(
      fc.tuple(specs([2, 3, 6, 5]), specs([2, 3, 3, 4]), specs([4]), fc.constantFrom('same', 'valid')),
      ([x, filter, bias, pad]) =>
        sameAsCpu(
          ...(['simd', [x, filter, bias]] as const),
          (a, f, b) =>
            tf.fused.conv2d({
              ...{ x: a as tf.Tensor4D, filter: f as tf.Tensor4D, strides: [2, 1], pad: pad as 'same', bias: b! },
              ...{ dataFormat: 'NCHW', activation: 'prelu', preluActivationWeights: b! },
            }),
          1e-5,
        ),
      10,
    ));

  it('layouts that a kernel does not know throw by name', () => {
    const [x, filter] = [tf.zeros([1, 3, 4, 4]), tf.zeros([2, 2, 3, 1])];
    const attributes = { strides: 1, pad: 'valid', dataFormat: 'NCHW', dilations: 1 };
    const run = () => tf.engine().runKernel('DepthwiseConv2dNative', { x, filter }, attributes);
    assert.throws(run, /simd: DepthwiseConv2dNative: unsupported-layout: only NHWC, not NCHW/);
    tf.dispose([x, filter]);
  });
});
