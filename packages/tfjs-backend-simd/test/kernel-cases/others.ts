import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { type Spec, type StringSpec, specs } from '../support.js';
import { FLOAT, filled, indices, int32, type KernelCase, type KernelCases, kernelCase, NUMBERS } from './case.js';
import { decoderStepCase } from './decoder-step.js';

const few = fc.integer({ min: 1, max: 6 });

/** a [..., m, k] and b [..., k, n], either transposed. */
const products = fc
  .tuple(few, few, few, filled(NUMBERS, { maxRank: 3, most: 3 }), fc.boolean(), fc.boolean())
  .chain(([m, k, n, { shape: batch, dtype }, transposeA, transposeB]) =>
    fc.record({
      a: specs([...batch, ...(transposeA ? [k, m] : [m, k])], dtype),
      b: specs([...batch, ...(transposeB ? [n, k] : [k, n])], dtype),
      bias: fc.constant<Spec>({ shape: [n], dtype, values: new Array(n).fill(2) }),
      attributes: fc.constant({ transposeA, transposeB }),
    }),
  );

/** Equations of every kind: a sum, a transposition, products with batches, outer, with nothing in common. */
const EQUATIONS = [
  'ab->ba',
  'abc->b',
  'ab->',
  'ab,bc->ac',
  'abc,abd->adc',
  'a,b->ba',
  'abcd,cde->abe',
  'ab,ab->ab',
  'abc,cd->ab',
];
const einsum = kernelCase(
  fc.constantFrom(...EQUATIONS).chain((equation) => {
    const sizes: Readonly<Record<string, number>> = { a: 2, b: 3, c: 4, d: 2, e: 3 };
    const terms = equation.split('->')[0]!.split(',');
    const drawn = terms.map((letters) => specs([...letters].map((letter) => sizes[letter]!)));
    return fc.tuple(...drawn).map((list) => ({
      inputs: Object.fromEntries(list.entries()),
      attributes: { equation },
    }));
  }),
  1e-5,
);

/** Overlapping boxes, in the order of their corners, and their scores. */
const detection = (attributes: Readonly<Record<string, unknown>>): KernelCase =>
  kernelCase(
    fc.integer({ min: 1, max: 12 }).chain((n) =>
      fc
        .tuple(specs([n, 4], 'float32', { min: 0, max: 1 }), specs([n], 'float32', { min: 0, max: 1 }))
        .map(([boxes, scores]) => ({
          inputs: { boxes: { ...boxes, values: boxes.values.map((v, i) => v + (i % 4 > 1 ? 1 : 0)) }, scores },
          attributes: { maxOutputSize: 5, iouThreshold: 0.4, scoreThreshold: 0.1, ...attributes },
        })),
    ),
    1e-6,
  );

/** The best words of a row, by sorting all of them. */
const topTokensCase: KernelCase = {
  draw: fc
    .tuple(few, fc.integer({ min: 1, max: 70 }), fc.constantFrom('logit', 'logProb'), fc.nat(100), fc.nat(100))
    .chain(([rows, words, by, most, word]) =>
      specs([rows, 1, words]).map((logits) => ({
        inputs: { logits: { ...logits, values: logits.values.map((x, i) => (i % 3 === 0 ? Math.round(x) : x)) } },
        attributes: { count: 1 + (most % words), asked: word % 2 === 0 ? [] : [word % words, 0], by },
      })),
    ),
  tolerance: 1e-6,
  reference: ({ logits }, attributes) => {
    const { count, asked, by } = attributes as { count: number; asked: number[]; by: string };
    const [rows, , words] = logits!.shape as [number, number, number];
    const values = logits!.dataSync();
    const [ids, found, parts]: number[][] = [[], [], []];
    for (let r = 0; r < rows; r++) {
      const row = [...values.slice(r * words, (r + 1) * words)];
      const most = Math.max(...row);
      const normalizer = most + Math.log(row.reduce((sum, x) => sum + Math.exp(x - most), 0));
      const scores = by === 'logit' ? row : row.map((x) => Math.fround(x - normalizer));
      const best = scores.map((_, id) => id).sort((a, b) => scores[b]! - scores[a]! || a - b);
      ids!.push(...best.slice(0, count));
      found!.push(...[...best.slice(0, count), ...asked].map((id) => row[id]!));
      parts!.push(Math.fround(normalizer), normalizer - Math.fround(normalizer), 0);
    }
    return [
      tf.tensor2d(ids!, [rows, count], 'int32'),
      tf.tensor2d(found!, [rows, count + asked.length]),
      tf.tensor2d(parts!, [rows, 3]),
    ];
  },
};

/** Entries of a sparse [6, 4] matrix. */
const entries = fc.integer({ min: 1, max: 8 }).chain((n) =>
  fc.tuple(specs([n], 'float32'), indices([n], 6), indices([n], 4)).map(([values, rows, columns]) => ({
    values,
    places: int32(
      rows.values.flatMap((row, i) => [row, columns.values[i]!]),
      [n, 2],
    ),
  })),
);

const segments = kernelCase(
  filled(FLOAT, { minRank: 1, maxRank: 4 }).chain((data) =>
    fc.tuple(indices([5], data.shape[0]!), indices([5], 4)).map(([places, ids]) => ({
      inputs: { data, indices: places, segmentIds: int32([...ids.values].sort((a, b) => a - b)) },
    })),
  ),
  1e-6,
);

