/** Names what bytes are by how they begin, for messages about a file that is not what its name says. */

interface Signature {
  readonly what: string;
  readonly bytes: readonly number[] | string;
  readonly at?: number;
}

const SIGNATURES: readonly Signature[] = [
  {
    what: 'a Git LFS pointer (the file itself was not downloaded: run "git lfs pull")',
    bytes: 'version https://git-lfs',
  },
  { what: 'a zip archive (a PyTorch file?)', bytes: 'PK\x03\x04' },
  { what: 'an empty zip archive', bytes: 'PK\x05\x06' },
  { what: 'a gzip file', bytes: [0x1f, 0x8b] },
  { what: 'a 7z archive', bytes: [0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c] },
  { what: 'an xz file', bytes: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00] },
  { what: 'a bzip2 file', bytes: 'BZh' },
  { what: 'a zstd file', bytes: [0x28, 0xb5, 0x2f, 0xfd] },
  { what: 'an HDF5 file', bytes: [0x89, 0x48, 0x44, 0x46, 0x0d, 0x0a, 0x1a, 0x0a] },
  { what: 'a GGUF file', bytes: 'GGUF' },
  { what: 'a numpy file', bytes: [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59] },
  { what: 'a PNG image', bytes: [0x89, 0x50, 0x4e, 0x47] },
  { what: 'a JPEG image', bytes: [0xff, 0xd8, 0xff] },
  { what: 'a PDF', bytes: '%PDF-' },
  { what: 'a tar archive', bytes: 'ustar', at: 257 },
  { what: 'a tar archive (PyTorch before 0.2)', bytes: 'storages\0' },
];

const codes = (bytes: readonly number[] | string) =>
  typeof bytes === 'string' ? Array.from(bytes, (c) => c.charCodeAt(0)) : bytes;

/** What the bytes look like (the first 512 are enough), or undefined where they show no known sign. */
export function recognizeBytes(head: Uint8Array): string | undefined {
  if (head.length === 0) return 'an empty file';
  const hit = SIGNATURES.find(({ bytes, at = 0 }) => codes(bytes).every((code, index) => head[at + index] === code));
  if (hit) return hit.what;
  if (head[8] === 0x7b && head.subarray(4, 8).every((byte) => byte === 0)) return 'a safetensors file';
  if (head[0] === 0x80 && head[1]! >= 2 && head[1]! <= 5) return 'a Python pickle (an old PyTorch file?)';
  if (head[0] === 0x08 && head[1]! <= 12 && head[2] === 0x12) return 'an ONNX file';
  const start = String.fromCharCode(...head.subarray(0, 512))
    .replace(/^\xef\xbb\xbf/, '')
    .trimStart()
    .toLowerCase();
  if (start === '' && head.length <= 512) return 'a blank file';
  if (/^<(!doctype|html|head|body|\?xml|!--)/.test(start)) return 'a web page';
  return start.startsWith('{') ? 'JSON' : undefined;
}
