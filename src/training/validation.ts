import type { Tensor, Tensor3D, Tensor4D } from '@tensorflow/tfjs-core';
import { concat } from '@tensorflow/tfjs-core';
import { ImageError } from '../errors.js';
import { nextTask } from '../event-loop.js';
import { toPng } from '../explain/overlay.js';
import { generate } from '../generation/generate.js';
import { resize } from '../image/resize.js';
import { vocabularyOf } from '../image2text/captions.js';
import type { Image2Text } from '../image2text/image2text.js';
import { partsOf } from '../image2text/image2text.js';
import type { InputLoader } from '../image2text/input-loader.js';
import { scoreCaptions } from '../metrics/captions.js';
import { disposeCache, featuresInTurns, type Git, prefillImage } from '../model/git.js';
import { startSession } from '../model/git-session.js';
import { accumulateGradients, countLabels } from './backward.js';
import { type ImageSource, padBatch, type TokenizedPair } from './data.js';
import { startGradients } from './gradients.js';
import type { ValidationEvent, ValidationSample } from './report.js';

/** Most samples that an event, and so the log and the page, shows. */
const MOST_SAMPLES = 12;
/** Longer side of their thumbnails, in pixels. */
const THUMBNAIL_SIDE = 96;

/** The images of the samples in small, of a video its first frame. One that cannot be opened has none: validation reports it. */
export async function thumbnailsOf(
  pairs: readonly TokenizedPair[],
  loader: InputLoader,
  signal: AbortSignal | undefined,
): Promise<Record<string, string>> {
  const images: Record<string, string> = {};
  for (const { pair, source } of pairs) {
    if (Object.keys(images).length === MOST_SAMPLES) break;
    if (Object.hasOwn(images, source)) continue;
    try {
      const input = typeof pair.image === 'function' ? await pair.image() : pair.image;
      const opened = await loader.open(input, signal);
      const image = Array.isArray(opened) ? opened[0]! : opened;
      const scale = Math.min(1, THUMBNAIL_SIDE / Math.max(image.width, image.height));
      const small = (side: number): number => Math.max(1, Math.round(side * scale));
      const png = toPng(resize(image, small(image.width), small(image.height), 'bicubic'));
      images[source] = `data:image/png;base64,${btoa(Array.from(png, (byte) => String.fromCharCode(byte)).join(''))}`;
    } catch {
      signal?.throwIfAborted();
    }
  }
  return images;
}

interface ValidationScope {
  readonly images: ImageSource;
  /** `images` gives pixels, not features. */
  readonly trainsVision: boolean;
  readonly batchSize: number;
  readonly maxTokens: number;
  readonly signal: AbortSignal | undefined;
  readonly skip: (source: string, error: Error) => void;
}

/**
 * Cross-entropy of held-out pairs, and what greedy decoding says of their images: share of texts that are equal word for word, and CIDEr-D, for
 * which pairs of one image and prompt are references of one caption. Pairs whose images cannot be opened are reported and left out.
 *
 * @throws the signal's reason; ImageError where no image can be opened.
 */
