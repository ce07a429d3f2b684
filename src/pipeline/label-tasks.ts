/** Tasks that give scores or features in place of texts. */
import { OptionError } from '../errors.js';
import type { Image2Text } from '../image2text/image2text.js';
import type { VisualInput } from '../image2text/inputs.js';
import type { ClassifyOptions, EmbedOptions } from '../image2text/scores.js';
import { isImageBatch } from '../image2text/tensor-images.js';
import { checkSignal, readOptions, spellingsOf, withoutNulls, wrongType } from './options.js';
import { asVideo, forEachInput, type Task } from './text-tasks.js';
import type { FeatureTensor, ScoredLabel } from './types.js';

const LABEL_NAMES = spellingsOf(['topK', 'candidateLabels', 'prompt', 'method', 'trace', 'signal']);
const TOP = 5;

/** Images to the best of given names; `preset` are the names for calls that bring none. */
export const imageClassification = (preset: readonly string[] | undefined): Task =>
  classification('image-classification', preset, (image) => image);

export const videoClassification = (preset: readonly string[] | undefined): Task => {
  const classify = classification('video-classification', preset, asVideo);
  return (model, [videos, options]) => classify(model, [isImageBatch(videos) ? asVideo(videos) : videos, options]);
};

const classification =
  (task: string, preset: readonly string[] | undefined, asInput: (item: unknown) => unknown): Task =>
  async (model, [items, options]) => {
    const given = readOptions(options, LABEL_NAMES, task);
    const { candidateLabels, topK: _, prompt, method, ...rest } = withoutNulls(given);
    checkSignal(rest);
    const labels = candidateLabels === undefined ? preset : readLabels(candidateLabels);
    if (labels === undefined) {
      const detail = 'GIT has no classes of its own: give the names to choose from';
      throw new OptionError({ path: 'candidate_labels', code: 'missing', detail });
    }
    if (prompt !== undefined && typeof prompt !== 'string') wrongType('prompt', 'a text', prompt);
    if (method !== undefined && method !== 'exact' && method !== 'greedy')
      wrongType('method', 'exact or greedy', method);
    const top = method === 'greedy' ? {} : { topK: readTop(given['topK'], labels.length) };
    const asked = { ...rest, prompt, method, ...top } as ClassifyOptions;
    return forEachInput(items, (many) => classifyEach(model, many.map(asInput), labels, labels, asked));
  };

/** As in transformers.js. */
const HYPOTHESIS = 'This is a photo of {}';

const ZERO_SHOT_NAMES = spellingsOf(['hypothesisTemplate', 'trace', 'signal']);

/** Images and names to the names with their scores, all of them, best first. */
export const zeroShotImageClassification: Task = async (model, [images, candidates, options]) => {
  const labels = readLabels(candidates);
  const { hypothesisTemplate = HYPOTHESIS, ...rest } = withoutNulls(
    readOptions(options, ZERO_SHOT_NAMES, 'zero-shot-image-classification'),
  );
  checkSignal(rest);
  if (typeof hypothesisTemplate !== 'string') wrongType('hypothesis_template', 'a text', hypothesisTemplate);
  if (!hypothesisTemplate.includes('{}')) wrongType('hypothesis_template', 'a text with {}', hypothesisTemplate);
  const texts = labels.map((label) => hypothesisTemplate.split('{}').join(label));
  const asked = { ...rest, topK: Math.max(1, labels.length) } as ClassifyOptions;
  return forEachInput(images, (many) => classifyEach(model, many, labels, texts, asked));
};

/** Scores of `texts`, by the labels that they stand for. */
async function classifyEach(
  model: Image2Text,
  inputs: readonly unknown[],
  labels: readonly string[],
  texts: readonly string[],
  options: ClassifyOptions,
): Promise<ScoredLabel[][]> {
  const labelOf = new Map(texts.map((text, n) => [text, labels[n]!]));
  const rows: ScoredLabel[][] = [];
  for (const input of inputs) {
    const found = await model.classify(input as VisualInput, texts, options);
    rows.push(found.map(({ label, probability }) => ({ label: labelOf.get(label)!, score: probability })));
  }
  return rows;
}

/** Names to choose from. */
export function readLabels(value: unknown): readonly string[] {
  if (Array.isArray(value) && value.every((label) => typeof label === 'string')) return value;
  return wrongType('candidate_labels', 'a list of texts', value);
}

/** 0 and null are all, as in transformers.js. */
function readTop(value: unknown, all: number): number {
  if (value === null || value === 0) return Math.max(1, all);
  if (value === undefined) return TOP;
  if (typeof value === 'number' && Number.isInteger(value) && value > 0) return value;
  throw new OptionError({
    path: 'top_k',
    code: 'out-of-range',
    detail: `expected a whole number from 0, found ${String(value)}`,
  });
}

const FEATURE_NAMES = spellingsOf(['pool', 'stage', 'signal']);

/** Images to features: [images, tokens, D], pooled [images, D]. */
export const imageFeatureExtraction: Task = async (model, [images, options]) => {
  const { pool = false, ...rest } = withoutNulls(readOptions(options, FEATURE_NAMES, 'image-feature-extraction'));
  checkSignal(rest);
  const asked = { ...rest, pool: pool === true ? 'class' : pool === false ? 'none' : pool } as EmbedOptions;
  const embeddings: Awaited<ReturnType<Image2Text['embed']>>[] = [];
  await forEachInput(images, async (many) => {
    for (const image of many) embeddings.push(await model.embed(image as VisualInput, asked));
    return [undefined];
  });
  const [first] = embeddings;
  const shape = first?.shape ?? [];
  const odd = embeddings.find((one) => String(one.shape) !== String(shape));
  if (odd !== undefined) {
    const detail = `[${shape}] and [${odd.shape}] do not fit into one tensor: give these images one by one`;
    throw new OptionError({ path: 'images', code: 'shapes-differ', detail });
  }
  const length = first?.data.length ?? 0;
  const data = new Float32Array(length * embeddings.length);
  for (const [n, one] of embeddings.entries()) data.set(one.data, n * length);
  return featureTensor(data, [embeddings.length, ...shape]);
};

const featureTensor = (data: Float32Array, dims: readonly number[]): FeatureTensor => ({
  dims,
  type: 'float32',
  data,
  size: data.length,
  tolist: () => nested(data, dims),
});

function nested(data: Float32Array, [first = 0, ...rest]: readonly number[]): unknown[] {
  if (rest.length === 0) return [...data];
  const length = data.length / first;
  return Array.from({ length: first }, (_, n) => nested(data.subarray(n * length, (n + 1) * length), rest));
}
