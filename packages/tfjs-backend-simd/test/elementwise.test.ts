import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { holds, type Spec, sameAsCpu, shapes, specs, useVariant } from './support.js';

type Unary = (x: tf.Tensor) => tf.Tensor;

/** Largest differences to tfjs's cpu backend, which computes in double precision (its erf has an error of 1.5e-7 itself). */
const FLOAT_UNARY: Readonly<Record<string, readonly [Unary, number, { min?: number; max?: number }?]>> = {
  abs: [tf.abs, 0],
  neg: [tf.neg, 0],
  sqrt: [tf.sqrt, 1e-7, { min: 0 }],
  rsqrt: [tf.rsqrt, 2e-7, { min: 0.01 }],
  square: [tf.square, 1e-7],
  exp: [tf.exp, 3e-7, { min: -90, max: 20 }],
  sigmoid: [tf.sigmoid, 2e-7, { min: -100, max: 100 }],
  tanh: [tf.tanh, 3e-7, { min: -12, max: 12 }],
  erf: [tf.erf, 4e-7],
  relu: [tf.relu, 0],
  relu6: [tf.relu6, 0, { min: -9, max: 9 }],
  elu: [tf.elu, 1e-7],
  selu: [tf.selu, 1e-7],
  softplus: [tf.softplus, 1e-7, { min: -30, max: 30 }],
  leakyRelu: [(x) => tf.leakyRelu(x, 0.3), 1e-7],
  reciprocal: [tf.reciprocal, 1e-7],
  floor: [tf.floor, 0],
  ceil: [tf.ceil, 0],
  round: [tf.round, 0],
  sign: [tf.sign, 0],
  step: [(x) => tf.step(x, 0.25), 0],
  clipByValue: [(x) => tf.clipByValue(x, -1.5, 2), 0],
  log: [tf.log, 1e-7, { min: 0 }],
  log1p: [tf.log1p, 1e-7],
  expm1: [tf.expm1, 1e-7],
  sin: [tf.sin, 1e-7],
  cos: [tf.cos, 1e-7],
  tan: [tf.tan, 1e-7, { min: -1.5, max: 1.5 }],
  asin: [tf.asin, 1e-7, { min: -1, max: 1 }],
  acos: [tf.acos, 1e-7, { min: -1, max: 1 }],
  atan: [tf.atan, 1e-7],
  sinh: [tf.sinh, 1e-7],
  cosh: [tf.cosh, 1e-7],
  asinh: [tf.asinh, 1e-7],
  acosh: [tf.acosh, 1e-7, { min: 1 }],
  atanh: [tf.atanh, 1e-7, { min: -0.99, max: 0.99 }],
  isNaN: [tf.isNaN, 0],
  isInf: [tf.isInf, 0],
  isFinite: [tf.isFinite, 0],
  zerosLike: [tf.zerosLike, 0],
  onesLike: [tf.onesLike, 0],
  toInt: [(x) => tf.cast(x, 'int32'), 0],
  toBool: [(x) => tf.cast(x, 'bool'), 0],
};

const INT_UNARY: readonly (keyof typeof FLOAT_UNARY)[] = [
  ...['abs', 'neg', 'square', 'relu', 'sign', 'clipByValue', 'zerosLike', 'onesLike', 'exp', 'isNaN'],
];

type Binary = (a: tf.Tensor, b: tf.Tensor) => tf.Tensor;

