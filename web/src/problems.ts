/** What went wrong, in words that say what to do. */
const BY_CODE: Readonly<Record<string, string>> = {
  'not-an-image': 'This file is not an image that can be read here. JPEG, PNG, WebP, GIF, BMP, TIFF and AVIF can.',
  'cannot-fetch':
    'The image could not be fetched: the address is wrong, there is no network, or its site does not let other pages read it. Save the image and choose the file.',
  'http-status': 'The site has no image at this address.',
  'file-too-large': 'This file is too large.',
  'too-many-pixels': 'This image has too many pixels for this page.',
  'other-origin': 'Its site does not let other pages read this image. Save it and choose the file.',
  'worker-lost': 'The model’s worker has ended, most likely for want of memory. A new one is being started.',
  'worker-failed':
    'The model’s worker could not be started. Reload the page; if that does not help, this browser may block workers.',
  'not-found': 'There is no checkpoint of this name on the Hub.',
  'no-such-repository': 'There is no checkpoint of this name on the Hub.',
  'backend-failed': 'This engine does not start on this device. Choose another one.',
  'backend-not-installed': 'This engine does not start on this device. Choose another one.',
  'missing-file':
    'A file of the checkpoint is missing. It needs config.json, its weights and vocab.txt or tokenizer.json.',
  'adapter-does-not-fit': 'This adapter was made for another checkpoint.',
  'not-a-video-model': 'This checkpoint is for single images.',
};

const BY_NAME: Readonly<Record<string, string>> = {
  NotAllowedError: 'The browser was not allowed to use the camera or screen.',
  NotFoundError: 'No camera was found.',
  NotReadableError: 'The camera is in use by another program.',
  QuotaExceededError: 'The browser has no room left to keep the model. Clear what is kept, or free disk space.',
};

export function problemOf(error: unknown): string {
  const { name, code, message, detail } = error as { name?: string; code?: unknown; message?: string; detail?: string };
  return BY_CODE[String(code)] ?? BY_NAME[String(name)] ?? detail ?? message ?? String(error);
}
