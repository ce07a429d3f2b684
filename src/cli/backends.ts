/** Names of Node's backends, apart from their code, so that `--help` does not load TensorFlow.js. A test compares them with the door's. */
export const BACKENDS = ['auto', 'simd', 'wasm', 'cpu', 'webgpu', 'node', 'node-gpu'];

/** How weights can be kept; compared likewise. */
export const WEIGHT_FORMATS = ['f32', 'bf16', 'f16', 'int8'];
