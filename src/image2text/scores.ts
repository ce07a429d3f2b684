import type { Tensor } from '@tensorflow/tfjs-core';
import { mean, reshape, slice, tensor4d, tidy } from '@tensorflow/tfjs-core';
import { OptionError } from '../errors.js';
import { constrainedGreedy, rankNames } from '../generation/constrained.js';
import { scoreSequences } from '../generation/score.js';
import type { PixelValues } from '../image/preprocess.js';
import { imageFeatures, projectFeatures } from '../model/git.js';
import type { ImageCache } from '../model/kv-cache.js';
import type { Trace } from '../model/trace.js';
import { checkChoice } from './arguments.js';
import type { Writer } from './captions.js';
import { meanProbability, pieceOf, promptIds, sessionOver, vocabularyOf } from './captions.js';
import type { ClassifyOptions, ClassScore, Embedding, EmbedOptions, TextScore } from './types.js';

/** Most rows that scoring keeps in the cache at once. */
const SCORE_ROWS = 64;

/** Log-likelihood of each text behind the prompt, over one image; common beginnings are computed once. */
export async function scoreTexts(
  { git, tokenizer }: Writer,
  image: ImageCache,
  texts: readonly string[],
  options: { readonly prompt?: string | undefined; readonly signal: AbortSignal; readonly trace?: Trace | undefined },
): Promise<TextScore[]> {
  const sequences = texts.map((text) => [...wordIds({ git, tokenizer }, text, 'texts'), git.config.eosTokenId]);
  const open = sessionOver(git, image, [0], options.trace);
  const prompt = promptIds(tokenizer, options.prompt);
  const scores = await scoreSequences(open, vocabularyOf(git), prompt, sequences, {
    maxRows: SCORE_ROWS,
    signal: options.signal,
  });
  return scores.map(({ logProb, tokenLogProbs }, n) => ({
    text: texts[n]!,
    logProb,
    confidence: meanProbability(logProb, tokenLogProbs.length),
    tokens: sequences[n]!.map((id, t) => ({ id, piece: pieceOf(tokenizer, id), logProb: tokenLogProbs[t]! })),
  }));
}

/** Ranks class names over one image. */
export async function rankLabels(
  writer: Writer,
  image: ImageCache,
  labels: readonly string[],
  options: ClassifyOptions & { readonly signal: AbortSignal },
): Promise<ClassScore[]> {
  const { git, tokenizer } = writer;
  checkChoice('method', options.method, ['exact', 'greedy']);
  if (labels.length === 0)
    throw new OptionError({ path: 'labels', code: 'empty', detail: 'give at least one class name' });
  const names = labels.map((label) => wordIds(writer, label, 'labels'));
  const prompt = promptIds(tokenizer, options.prompt);
  const open = sessionOver(git, image, [0], options.trace);
  if (options.method === 'greedy') {
    const [found] = await constrainedGreedy(open, vocabularyOf(git), names, {
      prompts: [prompt],
      signal: options.signal,
    });
    return [{ label: labels[found!.name]!, probability: 1, logProb: found!.logProb }];
  }
  const topK = options.topK === undefined ? Math.min(5, labels.length) : options.topK;
  const ranked = await rankNames(open, vocabularyOf(git), prompt, names, {
    topK,
    maxRows: SCORE_ROWS,
    signal: options.signal,
  });
  return ranked.map(({ name, probability, logProb }) => ({ label: labels[name]!, probability, logProb }));
}

function wordIds({ tokenizer }: Writer, text: string, path: string): number[] {
  const ids = tokenizer.encode(text, { addSpecialTokens: false });
  if (ids.length > 0) return ids;
  throw new OptionError({ path, code: 'empty', detail: `${JSON.stringify(text)} has no words` });
}

/** Features of one image. */
export async function embedPixels({ git }: Writer, pixels: PixelValues, options: EmbedOptions): Promise<Embedding> {
  checkChoice('stage', options.stage, ['vision', 'projected']);
  checkChoice('pool', options.pool, ['class', 'mean', 'none']);
  const features = tidy(() => {
    const seen = imageFeatures(git, tensor4d(pixels.data, [...pixels.shape]));
    const all: Tensor = options.stage === 'projected' ? projectFeatures(git, seen) : seen; // [1, I, D]
    const [, tokens, hidden] = all.shape as [number, number, number];
    if (options.pool === 'none') return reshape(all, [tokens, hidden]);
    if (options.pool === 'class') return reshape(slice(all, [0, 0, 0], [1, 1, hidden]), [hidden]);
    return reshape(mean(all, 1), [hidden]);
  });
  try {
    return { data: (await features.data()) as Float32Array, shape: features.shape };
  } finally {
    features.dispose();
  }
}