const BINARY: Readonly<Record<string, readonly [Binary, number, Spec['dtype'][]]>> = {
  add: [tf.add, 0, ['float32', 'int32']],
  sub: [tf.sub, 0, ['float32', 'int32']],
  mul: [tf.mul, 0, ['float32', 'int32']],
  div: [tf.div, 0, ['float32', 'int32']],
  floorDiv: [tf.floorDiv, 0, ['float32', 'int32']],
  maximum: [tf.maximum, 0, ['float32', 'int32', 'bool']],
  minimum: [tf.minimum, 0, ['float32', 'int32', 'bool']],
  squaredDifference: [tf.squaredDifference, 0, ['float32', 'int32']],
  mod: [tf.mod, 0, ['float32', 'int32']],
  pow: [(a, b) => tf.pow(tf.abs(a), b), 1e-7, ['float32']],
  atan2: [tf.atan2, 1e-7, ['float32']],
  prelu: [tf.prelu, 0, ['float32']],
  equal: [tf.equal, 0, ['float32', 'int32', 'bool']],
  notEqual: [tf.notEqual, 0, ['float32', 'int32', 'bool']],
  less: [tf.less, 0, ['float32', 'int32', 'bool']],
  lessEqual: [tf.lessEqual, 0, ['float32', 'int32', 'bool']],
  greater: [tf.greater, 0, ['float32', 'int32', 'bool']],
  greaterEqual: [tf.greaterEqual, 0, ['float32', 'int32', 'bool']],
  logicalAnd: [tf.logicalAnd, 0, ['bool']],
  logicalOr: [tf.logicalOr, 0, ['bool']],
  logicalXor: [tf.logicalXor, 0, ['bool']],
};

/** Two shapes that broadcast: any dimension of either may be 1 or missing in front. */
const broadcasting = shapes(5).chain((shape) => {
  const side = fc.tuple(
    fc.integer({ min: 0, max: shape.length }),
    fc.array(fc.boolean(), { minLength: 5, maxLength: 5 }),
  );
  return fc
    .tuple(side, side)
    .map((sides) => sides.map(([from, ones]) => shape.map((n, d) => (ones[d] === true ? 1 : n)).slice(from)));
});

for (const variant of ['simd', 'simd-plain-unshared']) {
  describe(`${variant}: elementwise kernels against tfjs's cpu backend`, () => {
    before(() => useVariant(variant));

    for (const [name, [op, tolerance, range]] of Object.entries(FLOAT_UNARY)) {
      it(name, () =>
        holds(
          shapes(5, 0, 9).chain((shape) => specs(shape, 'float32', range)),
          (x) => sameAsCpu(variant, [x], op, tolerance),
          15,
        ),
      );
    }

    it('unary kernels on int32 and bool', () =>
      holds(
        fc
          .tuple(fc.constantFrom(...INT_UNARY), fc.constantFrom<Spec['dtype']>('int32', 'bool'), shapes(4))
          .chain(([name, dtype, shape]) => specs(shape, dtype).map((x) => ({ name, x }))),
        ({ name, x }) => sameAsCpu(variant, [x], FLOAT_UNARY[name]![0], 3e-7),
        80,
      ));

    for (const [name, [op, tolerance, types]] of Object.entries(BINARY)) {
      it(name, () =>
        holds(
          fc
            .tuple(broadcasting, fc.constantFrom(...types))
            .chain(([[a, b], dtype]) => fc.tuple(specs(a!, dtype), specs(b!, dtype))),
          (inputs) => sameAsCpu(variant, inputs, op as never, tolerance),
          25,
        ),
      );
    }

    it('NaN and infinities go where they go on cpu', () => {
      const special = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0, -0, 1e38, -1e38, 89, -104];
      const x: Spec = { shape: [9], dtype: 'float32', values: special };
      const y: Spec = { shape: [9, 1], dtype: 'float32', values: special };
      const unary = [tf.exp, tf.sigmoid, tf.tanh, tf.erf, tf.relu, tf.sqrt, tf.abs, tf.floor, tf.isNaN, tf.reciprocal];
      const clip = (t: tf.Tensor) => tf.clipByValue(t, -2, 2);
      return sameAsCpu(
        variant,
        [x, y],
        (a, b) => [
          ...[...unary, clip].map((op) => op(a!)),
          ...[tf.add, tf.mul, tf.div, tf.maximum, tf.minimum, tf.less, tf.equal].map((op) => op(a!, b!)),
        ],
        1e-6,
      );
    });

    it('long tensors, in several chunks', () =>
      holds(
        specs([3, 34_567]).chain((a) => fc.tuple(fc.constant(a), specs([34_567]), specs([3, 1]))),
        async ([a, b, c]) => {
          await sameAsCpu(variant, [a, b, c], (x, y, z) => [tf.add(x!, y!), tf.mul(z!, x!), tf.relu(x!)]);
          await sameAsCpu(variant, [a], (x) => tf.sub(x!, tf.scalar(0.5)));
        },
        2,
      ));
  });
}
