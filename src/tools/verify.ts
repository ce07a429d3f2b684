import { defaultImageConfig, type ImageConfig } from '../image/image-config.js';
import { openImageConfig } from '../image2text/checkpoint-files.js';
import type { ImageInput } from '../image2text/images.js';
import type { Video } from '../image2text/videos.js';
import { disposeGit } from '../model/git.js';
import type { LoadGitOptions } from '../model/load-git.js';
import { loadGitParams, openGit } from '../model/load-git.js';
import type { HubOptions } from '../platform/open-model.js';
import { openModel } from '../platform/open-model.js';
import { firstLogits } from './first-logits.js';
import type { PublishedLogits } from './models.js';
import { openPublishedImage, publishedFor, publishedName } from './published.js';

export interface VerifyOptions extends Omit<HubOptions, 'onProgress'> {
  /** Which published checkpoint it is, where neither its name nor its path says so. */
  readonly as?: string | undefined;
  /** The image (or frames) of the published numbers. Default: fetched, where that is possible. */
  readonly image?: ImageInput | Video | undefined;
  /** Hears the download. */
  readonly onDownload?: HubOptions['onProgress'];
  /** Hears the loading. */
  readonly onProgress?: LoadGitOptions['onProgress'];
  /** Instead of weights/published-logits.json. */
  readonly catalogue?: readonly PublishedLogits[] | undefined;
  /** Where images can be fetched, by what the catalogue calls them. */
  readonly addresses?: Readonly<Record<string, string>> | undefined;
}

/** One published number and ours. */
export interface VerifiedLogit {
  readonly index: number;
  readonly expected: number;
  readonly got: number;
  readonly difference: number;
  readonly passed: boolean;
}

export interface Verification {
  readonly checkpoint: string;
  /** How the weights are stored. */
  readonly dtypes: readonly string[];
  /** The image, in the catalogue's words. */
  readonly image: string;
  readonly tolerance: number;
  readonly logits: readonly VerifiedLogit[];
  readonly passed: boolean;
  /** What may explain a difference. */
  readonly notes: readonly string[];
}

/**
 * Loads a published checkpoint (a folder, or a name on the Hub) on the current backend and compares its logits of the first word for the
 * published image with the published numbers. That they differ is a result, not an error.
 *
 * @throws OptionError (`which-checkpoint`, `nothing-published`, `image-needed`); ImageError for the image; what finding and loading
 *   the model throws; the signal's reason. Nothing stays loaded.
 */
export async function verifyModel(model: string, options: VerifyOptions = {}): Promise<Verification> {
  const { signal, onDownload, onProgress } = options;
  const published = publishedFor(options.as ?? (await publishedName(model)), model, options.catalogue);
  const files = await openModel(model, { ...options, onProgress: onDownload });
  const { config, tensors } = await openGit(files);
  const dtypes = [...new Set([...tensors.values()].map(({ dtype }) => dtype))].filter((dtype) => dtype !== 'I64');
  const imageConfig = imageConfigOf(published);
  const notes = [
    ...(same(imageConfig, await openImageConfig(files, config)) ? [] : [otherPreprocessing(published)]),
    ...(dtypes.every((dtype) => dtype === 'F32')
      ? []
      : [`the weights are stored as ${dtypes.join(', ')}, the published numbers are of F32`]),
  ];
  const images = await openPublishedImage(published, options);
  const git = { config, params: await loadGitParams(config, tensors, files.label, { signal, onProgress }) };
  try {
    const asked = { video: isVideo(published), inputIds: published.input_ids[0], signal };
    const logits = compare(published, await firstLogits({ git, imageConfig }, images, asked));
    const passed = logits.every((logit) => logit.passed);
    const { checkpoint, picture, atol: tolerance } = published;
    return { checkpoint, dtypes, image: picture, tolerance, logits, passed, notes };
  } finally {
    disposeGit(git);
  }
}

const isVideo = ({ config }: PublishedLogits): boolean => config.num_image_with_embedding !== null;

/** The published numbers were made with these, whatever the checkpoint's own file says. */
const imageConfigOf = ({ config, preprocessing }: PublishedLogits): ImageConfig =>
  defaultImageConfig(config.image_size, preprocessing.startsWith('VideoMAE') ? 'videomae' : 'clip');

const same = (a: ImageConfig, b: ImageConfig): boolean => JSON.stringify(a) === JSON.stringify(b);

const otherPreprocessing = ({ preprocessing }: PublishedLogits): string =>
  `the folder's preprocessor_config.json differs from what was used here, with which the numbers were published: ${preprocessing}`;

function compare({ expected, atol }: PublishedLogits, logits: Float32Array): VerifiedLogit[] {
  return expected.map((value, index) => {
    const got = logits[index] ?? Number.NaN;
    const difference = Math.abs(got - value);
    return { index, expected: value, got, difference, passed: difference <= atol };
  });
}
