import type { TensorInfo } from '@tensorflow/tfjs-core';
import { BackendError } from '../errors.js';
import type { KernelContext } from '../kernel-context.js';

/** Inputs by name; a list of tensors has the names 0, 1, … */
export type Inputs = Readonly<Record<string, TensorInfo>>;
export type Attributes = Readonly<Record<string, unknown>>;

/** A kernel: reads its inputs, returns new tensors. Numbers and shapes were checked by tfjs's op. */
export type Kernel = (backend: KernelContext, inputs: Inputs, attributes: Attributes) => TensorInfo | TensorInfo[];

/** Kernels by the names that tfjs-core calls them. */
export type KernelTable = Readonly<Record<string, Kernel>>;

/** An input that the kernel cannot do without. */
export const input = (inputs: Inputs, name: string): TensorInfo => inputs[name]!;

/** The inputs of kernels that take a list. */
export const listOf = (inputs: Inputs): TensorInfo[] => Object.values(inputs);

/** Number of elements. */
export const sizeOf = (shape: readonly number[]): number => shape.reduce((size, n) => size * n, 1);

/** Strides, in elements, of a contiguous tensor: one for each dimension. */
export function stridesOf(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let d = shape.length - 1; d >= 0; d--) {
    strides[d] = stride;
    stride *= shape[d]!;
  }
  return strides;
}

/** The error for an input that breaks a rule of its kernel. */
export const fault = (kernel: string, code: string, detail: string): BackendError =>
  new BackendError({ path: `simd: ${kernel}`, code, detail, unsupported: code.startsWith('unsupported') });

/** @throws BackendError (`unsupported-dtype`) where one of `tensors`, which may be left out, is not float32. */
export function requireFloats(kernel: string, ...tensors: readonly (TensorInfo | undefined)[]): void {
  const other = tensors.find((tensor) => tensor !== undefined && tensor.dtype !== 'float32');
  if (other !== undefined) throw fault(kernel, 'unsupported-dtype', `only float32, not ${other.dtype}`);
}
