import type { engine, Tensor, TensorInfo } from '@tensorflow/tfjs-core';
import type { ParamSink, WeightFormat } from 'tfjs-backend-simd';
import { scaleFinder, toBrainBits, toHalfBits, toInt8 } from '../checkpoint/encode-tensor.js';
import { componentsOf, readRows, run, sizeOf, storeRows, type TensorData, type WebGpuBackend } from './program.js';

/** Formats of linear weights in the GPU's memory. WGSL reads halves in pairs (`unpack2x16float`), so that no optional feature is needed. */
export const WEBGPU_WEIGHT_FORMATS = ['f32', 'bf16', 'f16', 'int8'] as const satisfies readonly WeightFormat[];
type Format = (typeof WEBGPU_WEIGHT_FORMATS)[number];

/** A weight [in, out] as kernels read it. */
export interface Weight {
  readonly format: Format;
  /** f32: the tensor itself. Otherwise int32 words: a row for each input, its outputs filled up with zeros to a multiple of 4; then int8's scales. */
  readonly words: TensorInfo;
}

const packedWeights = new WeakMap<object, Weight>();

/** The packed numbers of a weight that `startParam` made, else the tensor's own. */
export const weightOf = (tensor: TensorInfo): Weight =>
  packedWeights.get(tensor.dataId) ?? { format: 'f32', words: tensor };

/** Components of the array in which a weight of `columns` outputs is read. */
export const weightComponents = ({ format }: Weight, columns: number): 1 | 2 | 4 =>
  format === 'f32' ? componentsOf(columns) : format === 'int8' ? 1 : 2;

/**
 * WGSL: `readWeight(k, quad)` is numbers 4 · quad to 4 · quad + 3 of row k of the array `w`, and `scaleOf(quad)` what their sums are to be
 * multiplied with. `uniforms.k` and `uniforms.n` are the weight's shape.
 */
export function readWeight({ format }: Weight, columns: number): string {
  const quads = '((uniforms.n + 3) / 4)';
  const head = `fn scaleOf(quad : i32) -> vec4<f32> { return vec4<f32>(1.0); }
    fn readWeight(k : i32, quad : i32) -> vec4<f32> {`;
  switch (format) {
    case 'f32':
      return `fn scaleOf(quad : i32) -> vec4<f32> { return vec4<f32>(1.0); }
        ${readRows('readWeight', 'w', 'uniforms.n', componentsOf(columns))}`;
    case 'f16':
      return `${head}
        let pairs = bitcast<vec2<u32>>(w[k * ${quads} + quad]);
        return vec4<f32>(unpack2x16float(pairs.x), unpack2x16float(pairs.y)); }`;
    case 'bf16': // the upper half of a float32
      return `${head}
        let pairs = bitcast<vec2<u32>>(w[k * ${quads} + quad]).xxyy;
        return bitcast<vec4<f32>>((pairs << vec4<u32>(16u, 0u, 16u, 0u)) & vec4<u32>(0xffff0000u)); }`;
    case 'int8':
      return `fn scaleOf(quad : i32) -> vec4<f32> {
        let at = uniforms.k * ${quads} + quad * 4;
        return bitcast<vec4<f32>>(vec4<i32>(w[at], w[at + 1], w[at + 2], w[at + 3])); }
      fn readWeight(k : i32, quad : i32) -> vec4<f32> {
        return vec4<f32>((vec4<i32>(w[k * ${quads} + quad]) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u)); }`;
  }
}

/**
 * What tfjs's backend holds of a packed weight: float32 [in, out], made when another kernel or a reader asks for it. Kernels of ours never do; the
 * plain path of tests does.
 */
class UnpackedOnDemand implements TensorData {
  values: unknown = null;
  readonly dtype = 'float32';
  refCount = 1;
  private unpacked: TensorInfo | undefined;

  constructor(
    private readonly backend: WebGpuBackend,
    private readonly weight: Weight,
    readonly shape: readonly number[],
  ) {}

  /** tfjs reads this once more when it frees the tensor: there is no reference to it then, and nothing to be freed but what lies behind. */
  get resource(): unknown {
    if (this.refCount === 0) {
      for (const held of [this.weight.words, this.unpacked])
        if (held !== undefined) this.backend.disposeData(held.dataId);
      return null;
    }
    this.unpacked ??= unpack(this.backend, this.weight, this.shape);
    return this.backend.tensorMap.get(this.unpacked.dataId).resource;
  }
}

function unpack(backend: WebGpuBackend, weight: Weight, shape: readonly number[]): TensorInfo {
  const [k, n] = shape as [number, number];
  const [threads, quads] = [64, Math.ceil(n / 4)];
  return run(backend, {
    key: `GitUnpackWeight ${weight.format}`,
    inputs: [['w', weight.words, weightComponents(weight, n)]],
    output: backend.makeTensorInfo([k, n], 'float32'),
    components: componentsOf(n),
    integers: { k, n },
    workgroup: [threads, 1],
    groups: [Math.ceil(quads / threads), k],
    code: () => `
      ${readWeight(weight, n)}
      ${storeRows('uniforms.n', componentsOf(n))}
      fn main() {
        let quad = i32(workgroupId.x) * ${threads} + i32(localIndex);
        let k = i32(workgroupId.y);
        if (quad * 4 < uniforms.n) { store(k, quad, readWeight(k, quad) * scaleOf(quad)); }
      }`,
  });
}

