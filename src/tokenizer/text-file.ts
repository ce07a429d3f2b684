import { TokenizerError } from '../errors.js';

/** Bytes and the name to call them by in errors. */
export interface NamedBytes {
  readonly bytes: Uint8Array;
  readonly file: string;
}

/** Files that people find under the name of another, by how they start. */
const DISGUISES: readonly (readonly [RegExp, string])[] = [
  [/^version https:\/\/git-lfs\./, 'a Git LFS pointer: fetch the file itself (git lfs pull)'],
  [/^\s*<(!doctype|html|head|body|\?xml|!--)/i, 'a web page'],
  [/^\x1f\x8b/, 'a gzip file: unpack it'],
  [/^PK[\x03\x05]/, 'a zip file'],
  [/^\x28\xb5\x2f\xfd/, 'a zstd file: unpack it'],
  [/^%PDF-/, 'a PDF file'],
  [/^.{5}\0{3}\{"/s, 'a safetensors file'],
  [/^(\xff\xfe|\xfe\xff)/, 'UTF-16: save it as UTF-8'],
];

/**
 * The text of a UTF-8 file.
 *
 * @throws TokenizerError where the file is larger than `limit` bytes, something else in disguise, starts with a byte
 *   order mark, or is not UTF-8
 */
export function readTextFile({ bytes, file }: NamedBytes, limit: number): string {
  const fail = (code: string, detail: string, at?: { path: string; offset: number }): never => {
    throw new TokenizerError({ file, ...at, code, detail });
  };
  if (bytes.length === 0) fail('empty-file', 'has no bytes');
  if (bytes.length > limit) fail('too-large', `${bytes.length} bytes, the limit is ${limit}`);
  const head = String.fromCharCode(...bytes.subarray(0, 64));
  for (const [pattern, name] of DISGUISES) if (pattern.test(head)) fail('not-a-tokenizer-file', `is ${name}`);
  if (head.startsWith('\xef\xbb\xbf')) {
    const detail = 'starts with U+FEFF, which would become part of the first token: save it without';
    fail('byte-order-mark', detail, { path: 'line 1', offset: 0 });
  }
  return (
    decodeUtf8(bytes) ?? fail('not-utf-8', 'a line with bytes that are not UTF-8 starts here', firstBadLine(bytes))
  );
}

function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** The first line that is not UTF-8, found line by line because a line feed is never inside a character. */
function firstBadLine(bytes: Uint8Array): { path: string; offset: number } {
  let offset = 0;
  let line = 1;
  for (; offset < bytes.length; line++) {
    const feed = bytes.indexOf(0x0a, offset);
    const end = feed < 0 ? bytes.length : feed + 1;
    if (decodeUtf8(bytes.subarray(offset, end)) === undefined) break;
    offset = end;
  }
  return { path: `line ${line}`, offset };
}
