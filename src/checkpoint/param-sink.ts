import type { Tensor } from '@tensorflow/tfjs-core';
import type { Layout } from '../layers/param-spec.js';

/** How the weights of linear layers can be kept in memory. */
export const WEIGHT_FORMATS = ['f32', 'bf16', 'f16', 'int8'] as const;
export type WeightFormat = (typeof WEIGHT_FORMATS)[number];

/** Numbers of a tensor as they are stored. */
export interface StoredNumbers {
  readonly dtype: string;
  /** Float32Array for F32, the bits as Uint16Array for BF16 and F16, Int8Array for I8. */
  readonly data: Float32Array | Uint16Array | Int8Array;
  /** Of I8: what one of them is worth in each output channel of the whole tensor. */
  readonly scales?: Float32Array | undefined;
}

/** Takes the numbers of one parameter as they lie in the file, piece by piece and in order. */
export interface ParamSink {
  /** The types that it takes; all others are made F32 first. */
  readonly dtypes: readonly string[];
  /** Numbers from element `first` of the stored tensor on, of a linear weight multiples of 8 rows; says why it cannot take them. */
  add(numbers: StoredNumbers, first: number): 'non-finite' | 'too-large' | 'int8-range' | undefined;
  /** The parameter, whole once all is added. */
  readonly tensor: Tensor;
}

/**
 * What a tfjs backend may offer beyond tfjs: to make parameters from the pieces of a file itself. Ours does (src/backend/param-sink.ts).
 * Undefined for layouts that it leaves to others.
 */
export type StartParam = (shape: readonly number[], layout: Layout, format: WeightFormat) => ParamSink | undefined;
