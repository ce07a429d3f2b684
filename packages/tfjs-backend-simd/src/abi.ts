// What TypeScript and the compiled kernels agree on: this file is compiled by both (AssemblyScript reads it as `./abi`), so every
// number is written once, here. It must stay within what both languages have in common: constants and enums.
//
// Memory:
//     0 ..  1023   never used, so that a null pointer is a bug one can see
//  1024 ..         constant tables of the kernels (--memoryBase 1024)
// 32768 ..         control block of the thread pool, one cache line per word
// 33792 ..         parameters of the current job
// 34816 ..         a block for each worker: its state, its heartbeat, its copy of the parameters
// 65536 ..         jobs that wait, to be run one after the other in one go
// 131072 ..        heap

export const CONTROL = 32768;
export const PARAMETERS = 33792;
/** Room for 128 words of 32 bits. */
export const PARAMETER_BYTES = 512;
/** A block for each worker; its first word is its state, 0 while it waits for a job. */
export const WORKERS = 34816;
export const WORKER_BYTES = 640;
export const MAX_WORKERS = 48;
/** Of each job that waits: which it is, its chunks and its kind (thread-pool.ts), three words; from its second cache line on, its parameters. */
export const WAITING = 65536;
export const WAITING_BYTES = 576;
export const MAX_WAITING = 113;
export const HEAP_START = 131072;

/** Elements in one chunk of `Job.map`. */
export const MAP_CHUNK = 16384;
/** Rows up to which weights are read once and decoded in registers; above, they are widened to float32 first. */
export const STREAM_ROWS = 8;
/** Steps of k whose products are summed from zero before they are added to the sums of the steps before: a short sum is more exact. */
export const K_BLOCK = 256;
/** The same for int8, whose sums are exact: 32 bits have room for so many products of 16 and 8 bits. */
export const INT8_K_BLOCK = 512;
/** The same for int8-fast, whose rows have a scale for each block. */
export const FAST_K_BLOCK = 384;
/** Dimensions that one `Job.copy` has room for. */
export const COPY_RANK = 16;

export enum Job {
  map,
  zip,
  reduce,
  softmax,
  layerNorm,
  copy,
  packTiles,
  linear,
  roundTiles,
  roundBytes,
  attention,
  packPanels,
  weightGradient,
  inputGradient,
  biasGradient,
  layerNormGradient,
  activationGradient,
  adamW,
  squares,
  attentionGradient,
  crossEntropy,
  embeddingGradient,
  logSum,
  topTokens,
  appendColumns,
}

/** How weights are stored. */
export enum Format {
  f32,
  bf16,
  f16,
  int8,
  int8Fast,
}

/** How four products of bytes are added to a sum of 32 bits; all give the same. */
export enum Dots {
  /** With the instructions that every machine has. */
  plain,
  /** Relaxed SIMD: two products to 16 bits, then to 32. */
  pairs,
  /** Relaxed SIMD: four products and the sum in one. */
  whole,
}

/** Operations on one float32, by the names of tfjs's kernels where there is one. */
export enum Unary {
  Abs,
  Neg,
  Sqrt,
  Rsqrt,
  Square,
  Exp,
  Sigmoid,
  Tanh,
  Erf,
  Relu,
  Gelu,
  QuickGelu,
  Reciprocal,
  Floor,
  Ceil,
  ClipByValue,
  Affine,
}

/** Operations on two float32, by the names of tfjs's kernels; those on two int32 follow. */
export enum Binary {
  Add,
  Sub,
  Multiply,
  RealDiv,
  Maximum,
  Minimum,
  SquaredDifference,
  AddInt,
  SubInt,
  MaximumInt,
  MinimumInt,
}

export enum Reduction {
  Sum,
  Mean,
  Max,
  Min,
}

// The parameters of each job, by name. Addresses and strides (`…Step`, `…Stride`, `…Bytes`) are in bytes, 0 is "none"; `epsilon` and those
// marked float are the 32 bits of a float32 (`floatBits`), all others integers. `threadBytes` is each thread's part of `scratch`.

/** y[i] = operation(x[i]). A chunk is MAP_CHUNK elements. */
export enum MapParam {
  operation,
  x,
  y,
  size,
  /** Float: the lower limit of ClipByValue, the factor of Affine. */
  first,
  /** Float: the upper limit of ClipByValue, what Affine adds. */
  second,
}

