/** GIT's vision tower as an ONNX model, written here so that the comparison with onnxruntime needs no Python and no export. */
import type { TensorMap } from '../src/checkpoint/stored-tensor.js';
import type { VisionConfig } from '../src/index.js';

// ---- protobuf (https://protobuf.dev/programming-guides/encoding): fields in the order in which they are written

type Bytes = Uint8Array<ArrayBuffer>;

/** A message under construction: pieces that are joined once, because weights are large. */
class Message {
  readonly pieces: Bytes[] = [];
  size = 0;

  private push(...pieces: Bytes[]): this {
    for (const piece of pieces) {
      this.pieces.push(piece);
      this.size += piece.length;
    }
    return this;
  }

  private tag(field: number, wire: number): this {
    return this.varint(field * 8 + wire);
  }

  private varint(value: number): this {
    const bytes: number[] = [];
    for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
    return this.push(Uint8Array.from([...bytes, value]));
  }

  /** A whole number from 0 on; below 0 only -1, as protobuf's ten bytes. */
  int(field: number, value: number): this {
    this.tag(field, 0);
    return value < 0 ? this.push(Uint8Array.from([...new Array<number>(9).fill(255), 1])) : this.varint(value);
  }

  float(field: number, value: number): this {
    return this.tag(field, 5).push(new Uint8Array(Float32Array.of(value).buffer));
  }

  bytes(field: number, bytes: Bytes): this {
    return this.tag(field, 2).varint(bytes.length).push(bytes);
  }

  text(field: number, text: string): this {
    return this.bytes(field, new TextEncoder().encode(text));
  }

  message(field: number, message: Message): this {
    return this.tag(field, 2)
      .varint(message.size)
      .push(...message.pieces);
  }

  join(): Bytes {
    const all = new Uint8Array(this.size);
    let at = 0;
    for (const piece of this.pieces) {
      all.set(piece, at);
      at += piece.length;
    }
    return all;
  }
}

// ---- ONNX (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto): the numbers of its fields

const DTYPE = { float: 1, uint8: 2, int8: 3, int64: 7 } as const;
const KIND = { float: 1, int: 2, ints: 7 } as const;

/** Of a node: numbers with a fraction are floats (`epsilon`), whole ones integers. */
type Attributes = Readonly<Record<string, number | readonly number[]>>;

function attribute(name: string, value: number | readonly number[]): Message {
  const message = new Message().text(1, name);
  if (typeof value !== 'number') {
    for (const n of value) message.int(8, n);
    return message.int(20, KIND.ints);
  }
  return Number.isInteger(value)
    ? message.int(3, value).int(20, KIND.int)
    : message.float(2, value).int(20, KIND.float);
}

/** A graph under construction: operators return the name of their result. */
class Graph {
  private readonly message = new Message();
  private count = 0;

  op(type: string, inputs: readonly string[], attributes: Attributes = {}, outputs = 1): string[] {
    const node = new Message();
    for (const input of inputs) node.text(1, input);
    const names = Array.from({ length: outputs }, () => `x${this.count++}`);
    for (const name of names) node.text(2, name);
    node.text(4, type);
    for (const [name, value] of Object.entries(attributes)) node.message(5, attribute(name, value));
    this.message.message(1, node);
    return names;
  }

  one(type: string, inputs: readonly string[], attributes: Attributes = {}): string {
    return this.op(type, inputs, attributes)[0]!;
  }

