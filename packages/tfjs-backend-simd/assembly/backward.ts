// The backward pass: the gradients of a linear layer, of layer norm and activations, of attention, of the loss and of an embedding table.

import {
  ActivationGradientParam, AttentionGradientParam, BiasGradientParam, CrossEntropyParam, EmbeddingGradientParam, Format,
  InputGradientParam, K_BLOCK, LayerNormGradientParam, MAP_CHUNK, PackPanelsParam, Unary, WeightGradientParam,
} from './abi';
import { erf, exp, fma, half, one, sigmoid, storeLanes } from './math';
import { addTile, tile, touch, ZEROS } from './multiply';
import { elementOf, packPanels, packPanelsTransposed, packRows, packTiles, packTilesTransposed, TILE_ROWS, widenPanel16 } from './pack';
import { exponentials, exponentialsOf, largestOf, scale, sumRow, sumSquares } from './rows';
import { heartbeat, keepsResults, param, paramFloat, paramInt, publish } from './thread';
import { tileF32 } from './tiles';

// ---- A linear layer y = x · W + b. Weights and their gradients are panels of 8 columns (pack.ts).
//
// The gradient of W is a sum over rows, cut into blocks that the caller gives: each block is summed in order from zero and then added to the
// sum of those before. So samples that are learned together or one after the other give the same bits, if no block has rows of two of them.

/** Rows of dy that are multiplied with one panel after the other. */
const CACHED_ROWS: i32 = 204;

/** Job with `PackPanelsParam`. */
export function packPanelsJob(chunk: i32): void {
  const rows = paramInt(PackPanelsParam.rows), perChunk = paramInt(PackPanelsParam.chunkRows), from = chunk * perChunk;
  const b = param(PackPanelsParam.b) + <usize>from * param(PackPanelsParam.bStride), d = param(PackPanelsParam.panels) + (<usize>from << 5);
  packPanels(b, param(PackPanelsParam.bStride), d, min(perChunk, rows - from), paramInt(PackPanelsParam.columns), rows);
}

/** c[rows, 8] = base + sums; one row of zeros is the base of all where there is none. */
@inline function addBase(base: usize, step: usize, sums: usize, c: usize, rows: i32): void {
  for (let i = 0; i < rows; i++, sums += 32, c += 32, base += step) {
    v128.store(c, f32x4.add(v128.load(base), v128.load(sums)));
    v128.store(c, f32x4.add(v128.load(base, 16), v128.load(sums, 16)), 16);
  }
}

/** Job with `WeightGradientParam`: dW = sum + transpose(x) · dy. A chunk is some rows of dW and some of its panels. */
export function weightGradientJob(chunk: i32, thread: i32): void {
  const inputs = paramInt(WeightGradientParam.inputs), rows = paramInt(WeightGradientParam.rows), height = paramInt(WeightGradientParam.tileRows);
  const perBlock = paramInt(WeightGradientParam.blockRows), perChunk = paramInt(WeightGradientParam.chunkPanels), blockChunks = paramInt(WeightGradientParam.blockChunks);
  const i0 = chunk / blockChunks * perBlock, m = min(perBlock, inputs - i0);
  const p0 = chunk % blockChunks * perChunk, p1 = min(p0 + perChunk, (paramInt(WeightGradientParam.outputs) + 7) >> 3);
  const sums = param(WeightGradientParam.scratch) + <usize>thread * param(WeightGradientParam.threadBytes), own = keepsResults();
  const result = param(WeightGradientParam.c) + (<usize>(p0 * inputs + i0) << 5), panel = <usize>inputs << 5;
  const c = own ? sums + 256 : result, step = own ? <usize>m << 5 : panel;
  const before = param(WeightGradientParam.sum), ends = param(WeightGradientParam.blockEnds), blocks = paramInt(WeightGradientParam.blocks);
  const tiles = param(WeightGradientParam.tiles) + (<usize>i0 * <usize>rows << 2);
  for (let block = 0, k0 = 0; block < blocks; block++) {
    const kb = load<i32>(ends + (<usize>block << 2)) - k0;
    for (let p = p0; p < p1; p++) {
      if (!(p - p0 & 3)) heartbeat();
      const b = param(WeightGradientParam.panels) + (<usize>p * <usize>rows + <usize>k0 << 5);
      const base = before ? before + (<usize>p * <usize>inputs + <usize>i0 << 5) : ZEROS;
      const at = c + <usize>(p - p0) * step;
      for (let i = 0; i < m; i += height) {
        const count = min(height, m - i), a = tiles + (<usize>i * <usize>rows + <usize>k0 * <usize>count << 2), place = at + (<usize>i << 5);
        tile(Format.f32, count, a, b, sums, 32, kb, ZEROS, 0);
        if (block) addTile(sums, place, 32, count);
        else if (before) addBase(base + (<usize>i << 5), 32, sums, place, count);
        else addBase(ZEROS, 0, sums, place, count);
      }
    }
    k0 += kb;
  }
  if (!own || !publish()) return;
  for (let p = p0; p < p1; p++) memory.copy(result + <usize>(p - p0) * panel, c + <usize>(p - p0) * step, <usize>m << 5);
}