/** Numbers of one output channel after another, as files have them, into rows of one input each. */
function transposeInto(
  target: Float32Array | Uint16Array | Int8Array,
  stride: number,
  numbers: Float32Array | Uint16Array | Int8Array,
  inputs: number,
  firstChannel: number,
): void {
  const channels = numbers.length / inputs;
  for (let begin = 0; begin < channels; begin += STRIP) {
    const end = Math.min(channels, begin + STRIP);
    for (let k = 0; k < inputs; k++) {
      const at = k * stride + firstChannel;
      for (let channel = begin; channel < end; channel++) target[at + channel] = numbers[channel * inputs + k]!;
    }
  }
}

/** Channels that are transposed at once: as many lines of cache are read in turn. */
const STRIP = 32;

const ARRAYS = { f32: Float32Array, bf16: Uint16Array, f16: Uint16Array, int8: Int8Array } as const;

/** Sizes from which on a number would be rounded to infinity. */
const TOO_LARGE: Readonly<Record<Format, number>> = {
  f32: Number.POSITIVE_INFINITY,
  bf16: 2 ** 128 - 2 ** 119,
  f16: 65520,
  int8: Number.POSITIVE_INFINITY,
};

/**
 * Begins a parameter that a file has as `shape`, as `startParam` of tfjs-backend-simd does: of a linear weight [out, in] the packed numbers go to the
 * GPU when all have come, and the tensor reads as float32 [in, out]. Undefined for convolutions.
 */
export function startParam(
  backend: WebGpuBackend,
  tfjs: ReturnType<typeof engine>,
  shape: readonly number[],
  layout: string,
  format: Format,
): ParamSink | undefined {
  const make = (data: TensorData, dims: readonly number[]): Tensor => {
    const dataId = {};
    backend.tensorMap.set(dataId, data);
    return tfjs.makeTensorFromDataId(dataId, [...dims], 'float32', tfjs.backend);
  };
  if (layout === 'linear') return startWeight(backend, shape as [number, number], format, make);
  if (layout === 'conv2d') return undefined;
  const values = new Float32Array(sizeOf(shape));
  const tensor = make({ values, dtype: 'float32', shape, refCount: 1 }, shape);
  return {
    dtypes: ['F32'],
    tensor,
    add({ data }, first) {
      values.set(data, first);
      return largest(data) < Number.POSITIVE_INFINITY ? undefined : 'non-finite';
    },
  };
}

function startWeight(
  backend: WebGpuBackend,
  [outputs, inputs]: readonly [number, number],
  format: Format,
  make: (data: TensorData, dims: readonly number[]) => Tensor,
): ParamSink {
  const dims = [inputs, outputs];
  const stride = format === 'f32' ? outputs : Math.ceil(outputs / 4) * 4;
  const numbers = new ARRAYS[format](inputs * stride + (format === 'int8' ? stride * 4 : 0));
  const scales = format === 'int8' ? new Float32Array(numbers.buffer, inputs * stride, stride) : undefined;
  const finish = (): void => {
    if (format !== 'f32') backend.uploadToGPU(words!.dataId);
  };
  const words =
    format === 'f32'
      ? undefined
      : backend.makeTensorInfo([numbers.byteLength / 4], 'int32', new Int32Array(numbers.buffer));
  const data: TensorData =
    words === undefined
      ? { values: numbers, dtype: 'float32', shape: dims, refCount: 1 }
      : new UnpackedOnDemand(backend, { format, words }, dims);
  const tensor = make(data, dims);
  if (words !== undefined) packedWeights.set(tensor.dataId, { format, words });
  return {
    dtypes: format === 'int8' ? ['F32', 'I8'] : ['F32'],
    tensor,
    add(given, first) {
      const channel = first / inputs;
      let found = given.data;
      if (found instanceof Int8Array && given.scales !== undefined) {
        if (found.includes(-128)) return 'int8-range'; // files of int8 weights leave it out
        scales!.set(given.scales.subarray(channel, channel + found.length / inputs), channel);
      } else {
        const most = largest(found);
        if (!(most < Number.POSITIVE_INFINITY)) return 'non-finite';
        if (most >= TOO_LARGE[format]) return 'too-large';
        const floats = found as Float32Array;
        if (format === 'f16') found = toHalfBits(floats);
        else if (format === 'bf16') found = toBrainBits(floats);
        else if (format === 'int8') {
          const own = [floats.length / inputs, inputs];
          const finder = scaleFinder(own);
          finder.add(floats, 0);
          found = toInt8(floats, 0, own, finder.scales());
          scales!.set(finder.scales(), channel);
        }
      }
      transposeInto(numbers, stride, found, inputs, channel);
      if (first + found.length === inputs * outputs) finish();
      return undefined;
    },
  };
}

/** The largest size; infinite where there is a NaN. */
function largest(values: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < values.length; i++) {
    const size = Math.abs(values[i]!);
    if (!(size <= most)) most = Number.isNaN(size) ? Number.POSITIVE_INFINITY : size;
  }
  return most;
}
