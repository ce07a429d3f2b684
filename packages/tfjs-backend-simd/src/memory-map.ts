/** Addresses that the kernels and JavaScript agree on; assembly/memory-map.ts has the other half. */

/** Parameters of the current job, 128 words. */
export const PARAMETERS = 33792;

/** A block for each helper; its first word is its state, 0 while it waits for a job. */
export const HELPERS = 34816;
export const HELPER_BYTES = 640;
/** There is room for so many. */
export const MOST_HELPERS = 48;

/** First address of the heap. */
export const HEAP_START = 65536;

/** Words at which the shapes of a copy job begin in its parameters. */
export const COPY_DIMS = 16;
export const COPY_SOURCE = 32;
export const COPY_TARGET = 48;

/** Number of each job in assembly/jobs.ts. */
export const JOB = {
  map: 0,
  zip: 1,
  reduce: 2,
  softmax: 3,
  layerNorm: 4,
  copy: 5,
  packTiles: 6,
  linear: 7,
  roundTiles: 8,
  attention: 9,
} as const;

/** Number of each unary operation in assembly/elementwise.ts. */
export const UNARY = {
  Abs: 0,
  Neg: 1,
  Sqrt: 2,
  Rsqrt: 3,
  Square: 4,
  Exp: 5,
  Sigmoid: 6,
  Tanh: 7,
  Erf: 8,
  Relu: 9,
  Gelu: 10,
  QuickGelu: 11,
  Reciprocal: 12,
  Floor: 13,
  Ceil: 14,
  ClipByValue: 15,
  Affine: 16,
} as const;

/** Elements in one chunk of a unary job. */
export const MAP_CHUNK = 16384;

/** Number of each binary operation in assembly/elementwise.ts, by the type of its operands. */
export const BINARY = {
  float32: { Add: 0, Sub: 1, Multiply: 2, RealDiv: 3, Maximum: 4, Minimum: 5, SquaredDifference: 6 },
  int32: { Add: 7, Sub: 8, Maximum: 9, Minimum: 10 },
} as const;

/** Number of each weight format in assembly/pack.ts. */
export const FORMAT = { f32: 0, bf16: 1, f16: 2, int8: 3 } as const;

/** How weights stand in memory. */
export type WeightFormat = keyof typeof FORMAT;
