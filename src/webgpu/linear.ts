import type { TensorInfo } from '@tensorflow/tfjs-core';
import { BackendError } from '../errors.js';
import {
  check,
  componentsOf,
  type Pass,
  readRows,
  run,
  shapesOf,
  sizeOf,
  storeRows,
  type WebGpuBackend,
} from './program.js';
import { readWeight, weightComponents, weightOf } from './weights.js';

/** WGSL of `activate(x)`, by the name that the layers give. */
const ACTIVATIONS: Readonly<Record<string, string>> = {
  none: 'fn activate(x : vec4<f32>) -> vec4<f32> { return x; }',
  // Large sizes are cut off where the result is settled: WGSL promises nothing for infinities.
  quick_gelu: `fn activate(x : vec4<f32>) -> vec4<f32> { return x / (1.0 + exp(min(-1.702 * x, vec4<f32>(80.0)))); }`,
  // erf in two ranges, with the coefficients of tfjs-backend-simd: largest error 1.2e-7. tfjs's own erf on webgpu is right to 1.5e-7 of float64 at best.
  gelu: `
    fn erf4(x : vec4<f32>) -> vec4<f32> {
      let t = min(abs(x), vec4<f32>(4.0));
      let s = t * t;
      var far = fma(fma(t, vec4<f32>(-1.72853470e-5), vec4<f32>(3.83197126e-4)), s,
        fma(t, vec4<f32>(-3.88396438e-3), vec4<f32>(2.42546219e-2)));
      far = fma(far, t, vec4<f32>(-1.06777877e-1));
      far = fma(far, t, vec4<f32>(-6.34846687e-1));
      far = fma(far, t, vec4<f32>(-1.28717512e-1));
      far = sign(x) * (1.0 - exp(fma(far, t, -t)));
      var near = fma(s, vec4<f32>(-5.96761703e-4), vec4<f32>(4.99119423e-3));
      near = fma(near, s, vec4<f32>(-2.67681349e-2));
      near = fma(near, s, vec4<f32>(1.12819925e-1));
      near = fma(near, s, vec4<f32>(-3.76125336e-1));
      near = fma(near, s, vec4<f32>(1.28379166e-1));
      return select(far, fma(near, x, x), t < vec4<f32>(0.927734375));
    }
    fn activate(x : vec4<f32>) -> vec4<f32> { let half = 0.5 * x; return fma(half, erf4(x * 0.7071067811865476), half); }`,
};

/** A product of m rows with a weight, its bias added and its activation applied. */
export interface Product {
  /** [m, k] */
  readonly x: TensorInfo;
  readonly m: number;
  /** [k, n] */
  readonly weight: TensorInfo;
  readonly bias: TensorInfo | undefined;
  readonly activation?: string;
}

/** Rows up to which the weights are what takes the time: each is read once, and no tile is filled. */
const FEW_ROWS = 8;

/** Columns of a tile in vectors of four; and numbers of k in it. */
const TILE_QUADS = 16;
const TILE_K = 16;

/**
 * x float32 [..., in] · weight [in, out] + bias [out], with an activation -> float32 [..., out].
 * @throws BackendError (`unsupported-activation`).
 */
export function linear(backend: WebGpuBackend, product: Product, output: TensorInfo): TensorInfo {
  return run(backend, product.m <= FEW_ROWS ? fewRows(product, output) : manyRows(product, output));
}

