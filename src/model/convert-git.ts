import type { ModelFiles } from '../checkpoint/byte-source.js';
import { type ConvertDtype, encodeTensor, type Losses } from '../checkpoint/encode-tensor.js';
import { compareWeights } from '../checkpoint/load-params.js';
import { piecePool } from '../checkpoint/open-checkpoint.js';
import { type NewTensor, planSafetensors } from '../checkpoint/safetensors.js';
import { INT8_METADATA, nameOf } from '../checkpoint/stored-tensor.js';
import { WeightError } from '../errors.js';
import { type Layout, specEntries } from '../layers/param-spec.js';
import { gitSpec } from './git.js';
import { canonicalNames, IGNORED, type OpenedGit, openGit, weightHint } from './load-git.js';

/** What int8 is for: the matrices that make up a checkpoint's size, word embeddings included. */
const MATRICES: readonly Layout[] = ['linear', 'embedding'];

/**
 * Every tensor that the model needs in another number format, or, of layouts that are not among `narrowed`, in float32 (default: int8 for matrices,
 * other formats for all). Names and shapes are compared before anything is read; the tensors of a group belong into one file.
 *
 * @throws WeightError.
 */
export function convertTensors(
  { config, tensors }: OpenedGit,
  label: string,
  dtype: ConvertDtype,
  losses: Losses,
  narrowed: readonly Layout[] | undefined = dtype === 'int8' ? MATRICES : undefined,
): NewTensor[][] {
  const stored = canonicalNames(tensors);
  const needed = specEntries(gitSpec(config));
  compareWeights(needed, stored, { label, ignore: IGNORED, hint: weightHint(config) });
  const pool = piecePool();
  return needed.map(({ name, spec }) => {
    const narrow = narrowed === undefined || narrowed.includes(spec.layout) ? dtype : 'f32';
    return encodeTensor(stored.get(name)!, narrow, losses, pool);
  });
}

/** What the header of such a file says beside its tensors. */
export const convertedMetadata = (dtype: ConvertDtype): Readonly<Record<string, string>> => ({
  format: 'pt',
  ...(dtype === 'int8' && INT8_METADATA),
});

/** Halves from here on, 128, backends may keep as float32 (simd does): then the file's own numbers are needed. */
const LARGE_HALF = 0x5800;

/**
 * A checkpoint's weights as one safetensors file from which a backend that keeps layouts `narrowed` in this format, and the others as float32, makes
 * the very bits that it makes of the checkpoint itself. Undefined where the file would be no smaller, and for the original's layout, whose
 * config may be in its shapes only. Tensors pass through some megabytes at a time.
 *
 * @throws as `openGit`; from `pieces` as `encodeTensor`, and WeightError (`f16-overflow`) for halves of 128 and more.
 */
export async function convertedWeights(
  files: ModelFiles,
  dtype: ConvertDtype,
  narrowed: readonly Layout[],
): Promise<{ readonly size: number; pieces(): AsyncIterable<Uint8Array> } | undefined> {
  const opened = await openGit(files);
  if (opened.layout === 'original') return undefined;
  const converted = convertTensors(opened, files.label, dtype, { flushed: 0 }, narrowed).flat();
  const { header, tensors, size } = planSafetensors(converted, convertedMetadata(dtype));
  const before = [...opened.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  if (size >= before) return undefined;
  return {
    size,
    async *pieces() {
      yield header;
      for (const tensor of tensors) {
        for await (const piece of tensor.pieces()) {
          if (tensor.dtype === 'F16') checkHalves(tensor.name, files.label, piece);
          yield piece;
        }
      }
    },
  };
}

function checkHalves(name: string, file: string, { buffer, byteOffset, byteLength }: Uint8Array): void {
  const bits = new Uint16Array(buffer, byteOffset, byteLength / 2);
  if (!bits.some((word) => (word & 0x7fff) >= LARGE_HALF)) return;
  throw new WeightError({ file, path: nameOf(name), code: 'f16-overflow', detail: 'it has numbers of 128 and more' });
}
