import type { TensorInfo } from '@tensorflow/tfjs-core';
import {
  check,
  componentsOf,
  type Pass,
  readRows,
  reduceAcross,
  run,
  shapesOf,
  storeRows,
  type WebGpuBackend,
} from './program.js';

/** Attention of q [R, H, T, K] to columns of an image [N, H, I, K], shared by R / N rows, and to those of the row's own text [R, H, S, K]. */
export interface Attention {
  readonly q: TensorInfo;
  readonly key?: TensorInfo | undefined;
  readonly value?: TensorInfo | undefined;
  readonly imageKey?: TensorInfo | undefined;
  readonly imageValue?: TensorInfo | undefined;
  /** [T, S] or [R, T, S], added to the scores of the text. */
  readonly mask?: TensorInfo | undefined;
}

/** Queries of a head up to which a workgroup takes one of them, its columns spread over the invocations. */
const FEW_QUERIES = 8;

/** Width of a head up to which a tile of keys and one of values fit into the memory that every workgroup has (16 KiB). */
const TILED_WIDTH = 128;

/** softmax(q · kT / sqrt(K) + mask) · v over the columns of both -> float32 [R, T, H · K]. No matrix of scores is stored (Milakov and Gimelshein, arXiv 1805.02867). */
export function attention(backend: WebGpuBackend, inputs: Attention, output: TensorInfo): TensorInfo {
  const [, , T = 0, K = 0] = inputs.q.shape;
  return run(backend, T <= FEW_QUERIES || K > TILED_WIDTH ? oneQuery(inputs, output) : manyQueries(inputs, output));
}

/** What both ways share: checks, buffers, sizes, and how rows are read and written. */
function commonOf({ q, key, value, imageKey, imageValue, mask }: Attention, output: TensorInfo) {
  const [R, H, T, K] = q.shape as [number, number, number, number];
  const [N, I, S] = [imageKey?.shape[0] ?? R, imageKey?.shape[2] ?? 0, key?.shape[2] ?? 0];
  const isPair = (k: TensorInfo | undefined, v: TensorInfo | undefined, dims: readonly number[]) =>
    (k === undefined && v === undefined) || (String(k?.shape) === String(dims) && String(v?.shape) === String(dims));
  const fits =
    q.shape.length === 4 &&
    isPair(key, value, [R, H, S, K]) &&
    isPair(imageKey, imageValue, [N, H, I, K]) &&
    R % N === 0 &&
    I + S > 0 &&
    (mask === undefined || S === 0 || [`${T},${S}`, `${R},${T},${S}`].includes(String(mask.shape)));
  check(fits, () => `GitAttention: ${shapesOf(q, key, value, imageKey, imageValue, mask)} do not fit`);
  const components = componentsOf(K);
  const given = [
    ['q', q],
    ...(I > 0 ? [['imageKey', imageKey!] as const, ['imageValue', imageValue!] as const] : []),
    ...(S > 0 ? [['key', key!] as const, ['value', value!] as const] : []),
  ] as const;
  const masked = mask !== undefined && S > 0;
  const buffers: Pass['inputs'] = [
    ...given.map(([name, tensor]) => [name, tensor, components] as const),
    ...(masked ? [['mask', mask, 1] as const] : []),
  ];
  const code = `
    ${given.map(([name]) => readRows(`${name}At`, name, 'uniforms.width', components)).join('')}
    ${storeRows('uniforms.width', components)}
    fn maskOf(row : i32, query : i32, column : i32) -> f32 {
      ${masked ? 'return mask[(row * uniforms.maskRows + query) * uniforms.textColumns + column];' : 'return 0.0;'}
    }
    fn imageHeadOf(row : i32, head : i32) -> i32 { return (row * uniforms.images / uniforms.rows) * uniforms.heads + head; }
    const NONE = -1e30;
  `;
  return {
    ...{ code, output, components, inputs: buffers, hasImage: I > 0, hasText: S > 0, width: Math.ceil(K / 4) },
    integers: {
      ...{ rows: R, heads: H, queries: T, width: K, images: N, imageColumns: I, textColumns: S },
      maskRows: masked && mask.shape.length === 3 ? T : 0,
    },
    floats: { scale: 1 / Math.sqrt(K) },
    key: `${I > 0 ? 'image ' : ''}${S > 0 ? 'text ' : ''}${masked ? 'mask ' : ''}${Math.ceil(K / 4)}`,
  } as const;
}

