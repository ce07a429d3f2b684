import { setBackend } from '@tensorflow/tfjs-core';
import type { ModelFiles } from '../checkpoint/byte-source.js';
import { BackendError, OptionError } from '../errors.js';
import type { GeneratedSequence } from '../generation/types.js';
import type { ImageConfig } from '../image/image-config.js';
import type { PreprocessOptions } from '../image/preprocess.js';
import { preprocess } from '../image/preprocess.js';
import type { Git } from '../model/git.js';
import { disposeGit } from '../model/git.js';
import type { GitConfig } from '../model/git-config.js';
import type { LoadGitOptions } from '../model/load-git.js';
import { loadGitParams, openGit } from '../model/load-git.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import { promptIds, splitOptions, toCaption, writeSequences } from './captions.js';
import { openImageConfig, openTokenizer } from './checkpoint-files.js';
import type { ModelInput } from './encode.js';
import { startLifetime } from './lifetime.js';
import type { OpenPicture, Picture, PictureOptions } from './pictures.js';
import { fetchPicture, toRawImage } from './pictures.js';
import type { Caption, CaptionOptions } from './types.js';

/** How a model is loaded and how it sees. */
export interface LoadOptions extends LoadGitOptions, Omit<PictureOptions, 'signal'> {
  /** Make this registered tfjs backend the current one first. Default: the application's current backend is left as it is. */
  readonly backend?: string | undefined;
  /** Hugging Face's preprocessing (default), or the original's. */
  readonly route?: PreprocessOptions['route'];
  /** Opens paths and URLs; Node's door gives its own. Default: `fetch`. */
  readonly openPicture?: OpenPicture | undefined;
}

/** Options of `generate`: ids instead of text. */
export type GenerateSequencesOptions = Omit<CaptionOptions, 'prompt'> & {
  /** Ids that each row starts with, [CLS] included; one list for all pictures, or one for each. Default: [CLS] alone. */
  readonly inputIds?: readonly number[] | readonly (readonly number[])[];
};

/** A loaded model. Every method may be called any number of times, also at once; `dispose` frees it. */
export interface Image2Text {
  readonly git: Git;
  readonly config: GitConfig;
  readonly tokenizer: Tokenizer;
  readonly imageConfig: ImageConfig;
  /**
   * Says what is in a picture, or in each of several. Without options it decodes as the original project does: 4 beams, length penalty 0.6.
   *
   * @throws ImageError, OptionError, BackendError, DisposedError, or the signal's reason; nothing is left behind then.
   */
  caption(picture: Picture, options?: CaptionOptions): Promise<Caption>;
  caption(pictures: readonly Picture[], options?: CaptionOptions): Promise<Caption[]>;
  /** The sequences themselves: token ids, log-probabilities and scores, `[picture][rank]`. */
  generate(pictures: Picture | readonly Picture[], options?: GenerateSequencesOptions): Promise<GeneratedSequence[][]>;
  /** Frees the weights as soon as calls in flight have stopped, which they do at their next step with a DisposedError. */
  dispose(): void;
}

/**
 * Loads a checkpoint from its files: config.json, weights, vocab.txt or tokenizer.json, preprocessor_config.json.
 *
 * @throws ConfigError, TokenizerError, SafetensorsError, WeightError, BackendError, or the signal's reason; nothing stays loaded then.
 */
export async function loadImage2Text(files: ModelFiles, options: LoadOptions = {}): Promise<Image2Text> {
  if (options.backend !== undefined) await useBackend(options.backend);
  const { config, tensors } = await openGit(files); // headers only: a bad small file is found before the weights are read
  const tokenizer = await openTokenizer(files, config);
  const imageConfig = await openImageConfig(files, config);
  const params = await loadGitParams(config, tensors, files.label, options);
  return createImage2Text({ config, params }, tokenizer, imageConfig, options);
}

async function useBackend(name: string): Promise<void> {
  if (await setBackend(name)) return;
  throw new BackendError({
    place: name,
    rule: 'backend-failed',
    detail: 'it is not registered or does not start; import its package first',
  });
}

/** The hall where the rooms meet, around parts that are loaded already. It owns the weights from here on. */
export function createImage2Text(
  git: Git,
  tokenizer: Tokenizer,
  imageConfig: ImageConfig,
  options: Pick<LoadOptions, 'route' | 'openPicture' | 'exifOrientation' | 'maxPixels'> = {},
): Image2Text {
  const lifetime = startLifetime(() => disposeGit(git));
  const writer = { git, tokenizer };
  const open = options.openPicture ?? fetchPicture;

  async function look(picture: Picture, signal: AbortSignal): Promise<ModelInput> {
    const { exifOrientation, maxPixels } = options;
    const image = await toRawImage(picture, open, { exifOrientation, maxPixels, signal });
    return { pixels: preprocess([image], imageConfig, { route: options.route ?? 'huggingface' }), video: false };
  }

  async function write(
    pictures: readonly Picture[],
    prompts: readonly (readonly number[])[],
    given: CaptionOptions,
  ): Promise<GeneratedSequence[][]> {
    const { generation, scope } = splitOptions(given);
    return lifetime.during(given.signal, async (signal) => {
      const inputs: (ModelInput & { prompt: readonly number[] })[] = [];
      for (const [n, picture] of pictures.entries())
        inputs.push({ ...(await look(picture, signal)), prompt: prompts[n]! });
      return writeSequences(writer, inputs, generation, { ...scope, signal });
    });
  }

  async function caption(picture: Picture, options?: CaptionOptions): Promise<Caption>;
  async function caption(pictures: readonly Picture[], options?: CaptionOptions): Promise<Caption[]>;
  async function caption(
    pictures: Picture | readonly Picture[],
    options: CaptionOptions = {},
  ): Promise<Caption | Caption[]> {
    const many = asList(pictures);
    const prompt = promptIds(tokenizer, options.prompt);
    const sequences = await write(
      many,
      many.map(() => prompt),
      options,
    );
    const captions = sequences.map((ranked) => toCaption(tokenizer, ranked));
    return Array.isArray(pictures) ? captions : captions[0]!;
  }

  return {
    git,
    config: git.config,
    tokenizer,
    imageConfig,
    caption,
    async generate(pictures, options = {}) {
      const { inputIds = [tokenizer.clsId], ...rest } = options;
      const many = asList(pictures);
      return write(many, promptsFor(inputIds, many.length), rest as CaptionOptions);
    },
    dispose: () => lifetime.end(),
  };
}

const asList = (pictures: Picture | readonly Picture[]): readonly Picture[] =>
  Array.isArray(pictures) ? (pictures as readonly Picture[]) : [pictures as Picture];

/** One list of ids for each picture. */
function promptsFor(
  ids: readonly number[] | readonly (readonly number[])[],
  pictures: number,
): readonly (readonly number[])[] {
  if (!Array.isArray(ids[0])) return Array.from({ length: pictures }, () => ids as readonly number[]);
  if (ids.length === pictures) return ids as readonly (readonly number[])[];
  throw new OptionError({
    place: 'inputIds',
    rule: 'row-count',
    detail: `${ids.length} lists of ids for ${pictures} pictures`,
  });
}