/** The 8 x 8 numbers of panel `source` in rows i to i + 7, as float32 rows of 8 at d. */
function widenBlock(format: i32, w: usize, scales: usize, inputs: i32, source: i32, i: i32, rows: i32, d: usize): void {
  if (format == Format.int8Fast) {
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < 8; c++, d += 4) store<f32>(d, elementOf(format, w, scales, i + r, source << 3 | c, inputs));
    }
    return;
  }
  if (format != Format.int8) return widenPanel16(format, w + (<usize>source * <usize>inputs + <usize>i << 4), d, rows);
  const pairs = w + (<usize>source * <usize>((inputs + 1) >> 1) + <usize>(i >> 1) << 4);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < 8; c++, d += 4) {
      const word = <f32>load<i8>(pairs + (<usize>(r >> 1) << 4) + <usize>((c << 1) | (r & 1)));
      store<f32>(d, word * load<f32>(scales + (<usize>(source << 3 | c) << 2)));
    }
  }
}

/** Four rows of 8 at s as columns 0 to 3 of 8 rows at d. */
@inline function transposeHalf(s: usize, d: usize): void {
  for (let i = 0; i < 2; i++, s += 16, d += 128) {
    const a = v128.load(s), b = v128.load(s, 32), c = v128.load(s, 64), e = v128.load(s, 96);
    const p = v128.shuffle<f32>(a, b, 0, 4, 1, 5), q = v128.shuffle<f32>(c, e, 0, 4, 1, 5);
    const r = v128.shuffle<f32>(a, b, 2, 6, 3, 7), t = v128.shuffle<f32>(c, e, 2, 6, 3, 7);
    v128.store(d, v128.shuffle<f32>(p, q, 0, 1, 4, 5));
    v128.store(d, v128.shuffle<f32>(p, q, 2, 3, 6, 7), 32);
    v128.store(d, v128.shuffle<f32>(r, t, 0, 1, 4, 5), 64);
    v128.store(d, v128.shuffle<f32>(r, t, 2, 3, 6, 7), 96);
  }
}

/**
 * Outputs k0 to k0 + kb of W's transpose, as its panels p0 to p1 at d, each of K_BLOCK rows: what of W is together in memory is read
 * together. `spare` has room for 64 numbers.
 */
