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

/** The hostile cases of the given kinds. */
export const hostileCases = (...kinds: string[]): HostileCase[] =>
  readJson<{ entries: HostileCase[] }>(`${HOSTILE}manifest.json`).entries.filter((entry) => kinds.includes(entry.kind));
