import type { Tensor, Tensor3D, TensorContainer } from '@tensorflow/tfjs-core';
import { dispose, keep, matMul, mul, tidy } from '@tensorflow/tfjs-core';
import type { LayerNorm } from '../layers/layer-norm.js';
import type { Linear } from '../layers/linear.js';
import type { Adapter } from '../model/lora.js';
import {
  biasGradient,
  layerNormGradient,
  linearInputGradient,
  linearWeightGradient,
  plus,
  rowsOf,
} from './gradients.js';

// What the backward passes of the vision tower and of the decoder share: where gradients are added up, and the layers that both are made of.

/** Gradients by parameter name, summed over micro-batches. It owns them. */
export interface Gradients {
  /** Is this parameter trained? */
  wants(name: string): boolean;
  /** Is any parameter trained whose name begins so? */
  wantsBelow(prefix: string): boolean;
  /** Keeps `make(sum)`, a new tensor, where the parameter is trained; `sum` is its gradient so far. Does nothing for others. */
  add(name: string, make: (sum: Tensor | undefined) => Tensor): void;
  readonly byName: ReadonlyMap<string, Tensor>;
  dispose(): void;
}

/** No gradients yet, for the parameters of `names`. */
export function startGradients(names: Iterable<string>): Gradients {
  const trained = new Set(names);
  const byName = new Map<string, Tensor>();
  return {
    byName,
    wants: (name) => trained.has(name),
    wantsBelow: (prefix) => [...trained].some((name) => name.startsWith(prefix)),
    add(name, make) {
      if (!trained.has(name)) return;
      const before = byName.get(name);
      byName.set(
        name,
        tidy(() => keep(make(before))),
      );
      before?.dispose();
    },
    dispose() {
      dispose([...byName.values()]);
      byName.clear();
    },
  };
}

/** What a pass needs besides its tensors. */
export interface Pass {
  readonly gradients: Gradients;
  /** By the layer's name, such as `git.encoder.layer.0.attention.self.query`. */
  readonly adapters: ReadonlyMap<string, Adapter>;
  /** Takes tensors, to dispose of at the end of the pass at the latest. */
  readonly own: <T>(values: T) => T;
  /** Disposes of what `own` took. */
  readonly free: (values: unknown) => void;
  /** Called between layers: yields to the event loop, and throws where the call was aborted. */
  readonly pause: () => Promise<void>;
  /** Keep only each layer's input, and compute the rest again on the way back. */
  readonly recompute: boolean;
}

/** `own` and `free` of a pass, and `freeAll` for its end. */
export function startOwning(): Pick<Pass, 'own' | 'free'> & { freeAll(): void } {
  const owned = new Set<TensorContainer>();
  return {
    own(values) {
      owned.add(values as TensorContainer);
      return values;
    },
    free(values) {
      if (owned.delete(values as TensorContainer)) dispose(values as TensorContainer);
    },
    freeAll() {
      for (const values of owned) dispose(values);
      owned.clear();
    },
  };
}

/**
 * Adds the gradients of a linear layer's own parameters and of its adapter. x: [B, T, in], dy: [B, T, out].
 *
 * @param groups how many rows each sample has, where x has those of several in one.
 */
export function addLinearGradients(
  { gradients, adapters }: Pass,
  name: string,
  x: Tensor3D,
  dy: Tensor3D,
  groups?: number[],
): void {
  gradients.add(`${name}.weight`, (sum) => linearWeightGradient(x, dy, sum, groups));
  gradients.add(`${name}.bias`, (sum) => biasGradient(dy, sum, groups));
  const adapter = adapters.get(name);
  if (adapter !== undefined) {
    const { a, b, scale } = adapter;
    gradients.add(
      `${name}.lora_A`,
      (sum) => plus(sum, mul(matMul(matMul(rowsOf(dy), b), rowsOf(x), true, false), scale)), // [r, in]
    );
    gradients.add(
      `${name}.lora_B`,
      (sum) => plus(sum, mul(matMul(rowsOf(dy), matMul(rowsOf(x), a, false, true), true, false), scale)), // [out, r]
    );
  }
}

/** The same, and returns the gradient by the layer's input. */
export function linearBackward(
  pass: Pass,
  name: string,
  p: Linear,
  x: Tensor3D,
  dy: Tensor3D,
  groups?: number[],
): Tensor3D {
  addLinearGradients(pass, name, x, dy, groups);
  return linearInputGradient(p.weight, dy);
}

/** The same of a layer norm. x: what is normalized, dy: [B, T, D]. */
export function layerNormBackward(
  { gradients }: Pass,
  name: string,
  p: LayerNorm,
  x: Tensor3D,
  epsilon: number,
  dy: Tensor3D,
): Tensor3D {
  return tidy(() => {
    const [weightName, biasName] = [`${name}.weight`, `${name}.bias`];
    const sums = { weight: gradients.byName.get(weightName), bias: gradients.byName.get(biasName) };
    const { dx, weight, bias } = layerNormGradient(p, x, epsilon, dy, sums);
    gradients.add(weightName, () => weight.clone());
    gradients.add(biasName, () => bias.clone());
    return dx;
  });
}