function transposePanels(format: i32, w: usize, scales: usize, inputs: i32, p0: i32, p1: i32, k0: i32, kb: i32, d: usize, spare: usize): void {
  const bits = format == Format.f32 ? 5 : 4, panel = <usize>inputs << bits, few = format == Format.int8 || format == Format.int8Fast;
  for (let k = few ? k0 + kb : k0; k < k0 + kb; k += 32) {
    const count = min(4, (k0 + kb - k + 7) >> 3);
    touch(w + <usize>(k >> 3) * panel + (<usize>p0 << bits + 3), panel, count, <usize>(min(p1 << 3, inputs) - (p0 << 3)) << bits, spare);
  }
  for (let k = k0; k < k0 + kb; k += 8, d += 256) {
    for (let p = p0, to = d; p < p1; p++, to += K_BLOCK << 5) {
      const i = p << 3, rows = min(8, inputs - i);
      const wide = format == Format.f32 ? w + (<usize>(k >> 3) * <usize>inputs + <usize>i << 5) : spare;
      if (format != Format.f32) widenBlock(format, w, scales, inputs, k >> 3, i, rows, spare);
      if (rows < 8) packRows(wide, 32, to, rows, 8, 8);
      else {
        transposeHalf(wide, to);
        transposeHalf(wide + 128, to + 16);
      }
    }
  }
}

/** Job with `InputGradientParam`: dx = dy · transpose(W). A chunk is some rows of dx and some panels of its columns. */
export function inputGradientJob(chunk: i32, thread: i32): void {
  const inputs = paramInt(InputGradientParam.inputs), outputs = paramInt(InputGradientParam.outputs), height = paramInt(InputGradientParam.tileRows), format = paramInt(InputGradientParam.format);
  const perBlock = paramInt(InputGradientParam.blockRows), perChunk = paramInt(InputGradientParam.chunkPanels), blockChunks = paramInt(InputGradientParam.blockChunks);
  const row0 = chunk / blockChunks * perBlock, m = min(perBlock, paramInt(InputGradientParam.rows) - row0);
  const p0 = chunk % blockChunks * perChunk, p1 = min(p0 + perChunk, (inputs + 7) >> 3);
  const sums = param(InputGradientParam.scratch) + <usize>thread * param(InputGradientParam.threadBytes), spare = sums + 192;
  const wide = spare + 256, c = wide + <usize>perChunk * (K_BLOCK << 5), step = <usize>perChunk << 5;
  const tiles = param(InputGradientParam.tiles) + (<usize>row0 * <usize>outputs << 2), cached = CACHED_ROWS / height * height;
  for (let k0 = 0; k0 < outputs; k0 += K_BLOCK) {
    const kb = min(K_BLOCK, outputs - k0);
    heartbeat();
    transposePanels(format, param(InputGradientParam.weights), param(InputGradientParam.columnScales), inputs, p0, p1, k0, kb, wide, spare);
    // Some rows at a time: they stay in the second-level cache for all panels, and each panel in the first-level cache for all of them.
    for (let first = 0; first < m; first += cached) {
      const end = min(first + cached, m);
      for (let p = p0; p < p1; p++) {
        const b = wide + <usize>(p - p0) * (K_BLOCK << 5);
        heartbeat();
        for (let i = first; i < end; i += height) {
          const count = min(height, end - i), a = tiles + (<usize>i * <usize>outputs + <usize>k0 * <usize>count << 2);
          const at = c + <usize>i * step + (<usize>(p - p0) << 5);
          if (!k0) tile(Format.f32, count, a, b, at, step, kb, ZEROS, 0);
          else {
            tile(Format.f32, count, a, b, sums, 32, kb, ZEROS, 0);
            addTile(sums, at, step, count);
          }
        }
      }
    }
  }
  if (!publish()) return;
  const stride = param(InputGradientParam.cStride), result = param(InputGradientParam.c) + <usize>row0 * stride;
  const whole = min(p1 << 3, inputs) - (p0 << 3), bytes = <usize>whole << 2;
  for (let i = 0; i < m; i++) memory.copy(result + <usize>i * stride + (<usize>p0 << 5), c + <usize>i * step, bytes);
}

