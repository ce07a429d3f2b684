import {
  type CaptionOptions,
  gitSpec,
  type Image2Text,
  type ImageInput,
  type ImageWarning,
  type ModelFiles,
} from 'generative-image2text';
import { ensureBackend, loadImage2Text, openModel, quietTensorflow } from 'generative-image2text/node';
import type { OptionsFor } from 'generative-image2text/options';
import { type ModelDigest, modelDigest } from './digest.js';
import type { imageOptions, modelOptions } from './options.js';

/** A loaded model and what clients ask about it. */
export interface ModelHost {
  /** As clients are told: the last part of its name, without the owner or folder. */
  readonly name: string;
  readonly model: Image2Text;
  readonly identity: ModelDigest;
  readonly weights: string;
  readonly parameters: number;
  /** Tokens of one image. */
  readonly imageTokens: number;
  readonly loadedAt: Date;
  /** The strategy of calls that name none. */
  readonly strategy: NonNullable<CaptionOptions['strategy']>;
}

export type HostOptions = OptionsFor<typeof modelOptions, 'serve'> & OptionsFor<typeof imageOptions, 'preprocess'>;

/**
 * Loads the model that is served.
 *
 * @throws what loading throws.
 */
export async function loadHost(
  { maxMegapixels = 25, model: name = '', ...options }: HostOptions & { readonly orientation?: boolean },
  onWarning: (warning: ImageWarning) => void,
  signal?: AbortSignal,
): Promise<ModelHost> {
  quietTensorflow();
  const { revision, cacheDir, ...rest } = options;
  await ensureBackend(rest.backend); // whose memory says which weights are worth a download
  const files = await openModel(name, { revision, cacheDir, weights: rest.weights ?? 'f32', signal });
  const maxPixels = Math.max(1, Math.round(maxMegapixels * 1e6));
  const model = await loadImage2Text(files, { ...rest, maxPixels, onWarning, openImage: refuse, signal });
  return describeHost(model, files, options.weights ?? 'f32', signal);
}

/** Paths and addresses never reach the library: whatever a stranger writes is bytes by then. */
const refuse = (): never => {
  throw new Error('the server opens no paths');
};

export async function describeHost(
  model: Image2Text,
  files: ModelFiles,
  weights: string,
  signal?: AbortSignal,
): Promise<ModelHost> {
  const { imageSize, patchSize } = model.config.vision;
  return {
    name: files.label.replace(/[\\/]+$/, '').replace(/^.*[\\/]/, ''),
    model,
    identity: await modelDigest(files, signal),
    weights,
    parameters: countParameters(gitSpec(model.config)),
    imageTokens: 1 + Math.floor(imageSize / patchSize) ** 2,
    loadedAt: new Date(),
    strategy: (model.generationConfig?.strategy ?? 'original') as ModelHost['strategy'],
  };
}

/** Numbers in the tensors of a tree of specs. */
function countParameters(spec: unknown): number {
  if (typeof spec !== 'object' || spec === null) return 0;
  const { shape } = spec as { readonly shape?: unknown };
  if (Array.isArray(shape)) return shape.reduce((product: number, side: number) => product * side, 1);
  return Object.values(spec).reduce((sum: number, child) => sum + countParameters(child), 0);
}

/** A text to write about one image. */
export interface TextTask {
  readonly image: ImageInput;
  /** The text goes on from it; not together with `question`. */
  readonly prompt?: string | undefined;
  readonly question?: string | undefined;
  readonly options: CaptionOptions;
}