/** Rows of y = operation(a, b). A step is 1, or 0 where that side repeats a single element. */
export enum ZipParam {
  operation,
  a,
  b,
  y,
  columns,
  aStride,
  bStride,
  aElementStep,
  bElementStep,
  rows,
  chunkRows,
}

/** One number for each row of x. */
export enum ReduceParam {
  reduction,
  x,
  y,
  rows,
  columns,
  chunkRows,
}

export enum SoftmaxParam {
  x,
  y,
  rows,
  columns,
  chunkRows,
}

export enum LayerNormParam {
  x,
  residual,
  gamma,
  beta,
  y,
  rows,
  columns,
  epsilon,
  chunkRows,
  scratch,
  threadBytes,
}

/**
 * Elements of 1 or 4 bytes from one pattern of strides to another. From `dims`, `sourceStrides` and `targetStrides` on there are `rank`
 * words each. A chunk is one index of dimension 0 where the rank is above 2, and all there is otherwise.
 */
export enum CopyParam {
  source,
  target,
  elementBytes,
  rank,
  dims = 16,
  sourceStrides = 32,
  targetStrides = 48,
}

/** A [rows, k] float32, or its transpose [k, rows], into tiles of `tileRows` rows. */
export enum PackTilesParam {
  a,
  aStride,
  tiles,
  rows,
  k,
  transposed,
  chunkRows,
  tileRows,
}

/** Rows rounded to 16 bits, with a scale each, into tiles for int8 weights. */
export enum RoundTilesParam {
  a,
  rows,
  k,
  tiles,
  rowScales,
  scratch,
  threadBytes,
  chunkRows,
}

/** Rows rounded to 7 bits, with a scale for each block of FAST_K_BLOCK, into tiles for int8-fast weights. */
export enum RoundBytesParam {
  a,
  rows,
  k,
  tiles,
  tileRows,
  /** [blocks, rows] float32. */
  rowScales,
  /** [blocks, rows] int32: in the lower half the number that the byte 0 stands for, in steps of the scale; the upper half is 0. */
  rowZeros,
  scratch,
  threadBytes,
  chunkRows,
}

/** C [rows, columns] = activation(A · weights + bias). */
export enum LinearParam {
  tiles,
  rows,
  k,
  weights,
  /** A `Format`. */
  format,
  /** Of the columns, for int8 and int8-fast. */
  columnScales,
  columns,
  c,
  cStride,
  bias,
  /** A `Unary`, or -1. */
  activation,
  scratch,
  threadBytes,
  chunkPanels,
  /** Rows of one block of A, whole tiles. */
  blockRows,
  blockChunks,
  /** Of the rows, for int8; of the blocks of rows, for int8-fast. */
  rowScales,
  tileRows,
  /** Of the blocks of rows, for int8-fast. */
  rowZeros,
  /** A `Dots`, for int8-fast. */
  dots,
  /** Up to STREAM_ROWS rows: 4 to read four panels of weights side by side, 1 to read one after the other. */
  panelsAtOnce,
}

/** softmax(q · keyᵀ · scale + mask) · value over an image's columns and a text's. A chunk is one row and head. */
export enum AttentionParam {
  q,
  key,
  value,
  imageKey,
  imageValue,
  mask,
  out,
  rows,
  heads,
  tokens,
  textColumns,
  /** Of one head. */
  width,
  images,
  imageColumns,
  /** From the mask of one row to that of the next; 0 where all share one. */
  maskStride,
  scratch,
  threadBytes,
  /** Float: 1 / sqrt(width). */
  scale,
}

/** Of each row of x its largest number and the sum of exp(x - largest), as float64. A chunk is a row. */
export enum LogSumParam {
  x,
  /** [rows, 2] float64. */
  y,
  columns,
}

/** The best words of each row of logits. A chunk is a row. */
export enum TopTokensParam {
  x,
  columns,
  /** At most `columns`. */
  count,
  /** [rows, count] int32. */
  ids,
  /** From row to row `logitStride`. */
  logits,
  logitStride,
  /** [rows] float64, where log-probabilities in float32 rank; 0 where logits do. */
  normalizers,
}

