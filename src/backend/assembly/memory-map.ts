// Where the kernels and JavaScript meet in memory. The same numbers stand in ../memory-map.ts.
//
//     0 ..  1023   never used, so that a null pointer is a bug one can see
//  1024 ..         constant tables of the kernels (--memoryBase 1024)
// 32768 ..         control block of the thread pool, one cache line per word
// 33792 ..         parameters of the current job: 256 words
// 65536 ..         heap

export const CONTROL: usize = 32768;
export const PARAMETERS: usize = 33792;

/** Integer or address parameter `i` of the current job. */
@inline export function param(i: i32): usize {
  return load<usize>(PARAMETERS + (<usize>i << 2));
}

/** Signed parameter `i`. */
@inline export function paramInt(i: i32): i32 {
  return load<i32>(PARAMETERS + (<usize>i << 2));
}

/** Float parameter `i`. */
@inline export function paramFloat(i: i32): f32 {
  return load<f32>(PARAMETERS + (<usize>i << 2));
}

/** Float parameter `i` in all four lanes. */
@inline export function paramLanes(i: i32): v128 {
  return v128.load_splat<f32>(PARAMETERS + (<usize>i << 2));
}