const words = fc.array(fc.constantFrom('a', 'bc', '', 'dé,f', 'g h', ',,x'), { minLength: 1, maxLength: 6 });
const strings = (values: string[], shape = [values.length]): StringSpec => ({ shape, dtype: 'string', values });

const stringCases: KernelCases = {
  StringSplit: kernelCase(
    fc.tuple(words, fc.constantFrom('', ',', ', '), fc.boolean()).map(([list, delimiter, skipEmpty]) => ({
      inputs: { input: strings(list), delimiter: strings([delimiter], []) },
      attributes: { skipEmpty },
    })),
  ),
  StringNGrams: kernelCase(
    fc.tuple(words, fc.nat(6), fc.integer({ min: -1, max: 2 }), fc.boolean()).map(([list, cut, padWidth, keep]) => {
      const dataSplits = int32([0, Math.min(cut, list.length), list.length]);
      const pads = { separator: '|', leftPad: 'L', rightPad: 'R', padWidth, preserveShortSequences: keep };
      return { inputs: { data: strings(list), dataSplits }, attributes: { nGramWidths: [1, 3, 2], ...pads } };
    }),
  ),
  StringToHashBucketFast: kernelCase(
    words.map((list) => ({ inputs: { input: strings(list) }, attributes: { numBuckets: 10 } })),
  ),
  StaticRegexReplace: kernelCase(
    fc.tuple(words, fc.boolean()).map(([list, replaceGlobal]) => ({
      inputs: { x: strings(list) },
      attributes: { pattern: '[a-c,]', rewrite: '_', replaceGlobal },
    })),
  ),
};

const sparseCases: KernelCases = {
  SparseFillEmptyRows: kernelCase(
    entries.map(({ values, places }) => ({
      inputs: {
        ...{ indices: places, values, denseShape: int32([6, 4]) },
        defaultValue: { shape: [], dtype: 'float32', values: [7] },
      },
    })),
  ),
  SparseReshape: kernelCase(
    fc.tuple(entries, fc.constantFrom<number[]>([24], [-1, 2], [2, 3, -1], [4, 6])).map(([{ places }, shape]) => ({
      inputs: { inputIndices: places, inputShape: int32([6, 4]), newShape: int32(shape) },
    })),
  ),
  SparseSegmentSum: segments,
  SparseSegmentMean: segments,
};

/** x [m, k], weight [k, n], bias [n]. */
const linear = fc
  .tuple(few, few, few)
  .chain(([m, k, n]) => fc.record({ x: specs([m, k]), weight: specs([k, n]), bias: specs([n]) }));

/** The fused kernels of the model, beside what tfjs's operations make of the same; fused.test.ts has more of them. */
const ownCases: KernelCases = {
  GitDecoderStep: decoderStepCase,
  GitLinear: {
    draw: linear.map((inputs) => ({ inputs, attributes: { activation: 'quick_gelu' } })),
    tolerance: 5e-6,
    reference: ({ x, weight, bias }) => {
      const y = tf.add(tf.matMul(x!, weight!), bias!);
      return tf.mul(y, tf.sigmoid(tf.mul(y, 1.702)));
    },
  },
  GitPackWeight: {
    draw: linear.map(({ weight: w }) => ({ inputs: { w } })),
    tolerance: 0,
    reference: ({ w }) => w!.clone(),
  },
  GitLayerNorm: {
    draw: fc
      .tuple(few, few)
      .chain(([m, n]) => fc.record({ x: specs([m, n]), gamma: specs([n]), beta: specs([n]) }))
      .map((inputs) => ({ inputs, attributes: { epsilon: 1e-2 } })),
    tolerance: 1e-5,
    reference: ({ x, gamma, beta }) => {
      const { mean, variance } = tf.moments(x!, -1, true);
      return tf.add(tf.mul(tf.div(tf.sub(x!, mean), tf.sqrt(tf.add(variance, 1e-2))), gamma!), beta!);
    },
  },
  GitAttention: {
    draw: fc
      .tuple(...[few, few, few, few, few].map((n) => n as fc.Arbitrary<number>))
      .chain(([R, H, T, S, K]) => {
        const keys = specs([R!, H!, S!, K!]);
        return fc.record({ q: specs([R!, H!, T!, K!]), key: keys, value: keys });
      })
      .map((inputs) => ({ inputs })),
    tolerance: 1e-5,
    reference: ({ q, key, value }) => {
      const [R, H, T, K] = q!.shape as [number, number, number, number];
      const scores = tf.softmax(tf.mul(tf.matMul(q!, key!, false, true), 1 / Math.sqrt(K)));
      return tf.reshape(tf.transpose(tf.matMul(scores, value!), [0, 2, 1, 3]), [R, T, H * K]);
    },
  },
};

export const otherCases: KernelCases = {
  GitTopTokens: topTokensCase,
  ...stringCases,
  ...sparseCases,
  ...ownCases,
  BatchMatMul: kernelCase(
    products.map(({ a, b, attributes }) => ({ inputs: { a, b }, attributes })),
    1e-5,
  ),
  _FusedMatMul: kernelCase(
    products.map(({ a, b, bias, attributes }) => ({
      inputs: { a, b, bias },
      attributes: { ...attributes, activation: 'relu' },
    })),
    1e-5,
  ),
  Einsum: einsum,
  NonMaxSuppressionV3: detection({}),
  NonMaxSuppressionV4: detection({ padToMaxOutputSize: true }),
  NonMaxSuppressionV5: detection({ softNmsSigma: 0.3 }),
};