/** Job with `BiasGradientParam`: db = sum + the sum of dy's rows, block by block. A chunk is some columns. */
export function biasGradientJob(chunk: i32): void {
  const columns = paramInt(BiasGradientParam.columns), stride = <usize>columns << 2, perChunk = paramInt(BiasGradientParam.chunkColumns);
  const ends = param(BiasGradientParam.blockEnds), blocks = paramInt(BiasGradientParam.blocks), before = param(BiasGradientParam.sum);
  for (let j = chunk * perChunk, end = min(j + perChunk, columns); j < end; j += 4) {
    const offset = <usize>j << 2;
    let total = before ? v128.load(before + offset) : f32x4.splat(0);
    let dy = param(BiasGradientParam.dy) + offset;
    for (let block = 0, row = 0; block < blocks; block++) {
      let low = f64x2.splat(0), high = low;
      for (const last = load<i32>(ends + (<usize>block << 2)); row < last; row++, dy += stride) {
        const v = v128.load(dy);
        low = f64x2.add(low, f64x2.promote_low_f32x4(v));
        high = f64x2.add(high, f64x2.promote_low_f32x4(v128.shuffle<i32>(v, v, 2, 3, 2, 3)));
      }
      const sum = v128.shuffle<i32>(f32x4.demote_f64x2_zero(low), f32x4.demote_f64x2_zero(high), 0, 1, 4, 5);
      total = f32x4.add(total, sum);
    }
    const y = param(BiasGradientParam.y) + offset;
    if (end - j >= 4) v128.store(y, total);
    else storeLanes(y, total, end - j);
  }
}

// ---- Layer norm and the activations.

const TABLE: usize = memory.data<f32>([0.7071067811865476, -0.5, 0.3989422804014327, 1.702], 16);

/** The slope of x / 2 * (1 + erf(x / sqrt 2)): the normal distribution up to x, and x times its density there. */
@inline function geluSlope(x: v128): v128 {
  const below = fma(half(), erf(f32x4.mul(x, v128.load_splat<f32>(TABLE))), half());
  const density = f32x4.mul(exp(f32x4.mul(f32x4.mul(x, x), v128.load_splat<f32>(TABLE, 4))), v128.load_splat<f32>(TABLE, 8));
  return fma(x, density, below);
}

/** The slope of x * sigmoid(1.702 x). */
@inline function quickGeluSlope(x: v128): v128 {
  const wide = f32x4.mul(x, v128.load_splat<f32>(TABLE, 12)), gate = sigmoid(wide);
  return f32x4.mul(gate, fma(wide, f32x4.sub(one(), gate), one()));
}

/** Job with `ActivationGradientParam`. A chunk is MAP_CHUNK numbers. */
export function activationGradientJob(chunk: i32): void {
  const from = chunk * MAP_CHUNK, n = min(MAP_CHUNK, paramInt(ActivationGradientParam.size) - from), offset = <usize>from << 2;
  let x = param(ActivationGradientParam.x) + offset, dy = param(ActivationGradientParam.dy) + offset, y = param(ActivationGradientParam.y) + offset;
  const quick = paramInt(ActivationGradientParam.activation) == Unary.QuickGelu;
  for (let i = 0; i < n; i += 4, x += 16, dy += 16, y += 16) {
    const v = v128.load(x), slope = quick ? quickGeluSlope(v) : geluSlope(v), result = f32x4.mul(v128.load(dy), slope);
    if (n - i >= 4) v128.store(y, result);
    else storeLanes(y, result, n - i);
  }
}

/** Sum of the four lanes in double precision. */
@inline function addLanes(v: v128): v128 {
  return f64x2.add(f64x2.promote_low_f32x4(v), f64x2.promote_low_f32x4(v128.shuffle<i32>(v, v, 2, 3, 2, 3)));
}