export async function validate(
  git: Git,
  model: Image2Text,
  pairs: readonly TokenizedPair[],
  scope: ValidationScope,
): Promise<Pick<ValidationEvent, 'loss' | 'exactMatch' | 'cider' | 'samples'>> {
  const { signal, batchSize } = scope;
  const pause = async (): Promise<void> => {
    await nextTask();
    signal?.throwIfAborted();
  };
  let [loss, tokens] = [0, 0];
  const samples: (ValidationSample & { readonly key: unknown })[] = [];
  for (let at = 0; at < pairs.length; at += batchSize) {
    const opened: { pair: TokenizedPair; features: Tensor3D }[] = [];
    try {
      for (const pair of pairs.slice(at, at + batchSize)) {
        const features = await featuresOf(git, pair, scope);
        if (features !== undefined) opened.push({ pair, features });
      }
      for (const shape of new Set(opened.map(({ features }) => features.shape.join()))) {
        const alike = opened.filter(({ features }) => features.shape.join() === shape);
        const listed = alike.map(({ pair }) => pair);
        const features = concat(
          alike.map(({ features }) => features),
          0,
        );
        try {
          const text = padBatch(listed, model.tokenizer.padId);
          const options = { smoothing: 0, total: 1, recompute: true, lossOnly: true, pause };
          loss += await accumulateGradients(git, { ...text, features }, startGradients([]), options);
          tokens += countLabels(text.labels);
          const said = await greedyTexts(git, model, features, listed, scope);
          for (const [n, { pair, source, promptIds, textTokens, ids }] of listed.entries()) {
            const expected = textOf(model, ids.slice(promptIds.length, promptIds.length + textTokens));
            const prompt = pair.question ?? pair.prompt ?? '';
            samples.push({ name: source, prompt, expected, text: said[n]!, key: pair.image });
          }
        } finally {
          features.dispose();
        }
      }
    } finally {
      for (const { features } of opened) features.dispose();
    }
  }
  if (tokens === 0)
    throw new ImageError({ code: 'no-images', detail: 'no image of the validation pairs can be opened' });
  return {
    loss: loss / tokens,
    exactMatch: samples.filter(({ expected, text }) => expected === text).length / samples.length,
    cider: ciderOf(samples),
    samples: samples.slice(0, MOST_SAMPLES).map(({ key: _, ...sample }) => sample),
  };
}

async function featuresOf(
  git: Git,
  pair: TokenizedPair,
  { images, trainsVision, signal, skip }: ValidationScope,
): Promise<Tensor3D | undefined> {
  let image: Tensor;
  try {
    image = await images.load(pair, undefined);
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    skip(pair.source, error);
    return undefined;
  }
  if (!trainsVision) return image as Tensor3D;
  try {
    return await featuresInTurns(git, image as Tensor4D, signal);
  } finally {
    image.dispose();
  }
}

const textOf = ({ tokenizer }: Image2Text, ids: readonly number[]): string =>
  tokenizer.decode(ids, { skipSpecialTokens: true }).trim();

/** What the model says of each image. features: [N, I, Dv]. */
async function greedyTexts(
  git: Git,
  model: Image2Text,
  features: Tensor3D,
  pairs: readonly TokenizedPair[],
  { maxTokens, signal }: ValidationScope,
): Promise<string[]> {
  const { tokenizer } = model;
  const image = prefillImage(git, features);
  try {
    const vocabulary = vocabularyOf({ git, tokenizer, generationConfig: partsOf(model).generationConfig });
    const longest = Math.max(...pairs.map(({ promptIds }) => promptIds.length));
    const maxNewTokens = Math.max(1, Math.min(maxTokens + 1, git.config.maxPositionEmbeddings - longest));
    const options = { strategy: 'greedy', maxNewTokens, signal } as const;
    const prompts = pairs.map(({ promptIds }) => promptIds);
    const found = await generate(() => startSession(git, image), vocabulary, options, prompts);
    return found.map(([best], n) => textOf(model, best!.ids.slice(prompts[n]!.length)));
  } finally {
    disposeCache(image);
  }
}

/** CIDEr-D over images, each with the texts of all its pairs. */
function ciderOf(samples: readonly (ValidationSample & { readonly key: unknown })[]): number | undefined {
  const items: { key: unknown; prompt: string; candidate: string; references: string[] }[] = [];
  for (const { key, prompt, expected, text } of samples) {
    const found = items.find((item) => item.key === key && item.prompt === prompt);
    if (found === undefined) items.push({ key, prompt, candidate: text, references: [expected] });
    else found.references.push(expected);
  }
  if (items.every(({ references }) => references.every((text) => text === ''))) return undefined;
  const { cider } = scoreCaptions(items.map(({ candidate, references }, id) => ({ id, candidate, references })));
  return Number.isFinite(cider) ? cider : undefined;
}
