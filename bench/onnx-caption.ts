import type { InferenceSession, Tensor, TypedTensor } from 'onnxruntime-web';
import type { TensorMap } from '../src/checkpoint/stored-tensor.js';
import type { GitConfig } from '../src/index.js';
import { type OnnxFormat, onnxImage, onnxStep } from './onnx-model.js';

/** onnxruntime-web, or onnxruntime-node, which has the same interface. */
export type OnnxRuntime = Pick<typeof import('onnxruntime-web'), 'InferenceSession' | 'Tensor'>;

/** A captioner that runs in onnxruntime: greedy, with a cache of keys and values. */
export interface OnnxCaptioner {
  /** The ids of exactly `tokens` words after [CLS], never one that ends the text. pixels: float32 [1, 3, height, width]. */
  caption(pixels: Tensor, tokens: number): Promise<number[]>;
  /** Logits behind [CLS] and further ids, [V] each. */
  logits(pixels: Tensor, ids: readonly number[]): Promise<Float32Array[]>;
}

export async function openOnnx(
  { InferenceSession: Session, Tensor: OrtTensor }: OnnxRuntime,
  config: GitConfig,
  weights: TensorMap,
  format: OnnxFormat,
  options: InferenceSession.SessionOptions = {},
): Promise<OnnxCaptioner> {
  const all = { graphOptimizationLevel: 'all', ...options } as const;
  const image = await Session.create(await onnxImage(config, weights, format), all);
  const step = await Session.create(await onnxStep(config, weights, format), all);
  const { bosTokenId, eosTokenIds, hiddenSize, numAttentionHeads: heads, numHiddenLayers } = config;
  const layers = Array.from({ length: numHiddenLayers }, (_, layer) => layer);
  const int64 = (value: number): TypedTensor<'int64'> =>
    new OrtTensor('int64', BigInt64Array.of(BigInt(value)), [1, 1]);
  const nothing = () => new OrtTensor('float32', new Float32Array(0), [1, heads, 0, hiddenSize / heads]);

  /** Steps from [CLS] on, until `next` gives no further id. */
  async function run(pixels: Tensor, next: (logits: Float32Array) => number | undefined): Promise<void> {
    const ofImage = await image.run({ pixels });
    let text: Record<string, Tensor> = Object.fromEntries(
      layers.flatMap((layer) => [`textKey.${layer}`, `textValue.${layer}`].map((name) => [name, nothing()])),
    );
    let id: number | undefined = bosTokenId;
    for (let position = 0; id !== undefined; position++) {
      const found = await step.run({ ...ofImage, ...text, id: int64(id), position: int64(position) });
      text = Object.fromEntries(
        layers.flatMap((layer) =>
          ['Key', 'Value'].map((name) => [`text${name}.${layer}`, found[`newText${name}.${layer}`]!]),
        ),
      );
      id = next(found['logits']!.data as Float32Array);
    }
  }

  return {
    async caption(pixels, tokens) {
      const ids: number[] = [];
      await run(pixels, (logits) => {
        let best = -1;
        for (let id = 0; id < logits.length; id++) {
          if ((best < 0 || logits[id]! > logits[best]!) && !eosTokenIds.includes(id)) best = id;
        }
        ids.push(best);
        return ids.length < tokens ? best : undefined;
      });
      return ids;
    },
    async logits(pixels, ids) {
      const rows: Float32Array[] = [];
      await run(pixels, (logits) => {
        rows.push(logits.slice());
        return ids[rows.length - 1];
      });
      return rows;
    },
  };
}