/** The first n (1 to 4) lanes; what is loaded past a row must not count. */
@inline function firstLanes(v: v128, n: i32): v128 {
  return n >= 4 ? v : v128.and(v, i32x4.gt_s(i32x4.splat(n), i32x4(0, 1, 2, 3)));
}

@inline function storeFirst(at: usize, v: v128, n: i32): void {
  if (n >= 4) v128.store(at, v);
  else storeLanes(at, v, n);
}

/** One row: dx, and what it adds to the slopes of gamma and beta. Sums over the row are in double precision, as forward (rows.ts). */
function normalizeRowBackward(x: usize, dy: usize, dx: usize, gamma: usize, n: i32, epsilon: f32, dGamma: usize, dBeta: usize): void {
  const middle = <f32>(sumRow(x, n) / <f64>n), variance = sumSquares(x, n, middle) / <f64>n;
  const mean = f32x4.splat(middle), factor = f32x4.splat(<f32>(1 / sqrt<f64>(variance + <f64>epsilon)));
  let plain = f64x2.splat(0), along = plain;
  for (let j = 0; j < n; j += 4) {
    const at = <usize>j << 2, left = n - j, normed = f32x4.mul(f32x4.sub(v128.load(x + at), mean), factor), d = v128.load(dy + at);
    const weighted = f32x4.mul(d, v128.load(gamma + at));
    plain = f64x2.add(plain, addLanes(firstLanes(weighted, left)));
    along = f64x2.add(along, addLanes(firstLanes(f32x4.mul(weighted, normed), left)));
    storeFirst(dGamma + at, fma(d, normed, v128.load(dGamma + at)), left);
    storeFirst(dBeta + at, f32x4.add(d, v128.load(dBeta + at)), left);
  }
  const meanPlain = f32x4.splat(<f32>((f64x2.extract_lane(plain, 0) + f64x2.extract_lane(plain, 1)) / <f64>n));
  const meanAlong = f32x4.splat(<f32>((f64x2.extract_lane(along, 0) + f64x2.extract_lane(along, 1)) / <f64>n));
  for (let j = 0; j < n; j += 4) {
    const at = <usize>j << 2, normed = f32x4.mul(f32x4.sub(v128.load(x + at), mean), factor);
    const weighted = f32x4.mul(v128.load(dy + at), v128.load(gamma + at));
    const rest = f32x4.sub(f32x4.sub(weighted, meanPlain), f32x4.mul(normed, meanAlong));
    storeFirst(dx + at, f32x4.mul(factor, rest), n - j);
  }
}

/** Job with `LayerNormGradientParam`. A chunk is a block of rows, whose sums for gamma and beta are a row of their own. */
export function layerNormGradientJob(chunk: i32): void {
  const n = paramInt(LayerNormGradientParam.columns), bytes = <usize>n << 2, ends = param(LayerNormGradientParam.blockEnds) + (<usize>chunk << 2);
  const dGamma = param(LayerNormGradientParam.gammaSums) + <usize>chunk * bytes, dBeta = param(LayerNormGradientParam.betaSums) + <usize>chunk * bytes;
  memory.fill(dGamma, 0, bytes);
  memory.fill(dBeta, 0, bytes);
  for (let r = chunk ? load<i32>(ends - 4) : 0; r < load<i32>(ends); r++) {
    const offset = <usize>r * bytes;
    normalizeRowBackward(
      param(LayerNormGradientParam.x) + offset, param(LayerNormGradientParam.dy) + offset, param(LayerNormGradientParam.dx) + offset,
      param(LayerNormGradientParam.gamma), n, paramFloat(LayerNormGradientParam.epsilon), dGamma, dBeta,
    );
  }
}

// ---- The backward pass of attention for one row of the batch and one head at a time. Queries are taken in blocks, whose weights are computed
// again, so that weights of all queries are never in memory together. What a block adds to the slopes of keys and values is summed from zero
// and then added to that of the blocks before, in order.

/** Queries of one block: a multiple of both tile heights. */
const QUERY_BLOCK: i32 = 60;

