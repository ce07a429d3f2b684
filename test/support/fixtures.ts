import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Root of the repository, with a closing slash. */
export const ROOT = fileURLToPath(new URL('../../', import.meta.url));
export const FIXTURES = `${ROOT}test/fixtures/`;
export const REFERENCE = `${FIXTURES}reference/`;
/** Scores of captions and answers by the field's own programs. */
export const METRICS_REFERENCE = `${REFERENCE}metrics/`;
export const HOSTILE = `${FIXTURES}hostile/`;
/** Inputs of kinds that people met, and what Python makes of them; the small ones. */
export const REAL = `${FIXTURES}real/`;
export const DEMO = `${ROOT}weights/demo/`;
export const EXAMPLES = `${ROOT}examples/`;

export const readJson = <T>(path: string): T => JSON.parse(readFileSync(path, 'utf8')) as T;
export const readBin = (path: string): Uint8Array<ArrayBuffer> => new Uint8Array(readFileSync(path));

/**
 * The tokenizer cases with BERT's full vocabulary, which is not part of this repository: a folder named by IMAGE2TEXT_REFERENCE,
 * or `shared/reference` beside the clone. Tests that need it skip where it is missing.
 */
export const TOKENIZER_REFERENCE: string | undefined = [
  process.env['IMAGE2TEXT_REFERENCE'] ?? '',
  `${ROOT}../shared/reference`,
]
  .map((folder) => `${folder}/tokenizer/`)
  .find((folder) => existsSync(`${folder}vocab.txt`));

/** One entry of the hostile collection (test/fixtures/hostile/README.md describes the fields). */
export interface HostileCase {
  readonly file: string;
  readonly kind: string;
  readonly expect: 'load' | 'error' | 'unsupported' | 'load-or-unsupported' | 'load-or-error';
  readonly rule: string;
  readonly note?: string;
  readonly tensors?: Readonly<Record<string, { dtype: string; shape: number[]; values: (number | string)[] }>>;
  readonly width?: number;
  readonly height?: number;
  readonly max_seconds?: number;
}

/** The hostile cases of the given kinds, of each of which there are some. */
export function hostileCases(...kinds: string[]): HostileCase[] {
  const { entries } = readJson<{ entries: HostileCase[] }>(`${HOSTILE}manifest.json`);
  for (const kind of kinds)
    assert.ok(
      entries.some((entry) => entry.kind === kind),
      kind,
    );
  return entries.filter((entry) => kinds.includes(entry.kind));
}

/** Hostile files that the manifest leaves open, because trusted readers differ, and that we refuse: the code of the error, or `unsupported`. */
const REFUSED: Readonly<Record<string, string>> = {
  'safetensors/rank_bomb.safetensors': 'unsupported',
  'safetensors/zip_torch.safetensors': 'not-safetensors',
  'config/bom.json': 'byte-order-mark',
  'config/model_type_missing.json': 'bad-invalid-value',
  'config/edge_duplicate_key.json': 'duplicate-key',
  'vocab/duplicate.txt': 'duplicate-token',
  'vocab/bom.txt': 'byte-order-mark',
  'vocab/nul.txt': 'illegal-token',
  'image/edge_bad_adler.png': 'zlib-data',
  'image/rare_dnl.jpg': 'unsupported',
  'image/rare_hierarchical.jpg': 'unsupported',
  'image/edge_no_eoi.jpg': 'jpeg-truncated',
  'image/edge_lost_last_bytes.jpg': 'jpeg-truncated',
  'image/bomb_progressive_scans.jpg': 'jpeg-scans',
  'image/sof_same_component_ids.jpg': 'jpeg-scan',
  'image/sof_two_components.jpg': 'unsupported',
  'image/scan_marker_inside.jpg': 'jpeg-truncated',
  'torch/evil_before_valid.bin': 'not-torch',
  'torch/evil_after_stop.bin': 'pickle-trailing',
  'torch/evil_second_pickle_entry.bin': 'unsupported',
  'torch/bomb_laughs_in_value.bin': 'pickle-target',
  'torch/edge_dup_keys.bin': 'duplicate-key',
  'torch/edge_record_long.bin': 'storage-record',
  'torch/zip_local_name_differs.bin': 'zip-local-header',
  'torch/zip_flag_patch.bin': 'zip-entry',
  'torch/zip_two_roots.bin': 'torch-archive',
  'torch/zip_dotdot.bin': 'zip-entry',
  'torch/zip_bomb_deflate.bin': 'storage-record',
  'torch/zip_prefix.bin': 'not-torch',
  'torch/legacy_trailing.bin': 'trailing-bytes',
  'torch/not_torch_safetensors.bin': 'not-torch',
};

/** What becomes of a hostile file here: `load`, `error` or `unsupported`; where the manifest leaves it open, the code of the error in place of `error`. */
export const endOf = ({ file, expect }: HostileCase): string =>
  expect.includes('-or-') ? (REFUSED[file] ?? 'load') : expect;
