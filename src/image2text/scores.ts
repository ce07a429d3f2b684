import type { Tensor, Tensor3D } from '@tensorflow/tfjs-core';
import { mean, reshape, slice, tidy } from '@tensorflow/tfjs-core';
import { OptionError } from '../errors.js';
import { constrainedGreedy, rankNames, scoreSequences } from '../generation/score.js';
import type { Trace } from '../layers/tidy.js';
import type { ImageCache } from '../model/git.js';
import { projectFeatures } from '../model/git.js';
import type { OptionsFor } from '../options.js';
import type { TextContext, Token } from './captions.js';
import { meanProbability, pieceOf, promptIds, sessionOver, textIds, vocabularyOf } from './captions.js';
import { inputFeatures, type ModelInput } from './encoded-image.js';
import type { methodOptions } from './method-options.js';

/** A text that was scored. */
export interface TextScore {
  readonly text: string;
  /** Natural log-likelihood of the whole text, the end token included. */
  readonly logProb: number;
  /** Geometric mean of the tokens' probabilities, 0 to 1. */
  readonly confidence: number;
  readonly tokens: readonly Token[];
}

/** A class name and how likely it is. */
export interface ClassScore {
  readonly label: string;
  /** Share among the given names: softmax of their log-likelihoods; they sum to 1 over all names. */
  readonly probability: number;
  /** Natural log-likelihood of the name, the end token included. */
  readonly logProb: number;
}

/** Options of `classify`. */
export type ClassifyOptions = OptionsFor<typeof methodOptions, 'classify'>;

/** Options of `score`. */
export type ScoreTextsOptions = OptionsFor<typeof methodOptions, 'score'>;

/** Options of `embed`. */
export type EmbedOptions = OptionsFor<typeof methodOptions, 'embed'>;

/** Features of an image: float32 [D], or [I, D] with pool `none`. */
export interface Embedding {
  readonly data: Float32Array;
  readonly shape: readonly number[];
}

/** Most rows that scoring keeps in the cache at once. */
const SCORE_ROWS = 64;

/** Log-likelihood of each text behind the prompt, over one image; common beginnings are computed once. */
export async function scoreTexts(
  context: TextContext,
  image: ImageCache,
  texts: readonly string[],
  options: { readonly prompt?: string | undefined; readonly signal: AbortSignal; readonly trace?: Trace | undefined },
): Promise<TextScore[]> {
  const { git, tokenizer } = context;
  const vocabulary = vocabularyOf(context);
  const sequences = texts.map((text) => [...wordIds(context, text, 'texts'), vocabulary.eosIds[0]!]);
  const open = sessionOver(git, image, [0], options.trace);
  const prompt = promptIds(tokenizer, options.prompt);
  const scores = await scoreSequences(open, vocabulary, prompt, sequences, {
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
  context: TextContext,
  image: ImageCache,
  labels: readonly string[],
  options: ClassifyOptions & { readonly signal: AbortSignal },
): Promise<ClassScore[]> {
  const { git, tokenizer } = context;
  if (labels.length === 0)
    throw new OptionError({ path: 'labels', code: 'empty', detail: 'give at least one class name' });
  const names = labels.map((label) => wordIds(context, label, 'labels'));
  const prompt = promptIds(tokenizer, options.prompt);
  const open = sessionOver(git, image, [0], options.trace);
  if (options.method === 'greedy') {
    const [found] = await constrainedGreedy(open, vocabularyOf(context), names, {
      prompts: [prompt],
      signal: options.signal,
    });
    return [{ label: labels[found!.name]!, probability: 1, logProb: found!.logProb }];
  }
  const ranked = await rankNames(open, vocabularyOf(context), prompt, names, {
    topK: options.topK,
    maxRows: SCORE_ROWS,
    signal: options.signal,
  });
  return ranked.map(({ name, probability, logProb }) => ({ label: labels[name]!, probability, logProb }));
}

function wordIds({ tokenizer }: TextContext, text: string, path: string): number[] {
  const ids = textIds(tokenizer, text);
  if (ids.length > 0) return ids;
  throw new OptionError({ path, code: 'empty', detail: `${JSON.stringify(text)} has no words` });
}

/** Features of one image, or of the frames of a video, which follow each other along the tokens. */
export async function embedInput(
  { git }: TextContext,
  input: ModelInput,
  options: EmbedOptions & { readonly signal: AbortSignal },
): Promise<Embedding> {
  const { shape } = input;
  const vision = await inputFeatures(git, input, { signal: options.signal });
  const features = tidy(() => {
    const all = options.stage === 'projected' ? projectFeatures(git, vision) : vision; // [1, I, D]
    const [, tokens, hidden] = all.shape;
    if (options.pool === 'none') return reshape(all, [tokens, hidden]);
    const pooled = options.pool === 'class' ? classTokens(all, shape.length === 5 ? shape[1]! : 1) : all;
    return reshape(mean(pooled, 1), [hidden]);
  });
  vision.dispose();
  try {
    return { data: (await features.data()) as Float32Array, shape: features.shape };
  } finally {
    features.dispose();
  }
}

/** The first token of each frame: [1, F·I, D] → [1, F, D]. */
function classTokens(features: Tensor3D, frames: number): Tensor {
  const [, tokens, hidden] = features.shape;
  return reshape(slice(reshape(features, [frames, tokens / frames, hidden]), [0, 0, 0], [frames, 1, hidden]), [
    1,
    frames,
    hidden,
  ]);
}
