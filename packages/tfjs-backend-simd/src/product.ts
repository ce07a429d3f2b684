import {
  FAST_K_BLOCK,
  INT8_K_BLOCK,
  Job,
  K_BLOCK,
  LinearParam,
  MAP_CHUNK,
  MapParam,
  PackTilesParam,
  RoundBytesParam,
  RoundTilesParam,
  STREAM_ROWS,
  Unary,
} from './abi.js';
import type { KernelContext } from './kernel-context.js';
import { FORMATS, hasScales, packedBytes, type WeightFormat } from './tensor-memory.js';
import { floatBits, parametersOf } from './thread-pool.js';

/** The right-hand side of a product, in panels. */
export interface Panels {
  readonly format: WeightFormat;
  readonly address: number;
  /** One a column, for int8 and int8-fast; 0 otherwise. */
  readonly scales: number;
}

/** C[m, n] = activation(A · B + bias); addresses and leading dimensions in bytes. */
export interface Product {
  readonly m: number;
  readonly k: number;
  readonly n: number;
  readonly a: number;
  /** From row to row of A, or of its transpose. */
  readonly lda: number;
  /** A is stored as [k, m]. */
  readonly transposed?: boolean;
  readonly b: Panels;
  readonly c: number;
  readonly ldc: number;
  /** [n], or 0. */
  readonly bias?: number;
  readonly activation?: keyof typeof Unary | undefined;
}

/** Rows of one block of A: with 768 columns it stays in the second-level cache. */
export const BLOCK_ROWS = 204;
/** What a block of a widened panel of 8 columns needs: float32 (assembly/multiply.ts), or 16-bit words (int8.ts). */
const WIDENED_BYTES = Math.max(K_BLOCK * 4, INT8_K_BLOCK * 2) * 8;
/** Panels of a chunk above STREAM_ROWS rows at most: what is read of a block of A is used for all of them. */
const CHUNK_PANELS = 16;
/** Chunks that a thread should have of a product above STREAM_ROWS rows, so that threads end together. */
const CHUNKS_EACH = 4;
/** Bytes of weights in a chunk up to STREAM_ROWS rows, but four panels at least: some 5 microseconds, so that an int8 matrix of 768 x 768 has enough to share. */
const CHUNK_BYTES = 65_536;
/** Panels of such a chunk where there is one thread: the longer the quarters that are read side by side, the better they are foreseen. */
const CHUNK_PANELS_ALONE = 512;
/** f16 weights are decoded 2^102 too small, against rows 2^102 too large: rows with numbers near 2^26 would overflow. */
const F16_FACTOR = 2 ** 102;
const F16_LIMIT = 2 ** 25;

/** Panels of 8 columns that one chunk takes: whole fours of them, which are read at once. */
function panelsPerChunk({ m, k, n, b }: Product, threads: number): number {
  const stepBytes = b.format === 'f32' ? 32 : hasScales(b.format) ? 8 : 16;
  const all = Math.ceil(n / 8);
  let wanted = CHUNK_BYTES / (k * stepBytes);
  if (m > STREAM_ROWS) wanted = Math.min(all / (threads * CHUNKS_EACH), CHUNK_PANELS);
  else if (threads === 1) wanted = CHUNK_PANELS_ALONE;
  return Math.min(Math.max(4, Math.round(wanted / 4) * 4), all);
}

/** What is packed into tiles: A [m, k], or its transpose. */
export type Left = Pick<Product, 'm' | 'k' | 'a' | 'lda' | 'transposed'>;

/** Rows of the tiles of A, all of one height: 8 rows are two tiles of 4, not one of 6 and one of 2, whose sums would wait for each other. */
export const tileHeight = (backend: KernelContext, m: number): number =>
  Math.ceil(m / Math.ceil(m / backend.kernels.tileRows()));

