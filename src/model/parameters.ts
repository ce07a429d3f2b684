import type { Tensor } from '@tensorflow/tfjs-core';
import { transpose } from '@tensorflow/tfjs-core';
import type { Layout } from '../layers/param-spec.js';
import { mapSpec, specEntries } from '../layers/param-spec.js';
import type { Git, GitParams } from './git.js';
import { gitSpec } from './git.js';
import type { GitConfig } from './git-config.js';

/** Every parameter of a model by its name in the checkpoint; the model's own tensors. */
export function namedParameters(git: Git): Map<string, Tensor> {
  const find = (name: string): Tensor =>
    name.split('.').reduce<unknown>((node, key) => (node as Record<string, unknown>)[key], git.params) as Tensor;
  return new Map(specEntries(gitSpec(git.config)).map(({ name }) => [name, find(name)]));
}

/** The same model with the tensors of `parameters` at their names. */
export function withParameters(git: Git, parameters: ReadonlyMap<string, Tensor>): Git {
  return { config: git.config, params: mapSpec(gitSpec(git.config), (name) => parameters.get(name)!) as GitParams };
}

/** A loaded parameter as the checkpoint stores it, a new tensor: linear weights [out, in], patch weights OIHW. Adapters are stored as they are. */
export function toStoredLayout(layout: Layout, parameter: Tensor): Tensor {
  if (layout === 'linear') return transpose(parameter);
  return layout === 'conv2d' ? transpose(parameter, [3, 2, 0, 1]) : parameter.clone();
}

/** How each parameter is stored, by name. */
export const storedLayouts = (config: GitConfig): Map<string, Layout> =>
  new Map(specEntries(gitSpec(config)).map(({ name, spec }) => [name, spec.layout]));
