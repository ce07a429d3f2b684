import type { DataType, TensorInfo } from '@tensorflow/tfjs-core';

/** What is used of tfjs's WebGPUBackend. Its package is an optional peer, so that neither its code nor its types are imported. */
export interface WebGpuBackend {
  readonly tensorMap: { get(dataId: object): TensorData; set(dataId: object, data: TensorData): void };
  makeTensorInfo(shape: number[], dtype: DataType, values?: Int32Array): TensorInfo;
  disposeData(dataId: object): boolean;
  uploadToGPU(dataId: object): void;
  runWebGPUProgram(
    program: Program,
    inputs: readonly TensorInfo[],
    dtype: DataType,
    uniforms: readonly { readonly type: 'int32' | 'float32'; readonly data: number[] }[],
    output: TensorInfo,
  ): TensorInfo;
}

/** What tfjs's backend knows of a tensor's numbers: those that are not on the GPU yet, or the buffer that holds them. */
export interface TensorData {
  values: unknown;
  readonly dtype: DataType;
  readonly shape: readonly number[];
  refCount: number;
  resource?: unknown;
}

/** A WGSL program as tfjs's backend runs it: it declares the buffers and the uniforms, and calls `main()` in every invocation. */
interface Program {
  readonly shaderKey: string;
  readonly variableNames: string[];
  readonly variableComponents: number[];
  readonly outputComponent: number;
  readonly outputShape: number[];
  readonly uniforms: string;
  readonly workgroupSize: [number, number, number];
  readonly dispatch: [number, number, number];
  readonly dispatchLayout: { readonly x: number[]; readonly y: number[]; readonly z: number[] };
  getUserCode(): string;
}

/** One dispatch: WGSL with what it reads and writes, each buffer a flat array of vectors of `components` numbers. */
export interface Pass {
  /** Names the code with all that it depends on but shapes: a pipeline is compiled for each key, once. */
  readonly key: string;
  /** Has `fn main()`; sees the inputs by their names, `result`, `uniforms`, `localId`, `localIndex`, `workgroupId` and `numWorkgroups`. */
  code(): string;
  readonly inputs: readonly Input[];
  readonly output: TensorInfo;
  /** Components of `result`. */
  readonly components: 1 | 4;
  readonly integers: Readonly<Record<string, number>>;
  readonly floats?: Readonly<Record<string, number>>;
  readonly workgroup: readonly [number, number];
  readonly groups: readonly [number, number];
}

type Input = readonly [name: string, tensor: TensorInfo, components: 1 | 2 | 4];

/** A class, because tfjs's profile shows the name of a program's class. */
class GitProgram implements Program {
  readonly shaderKey: string;
  readonly variableNames: string[];
  readonly variableComponents: number[];
  readonly outputComponent: number;
  readonly outputShape: number[];
  readonly uniforms: string;
  readonly workgroupSize: [number, number, number];
  readonly dispatch: [number, number, number];
  /** Of another rank than the output, so that tfjs derives no coordinates: the code does. */
  readonly dispatchLayout = { x: [0], y: [1], z: [2] };
  readonly getUserCode: () => string;

  constructor(pass: Pass, size: number) {
    const { inputs, integers, floats = {} } = pass;
    this.variableNames = inputs.map(([name]) => name);
    this.variableComponents = inputs.map(([, , components]) => components);
    this.outputComponent = pass.components;
    this.shaderKey = `${pass.key} ${this.variableComponents}>${pass.components}`;
    this.outputShape = [size];
    this.uniforms = [
      ...Object.keys(integers).map((name) => `${name} : i32, `),
      ...Object.keys(floats).map((name) => `${name} : f32, `),
    ].join('');
    this.workgroupSize = [...pass.workgroup, 1];
    this.dispatch = [...pass.groups, 1];
    this.getUserCode = () => pass.code();
  }
}

/** Records a pass in the backend's command encoder; tfjs submits it with others, and keeps its pipeline. Returns the output. */
export function run(backend: WebGpuBackend, pass: Pass): TensorInfo {
  const size = sizeOf(pass.output.shape);
  const uniforms = [
    ...Object.values(pass.integers).map((value) => ({ type: 'int32' as const, data: [value] })),
    ...Object.values(pass.floats ?? {}).map((value) => ({ type: 'float32' as const, data: [value] })),
  ];
  const inputs = pass.inputs.map(([, tensor]) => flat(tensor));
  backend.runWebGPUProgram(new GitProgram(pass, size), inputs, pass.output.dtype, uniforms, flat(pass.output));
  return pass.output;
}

/** Shapes are uniforms of ours, where code needs them: tfjs's would compile a pipeline for every rank. */
const flat = ({ dataId, shape, dtype }: TensorInfo): TensorInfo => ({ dataId, shape: [sizeOf(shape)], dtype });

export const sizeOf = (shape: readonly number[]): number => shape.reduce((size, n) => size * n, 1);

/** May rows of that many numbers be read and written as vectors of four? */
export const isAligned = (length: number): boolean => length % 4 === 0;

export const componentsOf = (length: number): 1 | 4 => (isAligned(length) ? 4 : 1);

/** WGSL: `NAME(row, quad)` is numbers 4 · quad to 4 · quad + 3 of a row of ARRAY, whose rows have `length` (WGSL) numbers; 0 after its end. */
export function readRows(name: string, array: string, length: string, components: 1 | 2 | 4): string {
  const body =
    components === 4
      ? `return ${array}[row * (${length} / 4) + quad];`
      : `let at = row * ${length} + quad * 4;
         let left = ${length} - quad * 4;
         return vec4<f32>(${array}[at], select(0.0, ${array}[at + 1], left > 1), select(0.0, ${array}[at + 2], left > 2),
           select(0.0, ${array}[at + 3], left > 3));`;
  return `fn ${name}(row : i32, quad : i32) -> vec4<f32> { ${body} }\n`;
}

/** WGSL: `store(row, quad, v)`, the counterpart of `readRows`. */
export function storeRows(length: string, components: 1 | 4): string {
  const body =
    components === 4
      ? `result[row * (${length} / 4) + quad] = v;`
      : `for (var i = 0; i < min(4, ${length} - quad * 4); i++) { result[row * ${length} + quad * 4 + i] = v[i]; }`;
  return `fn store(row : i32, quad : i32, v : vec4<f32>) { ${body} }\n`;
}

/** WGSL: `NAME(x)` is x of all `threads` invocations of a workgroup put together by `operation`, a tree; all must call it. */
export function reduceAcross(name: string, threads: number, operation: (a: string, b: string) => string): string {
  return `
    var<workgroup> ${name}Parts : array<f32, ${threads}>;
    fn ${name}(x : f32) -> f32 {
      ${name}Parts[localIndex] = x;
      workgroupBarrier();
      for (var step = ${threads / 2}u; step > 0u; step /= 2u) {
        if (localIndex < step) {
          ${name}Parts[localIndex] = ${operation(`${name}Parts[localIndex]`, `${name}Parts[localIndex + step]`)};
        }
        workgroupBarrier();
      }
      let all = ${name}Parts[0];
      workgroupBarrier();
      return all;
    }`;
}

/** A rule of the caller's that is broken is a bug, not an input of a user's. */
export function check(holds: boolean, message: () => string): asserts holds {
  if (!holds) throw new Error(message());
}

export const shapesOf = (...tensors: readonly (TensorInfo | undefined)[]): string =>
  tensors.map((tensor) => (tensor === undefined ? '-' : `[${tensor.shape}]`)).join(', ');