/** A in tiles of rows (assembly/pack.ts). A single row is its own tile. */
export function packLeft(backend: KernelContext, { m, k, a, lda, transposed = false }: Left, tileRows: number): number {
  if (m === 1 && !transposed) return a;
  const tiles = backend.scratch(m * k * 4);
  const perChunk = tileRows * 8;
  const parameters = parametersOf(PackTilesParam, {
    a,
    aStride: lda,
    tiles,
    rows: m,
    k,
    transposed: transposed ? 1 : 0,
    chunkRows: perChunk,
    tileRows,
  });
  backend.pool.run(Job.packTiles, Math.ceil(m / perChunk), parameters);
  return tiles;
}

/** `x`, `size` numbers, times 2^102. */
function raised(backend: KernelContext, x: number, size: number): number {
  const y = backend.scratch(size * 4);
  const parameters = parametersOf(MapParam, {
    operation: Unary.Affine,
    x,
    y,
    size,
    first: floatBits(F16_FACTOR),
    second: 0,
  });
  backend.pool.run(Job.map, Math.ceil(size / MAP_CHUNK), parameters);
  return y;
}

/** f16 panels as f32 panels, for the rare rows that would overflow. */
function widened(backend: KernelContext, { k, n, b }: Product): Panels {
  const [plain, panels] = [backend.scratch(k * n * 4), backend.scratch(packedBytes('f32', k, n))];
  backend.kernels.unpackWeight(FORMATS[b.format], b.address, b.scales, plain, n, k);
  backend.kernels.packPanels(plain, n * 4, panels, k, n, k);
  return { format: 'f32', address: panels, scales: 0 };
}

/** One product on any number of rows; nothing is done where C is empty, and A · B is 0 where k is. */
export function multiply(backend: KernelContext, product: Product): void {
  multiplyAll(backend, [product]);
}

/** Products of the same rows: all have the same m, k, a and lda. The rows are packed, or rounded, once for all of them. */
export function multiplyAll(backend: KernelContext, products: readonly Product[]): void {
  // A convolution, or a batch, has many products: each gives its scratch memory back.
  backend.part(() => {
    const rows = rowsOf(backend, products[0]!);
    for (const product of products) {
      const { m, k, n, b, transposed } = product;
      if (m === 0 || n === 0) continue;
      if (k === 0) fillWithBias(backend, product);
      else if (b.format === 'int8' && !transposed) multiplyInt8(backend, product, rows);
      else if (b.format === 'int8-fast' && !transposed) multiplyFast(backend, product, rows);
      else multiplyFloats(backend, product, rows);
    }
  });
}

/** The rows of a product as its kernels read them, made when they are first asked for. */
interface Rows {
  /** Float32 in tiles of `tileRows` rows. */
  readonly tileRows: number;
  readonly tiles: () => number;
  /** The same times 2^102, for f16; undefined where they would overflow. */
  readonly raised: () => number | undefined;
  /** Rounded to 16 bits, and the scale of each. */
  readonly rounded: () => Rounded;
  /** Rounded to 7 bits, with the scale and the zero of each block. */
  readonly bytes: () => Rounded;
}