  constant(dtype: keyof typeof DTYPE, shape: readonly number[], data: ArrayBufferView<ArrayBuffer>): string {
    const name = `w${this.count++}`;
    const tensor = new Message();
    for (const size of shape) tensor.int(1, size);
    tensor.int(2, DTYPE[dtype]).text(8, name);
    tensor.bytes(9, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    this.message.message(5, tensor);
    return name;
  }

  floats(shape: readonly number[], values: readonly number[] | Float32Array<ArrayBuffer>): string {
    return this.constant('float', shape, Float32Array.from(values));
  }

  /** The model: float32 `pixels` to float32 `features`. */
  model(input: readonly number[], result: string, output: readonly number[]): Bytes {
    const value = (name: string, shape: readonly number[]) => {
      const sizes = new Message();
      for (const size of shape) sizes.message(1, new Message().int(1, size));
      const tensor = new Message().int(1, DTYPE.float).message(2, sizes);
      return new Message().text(1, name).message(2, new Message().message(1, tensor));
    };
    this.message.message(1, new Message().text(1, result).text(2, 'features').text(4, 'Identity'));
    this.message.text(2, 'encoder').message(11, value('pixels', input)).message(12, value('features', output));
    const opset = new Message().text(1, '').int(2, 17);
    return new Message().int(1, 8).text(2, 'generative-image2text').message(7, this.message).message(8, opset).join();
  }
}

// ---- the vision tower

/** `int8`: weights symmetric with a scale for each output channel, activations rounded to 8 bits at run time, as onnxruntime's `quantize_dynamic` writes it. */
export type OnnxFormat = 'f32' | 'int8';

const transposed = (values: Float32Array, rows: number, columns: number): Float32Array<ArrayBuffer> => {
  const result = new Float32Array(values.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) result[c * rows + r] = values[r * columns + c]!;
  return result;
};

/** [out, in] as int8 [in, out] with the scale of each output. */
function quantized(values: Float32Array, outputs: number, inputs: number) {
  const [numbers, scales] = [new Int8Array(values.length), new Float32Array(outputs)];
  for (let o = 0; o < outputs; o++) {
    const row = values.subarray(o * inputs, (o + 1) * inputs);
    const largest = row.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    scales[o] = largest / 127;
    for (let i = 0; i < inputs; i++) numbers[i * outputs + o] = largest > 0 ? Math.round((row[i]! * 127) / largest) : 0;
  }
  return { numbers, scales };
}

/**
 * The vision tower of `config` for one image of its own size: pixels float32 [1, 3, height, width] → features [1, I, D]. `weights` has the names
 * of the checkpoint behind `prefix`.
 */
export async function onnxEncoder(
  config: VisionConfig,
  weights: TensorMap,
  prefix: string,
  format: OnnxFormat,
): Promise<Bytes> {
  const { hiddenSize: D, intermediateSize, numAttentionHeads: H, patchSize: P, imageSize, imageTokens: I } = config;
  const graph = new Graph();
  const read = async (name: string) => new Float32Array((await weights.get(prefix + name)!.read()).slice().buffer);
  const add = (a: string, b: string) => graph.one('Add', [a, b]);
  const parameter = async (name: string) => {
    const values = await read(name);
    return graph.floats([values.length], values);
  };
  const norm = async (x: string, name: string) =>
    graph.one('LayerNormalization', [x, await parameter(`${name}.weight`), await parameter(`${name}.bias`)], {
      axis: -1,
      epsilon: config.layerNormEps,
    });
  /** Several linear layers of one x, which is rounded once for all of them. */
  const linears = async (x: string, inputs: number, outputs: number, names: readonly string[]) => {
    const [rounded, scale, zero] = format === 'int8' ? graph.op('DynamicQuantizeLinear', [x], {}, 3) : [];
    const results: string[] = [];
    for (const name of names) {
      const values = await read(`${name}.weight`);
      let product: string;
      if (format === 'f32') {
        product = graph.one('MatMul', [x, graph.floats([inputs, outputs], transposed(values, outputs, inputs))]);
      } else {
        const { numbers, scales } = quantized(values, outputs, inputs);
        const nothing = graph.constant('int8', [outputs], new Int8Array(outputs));
        const weight = graph.constant('int8', [inputs, outputs], numbers);
        const sums = graph.one('MatMulInteger', [rounded!, weight, zero!, nothing]);
        const factor = graph.one('Mul', [scale!, graph.floats([outputs], scales)]);
        product = graph.one('Mul', [graph.one('Cast', [sums], { to: DTYPE.float }), factor]);
      }
      results.push(add(product, await parameter(`${name}.bias`)));
    }
    return results;
  };
  const one = async (...given: Parameters<typeof linears>) => (await linears(...given))[0]!;
  const shape = (sizes: readonly number[]) =>
    graph.constant('int64', [sizes.length], BigInt64Array.from(sizes.map(BigInt)));
  const attention = async (x: string, name: string) => {
    const [q, k, v] = await linears(
      x,
      D,
      D,
      ['q_proj', 'k_proj', 'v_proj'].map((part) => `${name}.${part}`),
    );
    const heads = (part: string, perm: readonly number[]) =>
      graph.one('Transpose', [graph.one('Reshape', [part, shape([1, I, H, D / H])])], { perm });
    const scaled = graph.one('Mul', [heads(q!, [0, 2, 1, 3]), graph.floats([], [1 / Math.sqrt(D / H)])]);
    const odds = graph.one('Softmax', [graph.one('MatMul', [scaled, heads(k!, [0, 2, 3, 1])])], { axis: -1 });
    const seen = graph.one('Transpose', [graph.one('MatMul', [odds, heads(v!, [0, 2, 1, 3])])], { perm: [0, 2, 1, 3] });
    return one(graph.one('Reshape', [seen, shape([1, I, D])]), D, D, [`${name}.out_proj`]);
  };
  const mlp = async (x: string, name: string) => {
    const wide = await one(x, D, intermediateSize, [`${name}.fc1`]);
    const gate = graph.one('Sigmoid', [graph.one('Mul', [wide, graph.floats([], [1.702])])]);
    return one(graph.one('Mul', [wide, gate]), intermediateSize, D, [`${name}.fc2`]);
  };

  const kernel = graph.floats([D, 3, P, P], await read('embeddings.patch_embedding.weight'));
  const cells = graph.one('Conv', ['pixels', kernel], { kernel_shape: [P, P], strides: [P, P] });
  const patches = graph.one('Transpose', [graph.one('Reshape', [cells, shape([1, D, I - 1])])], { perm: [0, 2, 1] });
  const classToken = graph.floats([1, 1, D], await read('embeddings.class_embedding'));
  const positions = graph.floats([1, I, D], await read('embeddings.position_embedding.weight'));
  let x = await norm(add(graph.one('Concat', [classToken, patches], { axis: 1 }), positions), 'pre_layrnorm');
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    const name = `encoder.layers.${layer}`;
    x = add(x, await attention(await norm(x, `${name}.layer_norm1`), `${name}.self_attn`));
    x = add(x, await mlp(await norm(x, `${name}.layer_norm2`), `${name}.mlp`));
  }
  return graph.model([1, 3, imageSize, imageSize], await norm(x, 'post_layernorm'), [1, I, D]);
}
