import { realpath } from 'node:fs/promises';
import { basename } from 'node:path';
import { OptionError } from '../errors.js';
import { isOffline } from '../hub/environment.js';
import type { RawImage } from '../image/raw-image.js';
import { type ImageInput, toRawImage } from '../image2text/images.js';
import { toFrames, type Video } from '../image2text/videos.js';
import { fromDirectory } from '../platform/directory.js';
import { openImage } from '../platform/node-images.js';
import { openVideo } from '../platform/node-videos.js';
import { listPublishedLogits, type PublishedLogits } from './models.js';
import type { VerifyOptions } from './verify.js';

/** Images of the published numbers that can be fetched. Which frames of the video were used depends on its decoder. */
const ADDRESSES: Readonly<Record<string, string>> = {
  'COCO val2017 000000039769.jpg': 'http://images.cocodataset.org/val2017/000000039769.jpg',
  'nielsr/textvqa-sample bus.png': 'https://huggingface.co/datasets/nielsr/textvqa-sample/resolve/main/bus.png',
};

/** The numbers published with a checkpoint. Throws OptionError (`which-checkpoint`, `nothing-published`). */
export function publishedFor(
  id: string | undefined,
  model: string,
  catalogue: readonly PublishedLogits[] = listPublishedLogits(),
): PublishedLogits {
  const found = catalogue.find(({ checkpoint }) => checkpoint === id);
  if (found !== undefined) return found;
  const known = catalogue.map(({ checkpoint }) => checkpoint.replace(/^microsoft\//, '')).join(', ');
  throw id === undefined
    ? new OptionError({
        file: model,
        path: 'as',
        code: 'which-checkpoint',
        detail: `say which published one it is: ${known}`,
      })
    : new OptionError({
        file: id,
        path: 'as',
        code: 'nothing-published',
        detail: `numbers are published for ${known}`,
      });
}

/**
 * What a model is called on the Hub: the name that it is asked for by, or what its folder's path says. Throws ConfigError for what is
 * neither a name nor a folder.
 */
export async function publishedName(model: string): Promise<string | undefined> {
  const path = await realpath(model).catch(() => undefined);
  if (path === undefined && !/^\w[\w.-]*\/\w[\w.-]*$/.test(model)) await fromDirectory(model);
  if (path === undefined) return model;
  const [, owner, name] = /[\\/]models--([^\\/]+?)--([^\\/]+)/.exec(path) ?? []; // in the Hub's cache
  if (owner !== undefined) return `${owner}/${name}`;
  return basename(path).startsWith('git-') ? `microsoft/${basename(path)}` : undefined;
}

/** The image of published numbers, or the frames of its video. Throws OptionError (`image-needed`), ImageError. */
export async function openPublishedImage(
  { picture: what, config }: PublishedLogits,
  { image, addresses = ADDRESSES, env = process.env, localFilesOnly, signal }: VerifyOptions,
): Promise<RawImage[]> {
  const address = image ?? (localFilesOnly === true || isOffline(env) ? undefined : addresses[what]);
  if (address === undefined) {
    const detail = `the numbers were published for ${what}, which cannot be fetched here: name your copy`;
    throw new OptionError({ path: 'image', code: 'image-needed', detail });
  }
  const frames = config.num_image_with_embedding;
  if (frames === null) return [await toRawImage(address as ImageInput, openImage, { exifOrientation: false, signal })];
  return toFrames(address as Video, frames, { image: openImage, video: openVideo }, { exifOrientation: false, signal });
}
