import type { Tensor } from '@tensorflow/tfjs-core';

/**
 * How a stored tensor is transposed when it is loaded:
 * `as-is`; `embedding` as it is too, but read row by row, so that a backend may keep it in the format of the weights; `linear` from PyTorch's
 * [out, in] to [in, out]; `conv2d` from OIHW to HWIO.
 */
export type Layout = 'as-is' | 'embedding' | 'linear' | 'conv2d';

/** One parameter, as a value: its shape in the checkpoint and how it is transposed at load. */
export interface TensorSpec {
  readonly kind: 'tensor';
  readonly shape: readonly number[];
  readonly layout: Layout;
}

/** Parameters of a layer or model: nested objects and lists whose paths are the checkpoint's names. */
export type SpecTree = TensorSpec | readonly SpecTree[] | { readonly [name: string]: SpecTree };

/** The tree of tensors that a spec describes; a misspelt parameter does not compile. */
export type ParamsOf<S> = S extends TensorSpec ? Tensor : { readonly [K in keyof S]: ParamsOf<S[K]> };

/** A parameter of the given shape. */
export function tensorSpec(shape: readonly number[], layout: Layout = 'as-is'): TensorSpec {
  return { kind: 'tensor', shape, layout };
}

/** `count` numbered children: `repeat(2, layerSpec)` has the paths `0.…` and `1.…`. */
export function repeat<S>(count: number, make: (index: number) => S): readonly S[] {
  return Array.from({ length: count }, (_, index) => make(index));
}

/** Is this node a leaf? */
export function isTensorSpec(node: SpecTree): node is TensorSpec {
  return (node as { kind?: unknown }).kind === 'tensor';
}

/** Every leaf with its dotted path, in the order of the spec. */
export function specEntries(spec: SpecTree, prefix = ''): { readonly name: string; readonly spec: TensorSpec }[] {
  if (isTensorSpec(spec)) return [{ name: prefix, spec }];
  return Object.entries(spec).flatMap(([key, child]: [string, SpecTree]) =>
    specEntries(child, prefix === '' ? key : `${prefix}.${key}`),
  );
}

/** The same tree with every leaf replaced by `make(path, leaf)`. */
export function mapSpec<S extends SpecTree>(spec: S, make: (name: string, leaf: TensorSpec) => Tensor): ParamsOf<S> {
  const walk = (node: SpecTree, path: string): unknown => {
    if (isTensorSpec(node)) return make(path, node);
    const at = (key: string | number) => (path === '' ? `${key}` : `${path}.${key}`);
    if (Array.isArray(node)) return node.map((child, index) => walk(child, at(index)));
    return Object.fromEntries(Object.entries(node).map(([key, child]) => [key, walk(child, at(key))]));
  };
  return walk(spec, '') as ParamsOf<S>;
}