/** What both ways share. */
function commonOf({ x, m, weight, bias, activation = 'none' }: Product, output: TensorInfo, append?: Append) {
  const [k, n] = weight.shape as [number, number];
  const fits =
    weight.shape.length === 2 && sizeOf(x.shape) === m * k && (bias === undefined || sizeOf(bias.shape) === n);
  check(fits, () => `GitLinear: ${shapesOf(x, weight, bias)} do not fit`);
  const active = Object.hasOwn(ACTIVATIONS, activation) ? ACTIVATIONS[activation] : undefined;
  if (active === undefined) {
    const detail = `activation ${activation} is not one of ${Object.keys(ACTIVATIONS).join(', ')}`;
    throw new BackendError({ path: 'webgpu: GitLinear', code: 'unsupported-activation', detail });
  }
  const packed = weightOf(weight);
  const [across, along] = [componentsOf(n), componentsOf(k)];
  const inputs: Pass['inputs'] = [
    ['x', x, along],
    ['w', packed.words, weightComponents(packed, n)],
    ...(bias === undefined ? [] : [['bias', bias, across] as const]),
    ...(append?.past === undefined ? [] : [['past', append.past, 1] as const]),
  ];
  const components = append === undefined ? across : 1;
  const noBias = 'fn readBias(row : i32, quad : i32) -> vec4<f32> { return vec4<f32>(0.0); }';
  const code = () => `
    ${readRows('readX', 'x', 'uniforms.k', along)}
    ${readWeight(packed, n)}
    ${bias === undefined ? noBias : readRows('readBias', 'bias', 'uniforms.n', across)}
    ${active}
    fn finish(sum : vec4<f32>, quad : i32) -> vec4<f32> { return activate(fma(sum, scaleOf(quad), readBias(0, quad))); }
    ${append === undefined ? storeRows('uniforms.n', across) : storeAppended(append)}`;
  const key = [packed.format, activation, bias && 'bias', append && 'append']
    .filter((part) => part !== undefined)
    .join(' ');
  const more = append === undefined ? {} : { heads: append.heads, columns: append.columns };
  return { k, n, inputs, code, key, output, components, integers: { m, k, n, ...more } } as const;
}

/** WGSL: four rows of the weight, w0 to w3, times the components of a, on top of `sum`. */
const addProducts = (sum: string): string => `${sum} + w0 * a.x + w1 * a.y + w2 * a.z + w3 * a.w`;

/** Tiles of 32 or 64 rows and 64 columns; an invocation sums 4 or 8 rows of 4 columns. */
function manyRows(product: Product, output: TensorInfo): Pass {
  const { code, key, ...common } = commonOf(product, output);
  const { m } = product;
  const across = Math.ceil(common.n / (4 * TILE_QUADS));
  // Tiles of 64 rows read less and need as many workgroups as a GPU has places for.
  const rows = Math.ceil(m / 64) * across >= 256 ? 8 : 4;
  const tileRows = rows * 8;
  return {
    ...common,
    key: `GitLinear tiles ${rows} ${key}`,
    workgroup: [TILE_QUADS, 8],
    groups: [across, Math.ceil(m / tileRows)],
    code: () => `
      ${code()}
      var<workgroup> xTile : array<array<vec4<f32>, ${TILE_K / 4}>, ${tileRows}>;
      var<workgroup> wTile : array<array<vec4<f32>, ${TILE_QUADS}>, ${TILE_K}>;
      fn main() {
        let firstRow = i32(workgroupId.y) * ${tileRows};
        let firstQuad = i32(workgroupId.x) * ${TILE_QUADS};
        let own = i32(localId.y) * ${rows};
        let lane = i32(localId.x);
        var sums : array<vec4<f32>, ${rows}>;
        for (var k = 0; k < uniforms.k; k += ${TILE_K}) {
          for (var i = i32(localIndex); i < ${(tileRows * TILE_K) / 4}; i += ${TILE_QUADS * 8}) {
            let row = firstRow + i / ${TILE_K / 4};
            let at = k + (i % ${TILE_K / 4}) * 4;
            var values = vec4<f32>(0.0);
            if (row < uniforms.m && at < uniforms.k) { values = readX(row, at / 4); }
            xTile[i / ${TILE_K / 4}][i % ${TILE_K / 4}] = values;
          }
          for (var i = i32(localIndex); i < ${TILE_K * TILE_QUADS}; i += ${TILE_QUADS * 8}) {
            let at = k + i / ${TILE_QUADS};
            let quad = firstQuad + i % ${TILE_QUADS};
            var values = vec4<f32>(0.0);
            if (at < uniforms.k && quad * 4 < uniforms.n) { values = readWeight(at, quad); }
            wTile[i / ${TILE_QUADS}][i % ${TILE_QUADS}] = values;
          }
          workgroupBarrier();
          for (var i = 0; i < ${TILE_K / 4}; i++) {
            let w0 = wTile[i * 4][lane];
            let w1 = wTile[i * 4 + 1][lane];
            let w2 = wTile[i * 4 + 2][lane];
            let w3 = wTile[i * 4 + 3][lane];
            for (var row = 0; row < ${rows}; row++) {
              let a = xTile[own + row][i];
              sums[row] = ${addProducts('sums[row]')};
            }
          }
          workgroupBarrier();
        }
        let quad = firstQuad + lane;
        if (quad * 4 < uniforms.n) {
          for (var row = 0; row < ${rows}; row++) {
            let at = firstRow + own + row;
            if (at < uniforms.m) { store(at, quad, finish(sums[row], quad)); }
          }
        }
      }`,
  };
}

