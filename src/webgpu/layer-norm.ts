import type { TensorInfo } from '@tensorflow/tfjs-core';
import {
  check,
  componentsOf,
  type Pass,
  readRows,
  reduceAcross,
  run,
  shapesOf,
  sizeOf,
  storeRows,
  type WebGpuBackend,
} from './program.js';

/** Invocations that share a row. */
const THREADS = 64;

/** The most workgroups in one dimension that every device has. */
const MOST_GROUPS = 65535;

/** What is normalized: the rows of x, with those of the residual added; or the rows of tables that ids name, added up. */
export type Rows =
  | { readonly x: TensorInfo; readonly residual: TensorInfo | undefined }
  /** `ids`: int32 [2 · rows], those of words, then those of positions. */
  | { readonly words: TensorInfo; readonly positions: TensorInfo; readonly ids: TensorInfo };

/** Layer norm over the last axis: biased variance, epsilon inside the root; gamma, beta [n]. A workgroup takes a row. */
export function layerNorm(
  backend: WebGpuBackend,
  source: Rows,
  [gamma, beta]: readonly [TensorInfo, TensorInfo],
  epsilon: number,
  output: TensorInfo,
): TensorInfo {
  const n = output.shape.at(-1)!;
  const rows = sizeOf(output.shape) / Math.max(n, 1);
  const components = componentsOf(n);
  const { inputs, code, kind } = sourceOf(source, components);
  const fits =
    'x' in source
      ? sizeOf(source.x.shape) === rows * n && sizeOf((source.residual ?? source.x).shape) === rows * n
      : source.words.shape[1] === n && source.positions.shape[1] === n;
  check(
    fits && sizeOf(gamma.shape) === n && sizeOf(beta.shape) === n,
    () => `GitLayerNorm: ${shapesOf(...inputs.map(([, tensor]) => tensor), gamma, beta)} do not fit`,
  );
  const across = Math.min(rows, MOST_GROUPS);
  return run(backend, {
    key: `GitLayerNorm ${kind}`,
    inputs: [...inputs, ['gamma', gamma, components], ['beta', beta, components]],
    output,
    components,
    integers: { rows, n },
    floats: { epsilon },
    workgroup: [THREADS, 1],
    groups: [across, Math.ceil(rows / Math.max(across, 1))],
    code: () => `
      ${code}
      ${readRows('readGamma', 'gamma', 'uniforms.n', components)}
      ${readRows('readBeta', 'beta', 'uniforms.n', components)}
      ${storeRows('uniforms.n', components)}
      ${reduceAcross('sumOf', THREADS, (a, b) => `${a} + ${b}`)}
      fn main() {
        let row = i32(workgroupId.y * numWorkgroups.x + workgroupId.x);
        let source = min(row, uniforms.rows - 1);
        let quads = (uniforms.n + 3) / 4;
        var own = vec4<f32>(0.0);
        for (var i = i32(localIndex); i < quads; i += ${THREADS}) { own += readSource(source, i); }
        let mean = sumOf(dot(own, vec4<f32>(1.0))) / f32(uniforms.n);
        var spread = 0.0;
        for (var i = i32(localIndex); i < quads; i += ${THREADS}) {
          let isThere = vec4<i32>(i * 4) + vec4<i32>(0, 1, 2, 3) < vec4<i32>(uniforms.n);
          let centered = select(vec4<f32>(0.0), readSource(source, i) - mean, isThere);
          spread += dot(centered, centered);
        }
        let factor = inverseSqrt(sumOf(spread) / f32(uniforms.n) + uniforms.epsilon);
        if (row < uniforms.rows) {
          for (var i = i32(localIndex); i < quads; i += ${THREADS}) {
            store(row, i, (readSource(row, i) - mean) * factor * readGamma(0, i) + readBeta(0, i));
          }
        }
      }`,
  });
}

/** The buffers of a source, and WGSL of `readSource(row, quad)`. */
function sourceOf(source: Rows, components: 1 | 4): { inputs: Pass['inputs']; code: string; kind: string } {
  const read = (name: string, array: string) => readRows(name, array, 'uniforms.n', components);
  const head = 'fn readSource(row : i32, quad : i32) -> vec4<f32> {';
  if ('ids' in source) {
    const { words, positions, ids } = source;
    return {
      kind: 'embeddings',
      inputs: [
        ['words', words, components],
        ['positions', positions, components],
        ['ids', ids, 1],
      ],
      code: `${read('readWord', 'words')} ${read('readPosition', 'positions')}
        ${head} return readWord(ids[row], quad) + readPosition(ids[uniforms.rows + row], quad); }`,
    };
  }
  const { x, residual } = source;
  if (residual === undefined) return { kind: 'x', inputs: [['x', x, components]], code: read('readSource', 'x') };
  return {
    kind: 'residual',
    inputs: [
      ['x', x, components],
      ['residual', residual, components],
    ],
    code: `${read('readX', 'x')} ${read('readResidual', 'residual')}
      ${head} return readX(row, quad) + readResidual(row, quad); }`,
  };
}