/** Rows in integers; `zeros` belong to int8-fast. */
interface Rounded {
  readonly tileRows: number;
  readonly tiles: number;
  readonly scales: number;
  readonly zeros: number;
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

function rowsOf(backend: KernelContext, product: Product): Rows {
  const { m, k } = product;
  const tileRows = tileHeight(backend, m);
  const tiles = once(() => packLeft(backend, product, tileRows));
  return {
    tileRows,
    tiles,
    raised: once(() => {
      const packed = tiles();
      backend.pool.settle();
      return backend.kernels.largest(packed, m * k) < F16_LIMIT ? raised(backend, packed, m * k) : undefined;
    }),
    rounded: once(() => roundLeft(backend, product)),
    bytes: once(() => roundToBytes(backend, product)),
  };
}

/** What is left of a product over nothing. */
function fillWithBias(backend: KernelContext, { m, n, c, ldc, bias = 0, activation }: Product): void {
  backend.pool.settle();
  for (let row = c; row < c + m * ldc; row += ldc) {
    const target = backend.view(row, n, 'float32');
    if (bias > 0) target.set(backend.view(bias, n, 'float32'));
    else target.fill(0);
    if (activation === undefined) continue;
    const parameters = { operation: Unary[activation], x: row, y: row, size: n, first: 0, second: 0 };
    backend.pool.run(Job.map, Math.ceil(n / MAP_CHUNK), parametersOf(MapParam, parameters));
  }
}

function multiplyFloats(backend: KernelContext, product: Product, rows: Rows): void {
  const { m, b } = product;
  if (hasScales(b.format)) runLinear(backend, product, rows.tiles(), widened(backend, product), rows.tileRows, 0);
  else if (b.format === 'f16' && m <= STREAM_ROWS) {
    const tiles = rows.raised();
    if (tiles !== undefined) runLinear(backend, product, tiles, b, rows.tileRows, 0);
    else runLinear(backend, product, rows.tiles(), widened(backend, product), rows.tileRows, 0);
  } else runLinear(backend, product, rows.tiles(), b, rows.tileRows, 0);
}

/** int8 weights: the sums are exact integers. */
function multiplyInt8(backend: KernelContext, product: Product, rows: Rows): void {
  const { tiles, scales, tileRows } = rows.rounded();
  runLinear(backend, product, tiles, product.b, tileRows, scales);
}

/** int8-fast weights: so are these, of fewer bits. */
function multiplyFast(backend: KernelContext, product: Product, rows: Rows): void {
  const { tiles, scales, zeros, tileRows } = rows.bytes();
  runLinear(backend, product, tiles, product.b, tileRows, scales, zeros);
}

/** A rounded to 7 bits, one scale a row and block, in tiles. */
function roundToBytes(backend: KernelContext, { m, k, a }: Product): Rounded {
  const tileRows = tileHeight(backend, m);
  const rowBytes = Math.ceil(k / 16) * 16;
  const blocks = Math.ceil(k / FAST_K_BLOCK);
  const [tiles, scales, zeros] = [m * rowBytes, blocks * m * 4, blocks * m * 4].map((bytes) => backend.scratch(bytes));
  const [perChunk, perThread] = [tileRows * 4, tileRows * rowBytes];
  const parameters = parametersOf(RoundBytesParam, {
    a,
    rows: m,
    k,
    tiles: tiles!,
    tileRows,
    rowScales: scales!,
    rowZeros: zeros!,
    scratch: backend.scratch(perThread * backend.pool.threads),
    threadBytes: perThread,
    chunkRows: perChunk,
  });
  backend.pool.run(Job.roundBytes, Math.ceil(m / perChunk), parameters);
  return { tileRows, tiles: tiles!, scales: scales!, zeros: zeros! };
}

/** A rounded to 16 bits, one scale a row, in tiles. */
function roundLeft(backend: KernelContext, { m, k, a }: Product): Rounded {
  const tileRows = backend.kernels.int8TileRows();
  const rowBytes = Math.ceil(k / 2) * 4;
  const [tiles, scales, perChunk] = [backend.scratch(m * rowBytes), backend.scratch(m * 4), tileRows * 4];
  const perThread = tileRows * rowBytes;
  const scratch = backend.scratch(perThread * backend.pool.threads);
  const parameters = parametersOf(RoundTilesParam, {
    a,
    rows: m,
    k,
    tiles,
    rowScales: scales,
    scratch,
    threadBytes: perThread,
    chunkRows: perChunk,
  });
  backend.pool.run(Job.roundTiles, Math.ceil(m / perChunk), parameters);
  return { tileRows, tiles, scales, zeros: 0 };
}

/** The product itself. Blocks of rows, all of one size, are whole tiles of at most BLOCK_ROWS rows. */
function runLinear(
  backend: KernelContext,
  product: Product,
  tiles: number,
  panels: Panels,
  tileRows: number,
  rowScales: number,
  rowZeros = 0,
): void {
  const { m, k, n, c, ldc, bias = 0, activation } = product;
  const perChunk = panelsPerChunk(product, backend.pool.threads);
  const chunksPerBlock = Math.ceil(Math.ceil(n / 8) / perChunk);
  const blocks = Math.ceil(m / BLOCK_ROWS);
  const blockRows = Math.ceil(m / (blocks * tileRows)) * tileRows;
  // What the kernels want, and at the end a block for the results of a chunk.
  const perThread = blockRows * 32 * (1 + perChunk) + WIDENED_BYTES + 512;
  const scratch = backend.scratch(perThread * backend.pool.threads);
  const order = m <= STREAM_ROWS ? orderOf(panels.format, m) : undefined;
  const parameters = parametersOf(LinearParam, {
    tiles,
    rows: m,
    k,
    weights: panels.address,
    format: FORMATS[panels.format],
    columnScales: panels.scales,
    columns: n,
    c,
    cStride: ldc,
    bias,
    activation: activation === undefined ? -1 : Unary[activation],
    scratch,
    threadBytes: perThread,
    chunkPanels: perChunk,
    blockRows,
    blockChunks: chunksPerBlock,
    rowScales,
    tileRows,
    rowZeros,
    dots: rowZeros > 0 ? backend.dots : 0,
    panelsAtOnce: order?.panels ?? 4,
  });
  const timed = order !== undefined && !order.decided && packedBytes(panels.format, k, n) >= LEAST_BYTES;
  if (timed) backend.pool.settle();
  const start = timed ? performance.now() : 0;
  backend.pool.run(Job.linear, chunksPerBlock * Math.ceil(m / blockRows), parameters);
  if (!timed) return;
  backend.pool.settle();
  order.took(performance.now() - start, k * 2 ** 26 + n);
}

/** Panels of weights that a product of few rows reads side by side: one after the other is what some processors foresee, four what others need. */
export type PanelsAtOnce = 1 | 4;

/** Pairs of equal products after which the trial may end: some of two steps of a decoder, each with both orders. */
const PAIRS = 37;
/** Pairs after which it ends however little one is ahead. */
const MOST_PAIRS = 10 * PAIRS;
/** It ends when one is ahead by so many times what chance does to it. */
const CLEAR_LEAD = 2.5;
/** Fewer bytes of weights are over before a clock has seen them. */
const LEAST_BYTES = 2 ** 18;

/**
 * In which order one kind of product reads its weights: both in turns, until one has won clearly more pairs than the other (what else the machine does
 * holds up either), then always that one. Sums do not depend on it, only time does.
 */
export class ReadingOrder {
  private chosen: PanelsAtOnce | undefined;
  private turn: PanelsAtOnce = 4;
  /** What the last product of each kind took with four panels, until one with one panel is compared with it. */
  private readonly ofFour = new Map<number, number>();
  private pairs = 0;
  /** Pairs that four panels won, less those that they lost. */
  private lead = 0;