// ---- the backward pass: jobs of assembly/backward.ts. `blockEnds` are int32: after which row each block of rows that is summed ends.

/** float32 [rows, columns] into panels of 8 columns. */
export enum PackPanelsParam {
  b,
  bStride,
  panels,
  rows,
  columns,
  chunkRows,
}

/** The gradient of a weight [inputs, outputs], in panels: sum + transpose(x) · dy. */
export enum WeightGradientParam {
  /** The transpose of x, in tiles. */
  tiles,
  /** dy, in panels. */
  panels,
  /** Panels that are added, or 0. */
  sum,
  c,
  inputs,
  outputs,
  /** Of x and dy. */
  rows,
  blockEnds,
  blocks,
  scratch,
  threadBytes,
  /** Rows of the gradient in one chunk: whole tiles. */
  blockRows,
  chunkPanels,
  blockChunks,
  tileRows,
}

/** dx [rows, inputs] = dy · transpose(W). */
export enum InputGradientParam {
  /** dy, in tiles. */
  tiles,
  rows,
  outputs,
  weights,
  /** A `Format`. */
  format,
  /** Of the outputs, for int8. */
  columnScales,
  inputs,
  c,
  cStride,
  scratch,
  threadBytes,
  blockRows,
  chunkPanels,
  blockChunks,
  tileRows,
}

/** y = sum + the sum over the rows of dy. */
export enum BiasGradientParam {
  dy,
  sum,
  y,
  columns,
  chunkColumns,
  blockEnds,
  blocks,
}

/** dx, and for each block of rows what it adds to the gradients of gamma and beta. A chunk is a block. */
export enum LayerNormGradientParam {
  x,
  dy,
  gamma,
  dx,
  columns,
  epsilon,
  /** [blocks, columns] each. */
  gammaSums,
  betaSums,
  blockEnds,
}

/** y = dy · slope of the activation (a `Unary`) at x. A chunk is MAP_CHUNK elements. */
export enum ActivationGradientParam {
  activation,
  x,
  dy,
  y,
  size,
}

/** AdamW on `size` numbers, maybe where they are; all from `scale` to `rate` are floats. A chunk is MAP_CHUNK elements. */
export enum AdamWParam {
  x,
  gradient,
  /** Moments before, or 0. */
  oldFirst,
  oldSecond,
  y,
  first,
  second,
  size,
  /** Factor of the gradient. */
  scale,
  /** 1 - beta1 and beta2, 1 - beta2. */
  firstRate,
  beta2,
  secondRate,
  /** 1 - learning rate · decay. */
  shrink,
  /** 1 / sqrt(1 - beta2^step). */
  rootFactor,
  epsilon,
  /** Learning rate / (1 - beta1^step). */
  rate,
  scratch,
  threadBytes,
}

/** A float64 at y for each MAP_CHUNK elements of x. */
export enum SquaresParam {
  x,
  y,
  size,
}

/** The gradients of attention over a text's columns; mask, width and scale as in `AttentionParam`. A chunk is one row and head. */
export enum AttentionGradientParam {
  q,
  key,
  value,
  mask,
  maskStride,
  dy,
  dQuery,
  dKey,
  dValue,
  heads,
  tokens,
  columns,
  width,
  scratch,
  threadBytes,
  scale,
}

/** Losses of rows of logits against their labels, and the slopes. A chunk is a row. */
export enum CrossEntropyParam {
  x,
  /** int32, one a row. */
  labels,
  y,
  /** One a row. */
  losses,
  columns,
  /** Float: the wanted share of the label, and of every other word. */
  onLabel,
  elsewhere,
  /** Float: the sum of q * log q over a row. */
  entropy,
  /** Float: what losses and slopes are multiplied by. */
  factor,
}

/** The gradient of an embedding table [rows, columns]. */
export enum EmbeddingGradientParam {
  /** int32, one for each row of dy. */
  ids,
  count,
  dy,
  sum,
  y,
  rows,
  columns,
  /** The id that gets no gradient, or -1. */
  padding,
  chunkRows,
}

/** `rows` times `pastBytes` from `past`, then `freshBytes` from `fresh`, to `target`. One chunk. */
export enum AppendColumnsParam {
  past,
  fresh,
  target,
  rows,
  pastBytes,
  freshBytes,
}
