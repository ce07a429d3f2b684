// Where the kernels and JavaScript meet in memory. The same numbers stand in ../memory-map.ts.
//
//     0 ..  1023   never used, so that a null pointer is a bug one can see
//  1024 ..         constant tables of the kernels (--memoryBase 1024)
// 32768 ..         control block of the thread pool, one cache line per word
// 33792 ..         parameters of the current job: 128 words
// 34816 ..         a block for each helper: its state, its pulse, its copy of the parameters
// 65536 ..         heap

export const CONTROL: usize = 32768;
export const PARAMETERS: usize = 33792;
export const PARAMETER_BYTES: usize = 512;
export const HELPERS: usize = 34816;
export const HELPER_BYTES: usize = 640;

/** Helpers read a copy: the caller may be at its next job before they notice that theirs is over. */
let parameters: usize = PARAMETERS;
export function readParametersAt(at: usize): void {
  parameters = at;
}

/** Integer or address parameter `i` of the current job. */
@inline export function param(i: i32): usize {
  return load<usize>(parameters + (<usize>i << 2));
}

/** Signed parameter `i`. */
@inline export function paramInt(i: i32): i32 {
  return load<i32>(parameters + (<usize>i << 2));
}

/** Float parameter `i`. */
@inline export function paramFloat(i: i32): f32 {
  return load<f32>(parameters + (<usize>i << 2));
}

/** Float parameter `i` in all four lanes. */
@inline export function paramLanes(i: i32): v128 {
  return v128.load_splat<f32>(parameters + (<usize>i << 2));
}
