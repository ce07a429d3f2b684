import type { Tensor } from '@tensorflow/tfjs-core';
import type { Layout } from '../layers/param-spec.js';

/** How the weights of linear layers can be kept in memory. */
export const WEIGHT_FORMATS = ['f32', 'bf16', 'f16', 'int8'] as const;
export type WeightFormat = (typeof WEIGHT_FORMATS)[number];

/** Takes the numbers of one parameter as they lie in the file, piece by piece and in order. */
export interface ParamSink {
  /** Numbers from element `first` of the stored tensor on, of a linear weight multiples of 8 rows; says why it cannot take them. */
  add(values: Float32Array, first: number): 'non-finite' | 'too-large' | undefined;
  /** The parameter, whole once all is added. */
  readonly tensor: Tensor;
}

/**
 * What a tfjs backend may offer beyond tfjs: to make parameters from the pieces of a file itself. Ours does (src/backend/param-sink.ts).
 * Undefined for layouts that it leaves to others.
 */
export type StartParam = (shape: readonly number[], layout: Layout, format: WeightFormat) => ParamSink | undefined;
