import type { ImageConfig } from '../image/image-config.js';
import { preprocess } from '../image/preprocess.js';
import type { RawImage } from '../image/raw-image.js';
import { checkSize, withImageCache } from '../image2text/encode.js';
import type { Image2Text } from '../image2text/image2text.js';
import { startSession } from '../model/git-session.js';

export interface FirstLogitsOptions {
  /** Default: the model's own. */
  readonly imageConfig?: ImageConfig | undefined;
  /** The frames of a video, not an image. */
  readonly video?: boolean | undefined;
  /** What the text begins with. Default: the start token alone. */
  readonly inputIds?: readonly number[] | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The logits of the first word after the prompt, [V], for one image or for the frames of one video. */
export async function firstLogits(
  { git, imageConfig }: Pick<Image2Text, 'git' | 'imageConfig'>,
  images: readonly RawImage[],
  options: FirstLogitsOptions = {},
): Promise<Float32Array> {
  const signal = options.signal ?? new AbortController().signal;
  const pixels = preprocess(images, options.imageConfig ?? imageConfig);
  checkSize(pixels, git.config);
  return withImageCache(git, [{ pixels, video: options.video ?? false }], { signal }, async (image) => {
    const session = startSession(git, image);
    try {
      return (await session.step([[...(options.inputIds ?? [git.config.bosTokenId])]]))[0]!;
    } finally {
      session.dispose();
    }
  });
}