/** Columns of a workgroup in vectors of four, and parts into which k is split, which are summed as a tree. */
const ROW_QUADS = 8;
const ROW_PARTS = 32;

/** Every workgroup reads its columns of the weight once for up to 8 rows. */
function fewRows(product: Product, output: TensorInfo, append?: Append): Pass {
  const { code, key, ...common } = commonOf(product, output, append);
  const rows = Math.min(product.m, FEW_ROWS);
  return {
    ...common,
    key: `GitLinear rows ${rows} ${key}`,
    workgroup: [ROW_QUADS, ROW_PARTS],
    groups: [Math.ceil(common.n / (4 * ROW_QUADS)), Math.ceil(product.m / rows)],
    code: () => `
      ${code()}
      var<workgroup> sums : array<array<vec4<f32>, ${ROW_QUADS}>, ${ROW_PARTS}>;
      fn main() {
        ${append?.past === undefined ? '' : `copyPast(${ROW_QUADS * ROW_PARTS});`}
        let lane = i32(localId.x);
        let part = i32(localId.y);
        let quad = i32(workgroupId.x) * ${ROW_QUADS} + lane;
        let firstRow = i32(workgroupId.y) * ${rows};
        var own : array<vec4<f32>, ${rows}>;
        if (quad * 4 < uniforms.n) {
          for (var i = part; i * 4 < uniforms.k; i += ${ROW_PARTS}) {
            let w0 = readWeight(i * 4, quad);
            let w1 = readWeight(min(i * 4 + 1, uniforms.k - 1), quad); // x is 0 beyond its end
            let w2 = readWeight(min(i * 4 + 2, uniforms.k - 1), quad);
            let w3 = readWeight(min(i * 4 + 3, uniforms.k - 1), quad);
            for (var row = 0; row < ${rows}; row++) {
              let a = readX(min(firstRow + row, uniforms.m - 1), i);
              own[row] = ${addProducts('own[row]')};
            }
          }
        }
        for (var row = 0; row < ${rows}; row++) {
          sums[part][lane] = own[row];
          workgroupBarrier();
          for (var step = ${ROW_PARTS / 2}; step > 0; step /= 2) {
            if (part < step) { sums[part][lane] += sums[part + step][lane]; }
            workgroupBarrier();
          }
          if (part == 0 && firstRow + row < uniforms.m && quad * 4 < uniforms.n) {
            store(firstRow + row, quad, finish(sums[0][lane], quad));
          }
          workgroupBarrier();
        }
      }`,
  };
}

/** Keys or values of a step, which become the last column of those so far. */
export interface Append {
  /** [m, heads, columns, width]; undefined where there is none yet. */
  readonly past: TensorInfo | undefined;
  readonly heads: number;
  readonly columns: number;
}

/** The product's rows appended to the past -> [m, heads, columns + 1, width]. */
export const appendLinear = (
  backend: WebGpuBackend,
  product: Product,
  append: Append,
  output: TensorInfo,
): TensorInfo => run(backend, fewRows(product, output, append));

/** WGSL: `store` puts numbers of a row into the new column of each head; `copyPast` copies what was there. */
const storeAppended = ({ past }: Append): string => `
  fn store(row : i32, quad : i32, v : vec4<f32>) {
    let width = uniforms.n / uniforms.heads;
    for (var i = 0; i < min(4, uniforms.n - quad * 4); i++) {
      let column = quad * 4 + i;
      let head = row * uniforms.heads + column / width;
      result[(head * (uniforms.columns + 1) + uniforms.columns) * width + column % width] = v[i];
    }
  }
  ${
    past === undefined
      ? ''
      : `fn copyPast(threads : i32) {
          let width = uniforms.n / uniforms.heads;
          let group = i32(workgroupId.y * numWorkgroups.x + workgroupId.x);
          let step = i32(numWorkgroups.x * numWorkgroups.y) * threads;
          for (var i = group * threads + i32(localIndex); i < uniforms.m * uniforms.n * uniforms.columns; i += step) {
            result[i + i / (uniforms.columns * width) * width] = past[i];
          }
        }`
  }`;