  /** What the next product takes. */
  get panels(): PanelsAtOnce {
    return this.chosen ?? this.turn;
  }

  get decided(): boolean {
    return this.chosen !== undefined;
  }

  /** Reports what it took; products of one `kind` are equal in size. */
  took(time: number, kind = 0): void {
    if (this.chosen !== undefined) return;
    const turn = this.turn;
    this.turn = turn === 4 ? 1 : 4;
    const other = this.ofFour.get(kind);
    if (turn === 4) this.ofFour.set(kind, time);
    if (turn === 4 || other === undefined) return;
    this.ofFour.delete(kind);
    this.lead += Math.sign(time - other);
    this.pairs++;
    const clear = Math.abs(this.lead) > CLEAR_LEAD * Math.sqrt(this.pairs);
    if (this.pairs % PAIRS === 0 && (clear || this.pairs >= MOST_PAIRS)) this.use(this.lead < 0 ? 1 : 4);
  }

  /** Ends the trial. */
  use(panels: PanelsAtOnce): void {
    this.chosen = panels;
  }
}

/** One for the single rows of each format, and one for several: of the process, as the machine is. */
const orders: ReadingOrder[] = [];

export function orderOf(format: WeightFormat, rows: number): ReadingOrder {
  const kind = 2 * FORMATS[format] + (rows > 1 ? 1 : 0);
  orders[kind] ??= new ReadingOrder();
  return orders[kind];
}
