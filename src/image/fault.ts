import { ImageError } from '../errors.js';

/** An illegal image: the broken rule, what was found, and where in the bytes. `withFile` adds the name at the door. */
export const fault = (code: string, detail: string, offset?: number): ImageError =>
  new ImageError({ code, detail, offset });

/** A legal image that this project does not read. */
export const unsupported = (code: string, detail: string, offset?: number): ImageError =>
  new ImageError({ code, detail, offset, unsupported: true });

/** The same error with a place that the thrower could not know, where it is ours and has none yet. */
export function addFacts(error: unknown, facts: { readonly file?: string; readonly offset?: number }): unknown {
  if (!(error instanceof ImageError)) return error;
  const { path, code, detail, unsupported, cause } = error;
  const file = error.file ?? facts.file;
  const offset = error.offset ?? facts.offset;
  return new ImageError({ file, path, offset, code, detail, unsupported, cause });
}

/** Runs `body`; an ImageError that leaves it carries the name of the image. */
export async function withFile<T>(file: string, body: () => T | Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    throw addFacts(error, { file });
  }
}

/** Refuses an image from its header, before anything is allocated in proportion to it. */
export function checkPixels(width: number, height: number, maxPixels: number, offset?: number): void {
  if (width < 1 || height < 1) throw fault('image-size', `the image is ${width} by ${height} pixels`, offset);
  if (width * height <= maxPixels) return;
  const megapixels = (count: number) => (count / 1e6).toFixed(count < 1e6 ? 3 : 1);
  throw fault(
    'image-too-large',
    `${width} by ${height} is ${megapixels(width * height)} megapixels; the limit (maxPixels) is ${megapixels(maxPixels)}`,
    offset,
  );
}

/** A typed array of `length` zeros; what the machine cannot give is an ImageError, not a RangeError. */
export function allocate<T>(Type: new (length: number) => T, length: number): T {
  try {
    return new Type(length);
  } catch (cause) {
    throw new ImageError({ code: 'image-memory', detail: `cannot allocate ${length} values for the image`, cause });
  }
}
