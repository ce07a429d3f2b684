import type { Tensor, Tensor2D } from '@tensorflow/tfjs-core';
import { add, dispose, matMul, mul, tidy } from '@tensorflow/tfjs-core';
import { OptionError } from '../errors.js';
import { type Git, namedParameters, withParameters } from './git.js';

// Low-rank adaptation (Hu et al., arXiv 2106.09685): thin matrices beside some linear layers, and the weights that they make together.

/** Low-rank matrices beside a linear layer: y = x W + b + scale · (x Aᵀ) Bᵀ. A: [r, in], B: [out, r], as PEFT stores them. */
export interface Adapter {
  readonly a: Tensor2D;
  readonly b: Tensor2D;
  readonly scale: number;
}

/** An adapter of a whole model: its matrices by the name of their linear layer. It owns them. */
export interface LoraAdapter {
  readonly rank: number;
  readonly alpha: number;
  readonly targets: readonly string[];
  readonly layers: ReadonlyMap<string, Adapter>;
}

/**
 * The model with the adapter merged in: W + scale · (B A)ᵀ. Makes new tensors for the weights that have an adapter, which the caller disposes of
 * with the returned function; the others are the model's own.
 */
export function mergeAdapter(git: Git, adapter: LoraAdapter): { readonly git: Git; dispose(): void } {
  const parameters = namedParameters(git);
  const merged: Tensor[] = [];
  for (const [name, { a, b, scale }] of adapter.layers) {
    const weight = tidy(() => add(parameters.get(`${name}.weight`)!, mul(matMul(a, b, true, true), scale)));
    merged.push(weight);
    parameters.set(`${name}.weight`, weight);
  }
  return { git: withParameters(git, parameters), dispose: () => dispose(merged) };
}

/** @throws OptionError: `wrong-type` for what is no adapter, `adapter-does-not-fit` where one of its layers is not in the model, or has other sizes there. */
export function checkAdapter(git: Git, adapter: LoraAdapter): void {
  const layers = (adapter as LoraAdapter | null)?.layers;
  if (!(layers instanceof Map)) {
    const detail = "expected what loadAdapter or train of 'generative-image2text/training' gives";
    throw new OptionError({ path: 'adapter', code: 'wrong-type', detail });
  }
  const parameters = namedParameters(git);
  const fail = (name: string, detail: string): never => {
    throw new OptionError({ path: 'adapter', code: 'adapter-does-not-fit', detail: `${name}: ${detail}` });
  };
  for (const [name, { a, b }] of layers) {
    const weight = parameters.get(`${name}.weight`) ?? fail(name, 'the model has no such layer');
    const [inputs, outputs] = weight.shape;
    if (weight.rank !== 2 || a.shape[1] !== inputs || b.shape[0] !== outputs || a.shape[0] !== b.shape[1]) {
      fail(
        name,
        `matrices [${a.shape}] and [${b.shape}] do not fit a layer of ${inputs} inputs and ${outputs} outputs`,
      );
    }
  }
}

/** Frees the matrices. */
export function disposeAdapter({ layers }: LoraAdapter): void {
  for (const { a, b } of layers.values()) dispose([a, b]);
}
