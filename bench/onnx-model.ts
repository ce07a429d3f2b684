/** GIT as ONNX models, written here so that the comparison with onnxruntime needs no Python and no export. */
import type { TensorMap } from '../src/checkpoint/stored-tensor.js';
import type { GitConfig, VisionConfig } from '../src/index.js';

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

  input(name: string, sizes: readonly Size[], dtype: keyof typeof DTYPE = 'float'): string {
    this.message.message(11, valueInfo(name, dtype, sizes));
    return name;
  }

  output(name: string, value: string, sizes: readonly Size[]): void {
    this.message.message(1, new Message().text(1, value).text(2, name).text(4, 'Identity'));
    this.message.message(12, valueInfo(name, 'float', sizes));
  }

  model(): Bytes {
    this.message.text(2, 'git');
    const opset = new Message().text(1, '').int(2, 17);
    return new Message().int(1, 8).text(2, 'generative-image2text').message(7, this.message).message(8, opset).join();
  }
}

/** A number, or the name of a size that is known at run time only. */
type Size = number | string;

function valueInfo(name: string, dtype: keyof typeof DTYPE, sizes: readonly Size[]): Message {
  const shape = new Message();
  for (const size of sizes) {
    shape.message(1, typeof size === 'number' ? new Message().int(1, size) : new Message().text(2, size));
  }
  const tensor = new Message().int(1, DTYPE[dtype]).message(2, shape);
  return new Message().text(1, name).message(2, new Message().message(1, tensor));
}

// ---- the model

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

