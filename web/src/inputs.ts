/** Every way in: what it gives is one image to show, and what the model takes. */
import type { WorkerInput } from '../../src/worker/client.js';

/** Something to describe. */
export interface Given {
  /** To be drawn; the page owns it. */
  readonly bitmap: ImageBitmap;
  readonly input: WorkerInput;
  /** Frames of a video, to be chosen from. */
  readonly frames?: readonly ImageBitmap[] | undefined;
}

/** Frames that a video model takes, and that the page keeps of a live window. */
export const FRAMES = 6;

/** An image, GIF or video file. */
export async function fromBlob(blob: Blob, isVideoModel: boolean): Promise<Given> {
  if (blob.type.startsWith('video/')) return fromVideo(blob, isVideoModel);
  const bitmap = await createImageBitmap(blob).catch(() => undefined);
  if (bitmap === undefined) return { bitmap: await blank(), input: blob }; // the library decodes more than some browsers do, and says what is wrong
  if (blob.type === 'image/gif' && isVideoModel && (await countGifFrames(blob)) > 1)
    return { bitmap, input: { video: blob } };
  return { bitmap, input: blob };
}

const blank = (): Promise<ImageBitmap> => createImageBitmap(new ImageData(4, 3));

/** Graphic control extensions come once a frame. */
async function countGifFrames(blob: Blob): Promise<number> {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let frames = 0;
  for (let i = 0; i + 2 < bytes.length; i++)
    if (bytes[i] === 0x21 && bytes[i + 1] === 0xf9 && bytes[i + 2] === 4) frames++;
  return frames;
}

/** Samples a video in the middle of each of six equal parts. */
async function fromVideo(blob: Blob, isVideoModel: boolean): Promise<Given> {
  const video = Object.assign(document.createElement('video'), { muted: true, playsInline: true, preload: 'auto' });
  video.src = URL.createObjectURL(blob);
  try {
    await event(video, 'loadeddata');
    const length = await lengthOf(video);
    const frames: ImageBitmap[] = [];
    for (let n = 0; n < FRAMES; n++) {
      const sought = event(video, 'seeked');
      video.currentTime = ((n + 0.5) / FRAMES) * length;
      await sought;
      frames.push(await createImageBitmap(video));
    }
    return { bitmap: frames[0]!, frames, input: isVideoModel ? { frames } : frames[0]! };
  } finally {
    URL.revokeObjectURL(video.src);
  }
}

/** In seconds. What a browser records has no length in it: that is known at its end only. */
async function lengthOf(video: HTMLVideoElement): Promise<number> {
  if (Number.isFinite(video.duration)) return video.duration;
  const sought = event(video, 'seeked');
  video.currentTime = Number.MAX_SAFE_INTEGER;
  await sought;
  return Number.isFinite(video.duration) ? video.duration : video.currentTime;
}

const event = (video: HTMLVideoElement, name: string): Promise<void> =>
  new Promise((resolve, reject) => {
    video.addEventListener(name, () => resolve(), { once: true });
    video.addEventListener(
      'error',
      () => reject(new Error('This browser cannot play this video. MP4 with H.264 and WebM can be played by most.')),
      { once: true },
    );
  });

/** An image by its address. */
export async function fromAddress(address: string, isVideoModel: boolean): Promise<Given> {
  let response: Response;
  try {
    response = await fetch(address);
  } catch (cause) {
    throw Object.assign(new Error('cannot fetch', { cause }), { code: 'cannot-fetch' });
  }
  if (!response.ok) throw Object.assign(new Error(`${response.status}`), { code: 'http-status' });
  return fromBlob(await response.blob(), isVideoModel);
}

/** The camera or the screen in `video`, until `stop`. */
export async function startLive(
  kind: 'camera' | 'screen',
  video: HTMLVideoElement,
): Promise<{ stop(): void; readonly ended: Promise<void> }> {
  const stream =
    kind === 'camera'
      ? await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment', width: { ideal: 1280 } } })
      : await navigator.mediaDevices.getDisplayMedia({ video: true });
  video.srcObject = stream;
  await video.play();
  const [track] = stream.getVideoTracks();
  const ended = new Promise<void>((resolve) => track!.addEventListener('ended', () => resolve()));
  const stop = (): void => {
    for (const each of stream.getTracks()) each.stop();
    video.srcObject = null;
  };
  return { stop, ended };
}