const TILE = 16;
const QUERIES = 64;

/** A workgroup takes 64 queries of a head, each invocation one of them; keys and values come in tiles of 16 columns that all share. */
function manyQueries(inputs: Attention, output: TensorInfo): Pass {
  const { code, key, hasImage, hasText, width, ...common } = commonOf(inputs, output);
  const { rows, heads, queries } = common.integers;
  return {
    ...common,
    key: `GitAttention queries ${key}`,
    workgroup: [QUERIES, 1],
    groups: [Math.ceil(queries / QUERIES), rows * heads],
    code: () => `
      ${code}
      var<workgroup> keys : array<vec4<f32>, ${TILE * width}>;
      var<workgroup> values : array<vec4<f32>, ${TILE * width}>;
      var<private> query : array<vec4<f32>, ${width}>;
      var<private> sums : array<vec4<f32>, ${width}>;
      var<private> total : f32;
      var<private> most : f32;
      ${hasImage ? attendTiles('attendImage', 'image', 'imageKeyAt', 'imageValueAt', width) : ''}
      ${hasText ? attendTiles('attendText', 'text', 'keyAt', 'valueAt', width) : ''}
      fn main() {
        let row = i32(workgroupId.y) / uniforms.heads;
        let head = i32(workgroupId.y) % uniforms.heads;
        let own = i32(workgroupId.x) * ${QUERIES} + i32(localIndex);
        let at = min(own, uniforms.queries - 1);
        for (var i = 0; i < ${width}; i++) { query[i] = qAt((row * uniforms.heads + head) * uniforms.queries + at, i) * uniforms.scale; }
        most = NONE;
        ${hasImage ? 'attendImage(row, at, imageHeadOf(row, head));' : ''}
        ${hasText ? 'attendText(row, at, row * uniforms.heads + head);' : ''}
        if (own < uniforms.queries) {
          for (var i = 0; i < ${width}; i++) { store((row * uniforms.queries + own) * uniforms.heads + head, i, sums[i] / total); }
        }
      }`,
  };
}

/** WGSL: goes through the columns of the image or the text, and puts them on top of what was attended to before. */
function attendTiles(name: string, part: 'image' | 'text', keyAt: string, valueAt: string, width: number): string {
  return `
    fn ${name}(row : i32, own : i32, head : i32) {
      for (var first = 0; first < uniforms.${part}Columns; first += ${TILE}) {
        for (var i = i32(localIndex); i < ${TILE * width}; i += ${QUERIES}) {
          let column = head * uniforms.${part}Columns + min(first + i / ${width}, uniforms.${part}Columns - 1);
          keys[i] = ${keyAt}(column, i % ${width});
          values[i] = ${valueAt}(column, i % ${width});
        }
        workgroupBarrier();
        let count = min(${TILE}, uniforms.${part}Columns - first);
        var scores : array<f32, ${TILE}>;
        var next = most;
        for (var c = 0; c < count; c++) {
          var score = 0.0;
          for (var i = 0; i < ${width}; i++) { score += dot(query[i], keys[c * ${width} + i]); }
          ${part === 'text' ? 'score += maskOf(row, own, first + c);' : ''}
          scores[c] = score;
          next = max(next, score);
        }
        let shrink = exp(most - next);
        most = next;
        total *= shrink;
        for (var i = 0; i < ${width}; i++) { sums[i] *= shrink; }
        for (var c = 0; c < count; c++) {
          let weight = exp(scores[c] - next);
          total += weight;
          for (var i = 0; i < ${width}; i++) { sums[i] = fma(vec4<f32>(weight), values[c * ${width} + i], sums[i]); }
        }
        workgroupBarrier();
      }
    }`;
}

const THREADS = 64;
/** Columns whose weights a workgroup has at once. */
const CHUNK = 256;