/** Room for the sums of one tile. */
const TILE_BYTES: usize = 192;

/** Filled up to whole panels. */
@inline function whole(n: i32): i32 {
  return (n + 7) & ~7;
}

/** Bytes of scratch that one thread needs, which may be more than there can be; asked by JavaScript. */
export function attentionGradientScratch(tokens: i32, columns: i32, width: i32): f64 {
  const wide = <f64>whole(width), all = <f64>whole(columns), block = <f64>QUERY_BLOCK;
  const keys = 2 * all * <f64>width + 3 * <f64>columns * wide, blocks = block * (2 * all + 2 * wide) + block * max(all, wide);
  return (keys + blocks + <f64>tokens * wide) * 4 + <f64>TILE_BYTES;
}

/** C [m, 8 * panels] = or += tiles · panels, in blocks of k (as multiply.ts). */
function product(tiles: usize, m: i32, k: i32, b: usize, panels: i32, c: usize, ldc: usize, more: bool, sums: usize): void {
  for (let k0 = 0; k0 < k; k0 += K_BLOCK) {
    const kb = min(K_BLOCK, k - k0);
    for (let p = 0; p < panels; p++) {
      const panel = b + (<usize>(p * k + k0) << 5);
      for (let i = 0; i < m; i += TILE_ROWS) {
        const rows = min(TILE_ROWS, m - i), a = tiles + (<usize>(i * k + k0 * rows) << 2), at = c + <usize>i * ldc + (<usize>p << 5);
        if (k0 || more) {
          tileF32(rows, a, panel, sums, 32, kb, ZEROS, 0);
          addTile(sums, at, ldc, rows);
        } else tileF32(rows, a, panel, at, ldc, kb, ZEROS, 0);
      }
    }
  }
}

/** A row of slopes by weights into slopes by scores: weight * (slope - the sum of weight * slope), all `n` a multiple of 4. */
@inline function scoreSlopes(weights: usize, slopes: usize, n: i32): void {
  let s = f64x2.splat(0), t = s;
  const bytes = <usize>n << 2;
  for (let j: usize = 0; j < bytes; j += 16) {
    const v = f32x4.mul(v128.load(weights + j), v128.load(slopes + j));
    s = f64x2.add(s, f64x2.promote_low_f32x4(v));
    t = f64x2.add(t, f64x2.promote_low_f32x4(v128.shuffle<i32>(v, v, 2, 3, 2, 3)));
  }
  s = f64x2.add(s, t);
  const total = f32x4.splat(<f32>(f64x2.extract_lane(s, 0) + f64x2.extract_lane(s, 1)));
  for (let j: usize = 0; j < bytes; j += 16) {
    v128.store(slopes + j, f32x4.mul(v128.load(weights + j), f32x4.sub(v128.load(slopes + j), total)));
  }
}

/** Weights [rows, all] of queries t0 and on, from their scores. */
@inline function weigh(weights: usize, row: i32, t0: i32, rows: i32, columns: i32, all: i32): void {
  const mask = param(AttentionGradientParam.mask), step = <usize>all << 2, bytes = <usize>columns << 2;
  for (let i = 0; i < rows; i++) {
    const at = weights + <usize>i * step;
    if (mask) {
      const own = mask + <usize>row * param(AttentionGradientParam.maskStride) + <usize>(t0 + i) * bytes;
      for (let j: usize = 0; j < bytes; j += 4) store<f32>(at + j, load<f32>(at + j) + load<f32>(own + j));
    }
    for (let j = columns; j < all; j++) store<f32>(at + (<usize>j << 2), -Infinity);
    scale(at, all, exponentials(at, all, all));
  }
}

/** [rows, width] at `from`, `stride` bytes apart, as rows without gaps. */
@inline function copyRows(from: usize, stride: usize, to: usize, rows: i32, bytes: usize): void {
  for (let i = 0; i < rows; i++) memory.copy(to + <usize>i * bytes, from + <usize>i * stride, bytes);
}