/** Layers of a checkpoint as parts of a graph. */
function createLayers(graph: Graph, weights: TensorMap, format: OnnxFormat) {
  const read = async (name: string) => new Float32Array((await weights.get(name)!.read()).slice().buffer);
  const shape = (sizes: readonly number[]) =>
    graph.constant('int64', [sizes.length], BigInt64Array.from(sizes.map(BigInt)));
  const add = (a: string, b: string) => graph.one('Add', [a, b]);
  const parameter = async (name: string) => {
    const values = await read(name);
    return graph.floats([values.length], values);
  };
  const norm = async (x: string, name: string, epsilon: number) =>
    graph.one('LayerNormalization', [x, await parameter(`${name}.weight`), await parameter(`${name}.bias`)], {
      axis: -1,
      epsilon,
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
  /** [1, T, H·K] → [1, H, T, K]. */
  const heads = (x: string, tokens: number, count: number, width: number) =>
    graph.one('Transpose', [graph.one('Reshape', [x, shape([1, tokens, count, width])])], { perm: [0, 2, 1, 3] });
  /** [1, H, T, K] → [1, T, H·K]. */
  const merge = (x: string, tokens: number, width: number) =>
    graph.one('Reshape', [graph.one('Transpose', [x], { perm: [0, 2, 1, 3] }), shape([1, tokens, width])]);
  const swapped = (x: string) => graph.one('Transpose', [x], { perm: [0, 1, 3, 2] });
  return { read, shape, add, parameter, norm, linears, one, heads, merge, swapped };
}

type Layers = ReturnType<typeof createLayers>;

/** The vision tower of `config` for one image of its own size: pixels float32 [1, 3, height, width] → features [1, I, D]. */
async function visionTower(graph: Graph, layers: Layers, config: VisionConfig): Promise<string> {
  const { hiddenSize: D, intermediateSize, numAttentionHeads: H, patchSize: P, imageSize, imageTokens: I } = config;
  const { add, linears, one, heads, merge, swapped, shape } = layers;
  const PREFIX = 'git.image_encoder.vision_model.';
  const read = (name: string) => layers.read(PREFIX + name);
  const norm = (x: string, name: string) => layers.norm(x, PREFIX + name, config.layerNormEps);
  const attention = async (x: string, name: string) => {
    const parts = ['q_proj', 'k_proj', 'v_proj'].map((part) => `${PREFIX}${name}.${part}`);
    const [q, k, v] = (await linears(x, D, D, parts)).map((part) => heads(part, I, H, D / H));
    const scaled = graph.one('Mul', [q!, graph.floats([], [1 / Math.sqrt(D / H)])]);
    const odds = graph.one('Softmax', [graph.one('MatMul', [scaled, swapped(k!)])], { axis: -1 });
    return one(merge(graph.one('MatMul', [odds, v!]), I, D), D, D, [`${PREFIX}${name}.out_proj`]);
  };
  const mlp = async (x: string, name: string) => {
    const wide = await one(x, D, intermediateSize, [`${PREFIX}${name}.fc1`]);
    const gate = graph.one('Sigmoid', [graph.one('Mul', [wide, graph.floats([], [1.702])])]);
    return one(graph.one('Mul', [wide, gate]), intermediateSize, D, [`${PREFIX}${name}.fc2`]);
  };

  const pixels = graph.input('pixels', [1, 3, imageSize, imageSize]);
  const kernel = graph.floats([D, 3, P, P], await read('embeddings.patch_embedding.weight'));
  const cells = graph.one('Conv', [pixels, kernel], { kernel_shape: [P, P], strides: [P, P] });
  const patches = graph.one('Transpose', [graph.one('Reshape', [cells, shape([1, D, I - 1])])], { perm: [0, 2, 1] });
  const classToken = graph.floats([1, 1, D], await read('embeddings.class_embedding'));
  const positions = graph.floats([1, I, D], await read('embeddings.position_embedding.weight'));
  let x = await norm(add(graph.one('Concat', [classToken, patches], { axis: 1 }), positions), 'pre_layrnorm');
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    const name = `encoder.layers.${layer}`;
    x = add(x, await attention(await norm(x, `${name}.layer_norm1`), `${name}.self_attn`));
    x = add(x, await mlp(await norm(x, `${name}.layer_norm2`), `${name}.mlp`));
  }
  return norm(x, 'post_layernorm');
}

/** The vision tower alone: `pixels` float32 [1, 3, height, width] → `features` [1, I, D]. `weights` has the names of a checkpoint. */
export async function onnxEncoder(config: VisionConfig, weights: TensorMap, format: OnnxFormat): Promise<Bytes> {
  const graph = new Graph();
  const features = await visionTower(graph, createLayers(graph, weights, format), config);
  graph.output('features', features, [1, config.imageTokens, config.hiddenSize]);
  return graph.model();
}

/** Query, keys and values of a decoder layer's input of so many tokens, heads apart. */
async function attentionInputs(layers: Layers, x: string, name: string, tokens: number, c: GitConfig, from = 0) {
  const { hiddenSize: D, numAttentionHeads: H } = c;
  const names = ['query', 'key', 'value'].slice(from).map((part) => `${name}.attention.self.${part}`);
  return (await layers.linears(x, D, D, names)).map((part) => layers.heads(part, tokens, H, D / H));
}

/** What follows attention in a decoder layer (post-norm). */
async function afterAttention(graph: Graph, layers: Layers, x: string, seen: string, name: string, c: GitConfig) {
  const { hiddenSize: D, intermediateSize: wideSize, layerNormEps } = c;
  const { add, norm, one } = layers;
  const attended = await one(seen, D, D, [`${name}.attention.output.dense`]);
  const h = await norm(add(attended, x), `${name}.attention.output.LayerNorm`, layerNormEps);
  const wide = await one(h, D, wideSize, [`${name}.intermediate.dense`]);
  // GELU by the error function, in the form that onnxruntime makes one operator of
  const erf = graph.one('Erf', [graph.one('Div', [wide, graph.floats([], [Math.SQRT2])])]);
  const gate = graph.one('Mul', [wide, add(erf, graph.floats([], [1]))]);
  const active = graph.one('Mul', [gate, graph.floats([], [0.5])]);
  return norm(
    add(await one(active, wideSize, D, [`${name}.output.dense`]), h),
    `${name}.output.LayerNorm`,
    layerNormEps,
  );
}

const layerName = (layer: number): string => `git.encoder.layer.${layer}`;

/**
 * Phase one: `pixels` float32 [1, 3, height, width] → for each decoder layer `imageKey.N` [1, H, K, I], ready for the product with queries, and
 * `imageValue.N` [1, H, I, K]. Of the last layer nothing else is computed, as in ours.
 */
export async function onnxImage(config: GitConfig, weights: TensorMap, format: OnnxFormat): Promise<Bytes> {
  const graph = new Graph();
  const layers = createLayers(graph, weights, format);
  const { hiddenSize: D, numAttentionHeads: H, numHiddenLayers, vision } = config;
  const I = vision.imageTokens;
  const PROJECTION = 'git.visual_projection.visual_projection';
  const features = await visionTower(graph, layers, vision);
  const projected = await layers.one(features, vision.hiddenSize, D, [`${PROJECTION}.0`]);
  let x = await layers.norm(projected, `${PROJECTION}.1`, vision.layerNormEps);
  for (let layer = 0; layer < numHiddenLayers; layer++) {
    const isLast = layer === numHiddenLayers - 1;
    const parts = await attentionInputs(layers, x, layerName(layer), I, config, isLast ? 1 : 0);
    const [k, v] = parts.slice(-2) as [string, string];
    const keys = layers.swapped(k);
    graph.output(`imageKey.${layer}`, keys, [1, H, D / H, I]);
    graph.output(`imageValue.${layer}`, v, [1, H, I, D / H]);
    if (isLast) break;
    const scaled = graph.one('Mul', [parts[0]!, graph.floats([], [1 / Math.sqrt(D / H)])]);
    const odds = graph.one('Softmax', [graph.one('MatMul', [scaled, keys])], { axis: -1 });
    const seen = layers.merge(graph.one('MatMul', [odds, v]), I, D);
    x = await afterAttention(graph, layers, x, seen, layerName(layer), config);
  }
  return graph.model();
}

/**
 * Phase two, one token: `id` and `position` int64 [1, 1], the image's keys and values, and for each layer `textKey.N` and `textValue.N`
 * [1, H, S, K] of the tokens before → `logits` [1, 1, V], and `newTextKey.N` and `newTextValue.N` [1, H, S + 1, K].
 */
export async function onnxStep(config: GitConfig, weights: TensorMap, format: OnnxFormat): Promise<Bytes> {
  const graph = new Graph();
  const layers = createLayers(graph, weights, format);
  const { hiddenSize: D, numAttentionHeads: H, numHiddenLayers, vocabSize: V, vision } = config;
  const I = vision.imageTokens;
  const K = D / H;
  const EMBEDDINGS = 'git.embeddings';
  const embedding = async (name: string, rows: number, index: string) =>
    graph.one('Gather', [graph.floats([rows, D], await layers.read(`${EMBEDDINGS}.${name}.weight`)), index]);
  const word = await embedding('word_embeddings', V, graph.input('id', [1, 1], 'int64'));
  const place = await embedding(
    'position_embeddings',
    config.maxPositionEmbeddings,
    graph.input('position', [1, 1], 'int64'),
  );
  const slices = (from: number, to: number) => [layers.shape([from]), layers.shape([to]), layers.shape([3])];
  const END = 2 ** 31 - 1;
  let x = await layers.norm(layers.add(word, place), `${EMBEDDINGS}.LayerNorm`, config.layerNormEps);
  for (let layer = 0; layer < numHiddenLayers; layer++) {
    const imageKey = graph.input(`imageKey.${layer}`, [1, H, K, I]);
    const imageValue = graph.input(`imageValue.${layer}`, [1, H, I, K]);
    const [q, k, v] = await attentionInputs(layers, x, layerName(layer), 1, config);
    const grown = (name: string, fresh: string) => {
      const all = graph.one('Concat', [graph.input(`text${name}.${layer}`, [1, H, 'S', K]), fresh], { axis: 2 });
      graph.output(`newText${name}.${layer}`, all, [1, H, 'S1', K]);
      return all;
    };
    const [textKey, textValue] = [grown('Key', k!), grown('Value', v!)];
    const scaled = graph.one('Mul', [q!, graph.floats([], [1 / Math.sqrt(K)])]);
    const onImage = graph.one('MatMul', [scaled, imageKey]);
    const onText = graph.one('MatMul', [scaled, layers.swapped(textKey)]);
    const odds = graph.one('Softmax', [graph.one('Concat', [onImage, onText], { axis: 3 })], { axis: -1 });
    const ofImage = graph.one('MatMul', [graph.one('Slice', [odds, ...slices(0, I)]), imageValue]);
    const ofText = graph.one('MatMul', [graph.one('Slice', [odds, ...slices(I, END)]), textValue]);
    const seen = layers.merge(layers.add(ofImage, ofText), 1, D);
    x = await afterAttention(graph, layers, x, seen, layerName(layer), config);
  }
  graph.output('logits', await layers.one(x, D, V, ['output']), [1, 1, V]);
  return graph.model();
}