/** A workgroup takes one query of a head: invocations share out the columns for the scores, then the numbers of the result. */
function oneQuery(inputs: Attention, output: TensorInfo): Pass {
  const { code, key, hasImage, hasText, width, ...common } = commonOf(inputs, output);
  const { rows, heads, queries } = common.integers;
  const lanes = Math.min(width, THREADS);
  const shares = Math.floor(THREADS / lanes);
  const perLane = Math.ceil(width / lanes);
  const at = (what: 'Key' | 'Value') => {
    const image = `image${what}At(imageHead * uniforms.imageColumns + column, i)`;
    const text = `${what.toLowerCase()}At(textHead * uniforms.textColumns + column - uniforms.imageColumns, i)`;
    if (!hasText) return `return ${image};`;
    if (!hasImage) return `return ${text};`;
    return `if (column < uniforms.imageColumns) { return ${image}; } return ${text};`;
  };
  return {
    ...common,
    key: `GitAttention query ${key}`,
    workgroup: [THREADS, 1],
    groups: [rows * heads, queries],
    code: () => `
      ${code}
      var<workgroup> query : array<vec4<f32>, ${width}>;
      var<workgroup> weights : array<f32, ${CHUNK}>;
      var<workgroup> parts : array<vec4<f32>, ${THREADS}>;
      ${reduceAcross('maxOf', THREADS, (a, b) => `max(${a}, ${b})`)}
      ${reduceAcross('sumOf', THREADS, (a, b) => `${a} + ${b}`)}
      var<private> imageHead : i32;
      var<private> textHead : i32;
      fn anyKeyAt(column : i32, i : i32) -> vec4<f32> { ${at('Key')} }
      fn anyValueAt(column : i32, i : i32) -> vec4<f32> { ${at('Value')} }
      fn main() {
        let thread = i32(localIndex);
        let row = i32(workgroupId.x) / uniforms.heads;
        let head = i32(workgroupId.x) % uniforms.heads;
        let own = i32(workgroupId.y);
        imageHead = imageHeadOf(row, head);
        textHead = row * uniforms.heads + head;
        for (var i = thread; i < ${width}; i += ${THREADS}) { query[i] = qAt(textHead * uniforms.queries + own, i) * uniforms.scale; }
        workgroupBarrier();
        let columns = uniforms.imageColumns + uniforms.textColumns;
        let lane = thread % ${lanes};
        let share = thread / ${lanes};
        var sums : array<vec4<f32>, ${perLane}>;
        var total = 0.0;
        var most = NONE;
        for (var first = 0; first < columns; first += ${CHUNK}) {
          let count = min(${CHUNK}, columns - first);
          var largest = NONE;
          for (var c = thread; c < count; c += ${THREADS}) {
            var score = 0.0;
            for (var i = 0; i < ${width}; i++) { score += dot(query[i], anyKeyAt(first + c, i)); }
            if (first + c >= uniforms.imageColumns) { score += maskOf(row, own, first + c - uniforms.imageColumns); }
            weights[c] = score;
            largest = max(largest, score);
          }
          let next = max(most, maxOf(largest));
          var part = 0.0;
          for (var c = thread; c < count; c += ${THREADS}) {
            let weight = exp(weights[c] - next);
            weights[c] = weight;
            part += weight;
          }
          let shrink = exp(most - next);
          total = total * shrink + sumOf(part);
          most = next;
          for (var j = 0; j < ${perLane}; j++) {
            sums[j] *= shrink;
            let i = lane + j * ${lanes};
            if (share < ${shares} && i < ${width}) {
              for (var c = share; c < count; c += ${shares}) { sums[j] = fma(vec4<f32>(weights[c]), anyValueAt(first + c, i), sums[j]); }
            }
          }
          workgroupBarrier();
        }
        for (var j = 0; j < ${perLane}; j++) {
          parts[thread] = sums[j];
          workgroupBarrier();
          let i = lane + j * ${lanes};
          if (share == 0 && i < ${width}) {
            var sum = parts[lane];
            for (var s = 1; s < ${shares}; s++) { sum += parts[s * ${lanes} + lane]; }
            store((row * uniforms.queries + own) * uniforms.heads + head, i, sum / total);
          }
          workgroupBarrier();
        }
      }`,
  };
}