/** Job with `AttentionGradientParam`. A chunk is a row and a head. */
export function attentionGradientJob(chunk: i32, thread: i32): void {
  const T = paramInt(AttentionGradientParam.tokens), S = paramInt(AttentionGradientParam.columns), K = paramInt(AttentionGradientParam.width);
  const row = chunk / paramInt(AttentionGradientParam.heads), step = <usize>K << 2, factor = paramFloat(AttentionGradientParam.scale);
  const ofQueries = <usize>chunk * <usize>T * step, ofKeys = <usize>chunk * <usize>S * step;
  const q = param(AttentionGradientParam.q) + ofQueries, dy = param(AttentionGradientParam.dy) + ofQueries;
  const key = param(AttentionGradientParam.key) + ofKeys, value = param(AttentionGradientParam.value) + ofKeys;
  const wide = whole(K), all = whole(S), wideStep = <usize>wide << 2, allStep = <usize>all << 2, panels = wide >> 3;
  const sums = param(AttentionGradientParam.scratch) + <usize>thread * param(AttentionGradientParam.threadBytes);
  const transposedKeys = sums + TILE_BYTES, transposedValues = transposedKeys + <usize>all * step, keys = transposedValues + <usize>all * step;
  const dKey = keys + <usize>S * wideStep, dValue = dKey + <usize>S * wideStep, dQuery = dValue + <usize>S * wideStep;
  const weights = dQuery + <usize>T * wideStep, slopes = weights + <usize>QUERY_BLOCK * allStep, queryPanels = slopes + <usize>QUERY_BLOCK * allStep;
  const dyPanels = queryPanels + <usize>QUERY_BLOCK * wideStep, tiles = dyPanels + <usize>QUERY_BLOCK * wideStep;
  packPanelsTransposed(key, step, transposedKeys, K, S);
  packPanelsTransposed(value, step, transposedValues, K, S);
  packPanels(key, step, keys, S, K, S);
  for (let t0 = 0; t0 < T; t0 += QUERY_BLOCK) {
    const rows = min(QUERY_BLOCK, T - t0), at = <usize>t0 * step, later = t0 > 0;
    packTiles(q + at, step, tiles, 0, rows, K, TILE_ROWS);
    scale(tiles, rows * K, factor);
    product(tiles, rows, K, transposedKeys, all >> 3, weights, allStep, false, sums);
    weigh(weights, row, t0, rows, S, all);
    heartbeat();
    packTiles(dy + at, step, tiles, 0, rows, K, TILE_ROWS);
    product(tiles, rows, K, transposedValues, all >> 3, slopes, allStep, false, sums);
    for (let i = 0; i < rows; i++) scoreSlopes(weights + <usize>i * allStep, slopes + <usize>i * allStep, all);
    heartbeat();
    packTiles(slopes, allStep, tiles, 0, rows, S, TILE_ROWS);
    product(tiles, rows, S, keys, panels, dQuery + <usize>t0 * wideStep, wideStep, false, sums);
    scale(dQuery + <usize>t0 * wideStep, rows * wide, factor);
    heartbeat();
    packTilesTransposed(slopes, allStep, tiles, 0, S, rows, TILE_ROWS);
    packPanels(q + at, step, queryPanels, rows, K, rows);
    scale(queryPanels, rows * wide, factor);
    product(tiles, S, rows, queryPanels, panels, dKey, wideStep, later, sums);
    heartbeat();
    packTilesTransposed(weights, allStep, tiles, 0, S, rows, TILE_ROWS);
    packPanels(dy + at, step, dyPanels, rows, K, rows);
    product(tiles, S, rows, dyPanels, panels, dValue, wideStep, later, sums);
    heartbeat();
  }
  if (!publish()) return;
  copyRows(dQuery, wideStep, param(AttentionGradientParam.dQuery) + ofQueries, T, step);
  copyRows(dKey, wideStep, param(AttentionGradientParam.dKey) + ofKeys, S, step);
  copyRows(dValue, wideStep, param(AttentionGradientParam.dValue) + ofKeys, S, step);
}

// ---- The two ends of a language model: the loss of rows of logits with its slopes, and the slopes of an embedding table.

/**
 * Job with `CrossEntropyParam`. A chunk is a row: its loss, the sum of q * (log q - log p) over all words with q = `onLabel` on the label and
 * `elsewhere` on the others, and the slopes of the logits, (p - q) * factor.
 */
export function crossEntropyJob(chunk: i32): void {
  const n = paramInt(CrossEntropyParam.columns), offset = <usize>chunk * <usize>n << 2;
  const x = param(CrossEntropyParam.x) + offset, y = param(CrossEntropyParam.y) + offset;
  const label = <usize>load<i32>(param(CrossEntropyParam.labels) + (<usize>chunk << 2)) << 2;
  const onLabel = paramFloat(CrossEntropyParam.onLabel), elsewhere = paramFloat(CrossEntropyParam.elsewhere), factor = paramFloat(CrossEntropyParam.factor);
  const most = largestOf(x, n), ofLabel = <f64>load<f32>(x + label) - <f64>most;
  // Before y, which may be x.
  const all = elsewhere > 0 ? sumRow(x, n) - <f64>most * <f64>n : 0;
  const share = exponentialsOf(x, y, n, most), normalizer = -Math.log(<f64>share);
  const cross = <f64>(onLabel - elsewhere) * (ofLabel - normalizer) + <f64>elsewhere * (all - <f64>n * normalizer);
  store<f32>(param(CrossEntropyParam.losses) + (<usize>chunk << 2), <f32>((<f64>paramFloat(CrossEntropyParam.entropy) - cross) * <f64>factor));
  const p = load<f32>(y + label) * share, shares = f32x4.splat(share), others = f32x4.splat(elsewhere), factors = f32x4.splat(factor);
  for (let i = 0, at = y; i < n; i += 4, at += 16) {
    const v = f32x4.mul(f32x4.sub(f32x4.mul(v128.load(at), shares), others), factors);
    if (n - i >= 4) v128.store(at, v);
    else storeLanes(at, v, n - i);
  }
  store<f32>(y + label, (p - onLabel) * factor);
}

/** Job with `EmbeddingGradientParam`: sum + each row of dy, in order, at the row of its id. A chunk is some rows of the table. */
export function embeddingGradientJob(chunk: i32): void {
  const perChunk = paramInt(EmbeddingGradientParam.chunkRows), from = chunk * perChunk, to = min(from + perChunk, paramInt(EmbeddingGradientParam.rows));
  const bytes = <usize>paramInt(EmbeddingGradientParam.columns) << 2, sum = param(EmbeddingGradientParam.sum);
  const y = param(EmbeddingGradientParam.y), ids = param(EmbeddingGradientParam.ids), padding = paramInt(EmbeddingGradientParam.padding);
  const start = y + <usize>from * bytes, size = <usize>(to - from) * bytes;
  if (sum) memory.copy(start, sum + <usize>from * bytes, size);
  else memory.fill(start, 0, size);
  for (let i = 0, n = paramInt(EmbeddingGradientParam.count); i < n; i++) {
    const id = load<i32>(ids + (<usize>i << 2));
    if (id < from || id >= to || id == padding) continue;
    const row = y + <usize>id * bytes, dy = param(EmbeddingGradientParam.dy) + <usize>i * bytes;
    let j: usize = 0;
    for (; j + 16 <= bytes; j += 16) v128.store(row + j, f32x4.add(v128.load(row + j), v128.load(dy + j)));
    for (; j < bytes; j += 4) store<f32>(row + j, load<f32>(row + j) + load<f32>(dy + j));
  }
}
