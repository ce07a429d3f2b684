import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import * as z from 'zod/mini';
import { fromBytes } from '../checkpoint/byte-source.js';
import { readJson } from '../checkpoint/json.js';
import { readSafetensors } from '../checkpoint/safetensors.js';
import { readValues } from '../checkpoint/stored-tensor.js';
import { ConfigError, OptionError } from '../errors.js';
import { disposeGit, type Git } from '../model/git.js';
import { loadGit } from '../model/load-git.js';
import { fromDirectory } from '../platform/node-files.js';

/** Numbers on the host, row-major. */
export interface HostTensor {
  readonly shape: readonly number[];
  readonly values: ArrayLike<number>;
}

/** Files of a checkpoint folder that are the checkpoint's own. */
export const CHECKPOINT_FILE =
  /^(model|pytorch_model)([-.].*)?\.(safetensors|bin|pt)$|^(model\.safetensors|pytorch_model\.bin)\.index\.json$|^model\.pt$/;

/** What a running case may use. */
export interface ParityScope {
  readonly models: ModelCache;
  readonly signal: AbortSignal | undefined;
  /** The case was asked for by name (`--only`), so it runs even where it takes minutes. */
  readonly asked: boolean;
}

/** One case of a folder: a name, and how to run it. */
export interface ParityCase {
  /** As rows and `--only` name it. */
  readonly name: string;
  /** Makes the rows. What it throws becomes a row, so that one broken case does not hide the others. */
  run(scope: ParityScope): AsyncGenerator<ParityRow>;
}

/** The cases that a kind found in a folder, and the files that it takes as its own; `SUBFOLDER/FILE` for one further down. */
export interface Found {
  readonly cases: readonly ParityCase[];
  readonly claims: readonly string[];
}

/** A kind of case: looks at the files that no kind before it has claimed; undefined where there is nothing of its kind. */
export interface CaseKind {
  find(folder: Folder, unclaimed: readonly string[]): Promise<Found | undefined>;
}

/** A folder that may hold cases. */
export interface Folder {
  readonly path: string;
  /** How rows name it: its path below the folder that was given, or that folder's own name. */
  readonly label: string;
  /** Names of its files, sorted. */
  readonly files: readonly string[];
}

/** Far deeper than anyone sorts test cases; stops a loop that the file system itself makes. */
const MAX_DEPTH = 16;

/**
 * The folder and all below it, in order of their names; hidden ones, `node_modules` and symbolic links to folders are left out.
 *
 * @throws OptionError when the path is not a folder.
 */
export async function* walkFolders(directory: string): AsyncGenerator<Folder> {
  const root = resolve(directory);
  const found = await stat(root).catch(() => undefined);
  if (found?.isDirectory() !== true) {
    const detail = found === undefined ? 'there is no such folder' : 'this is not a folder';
    throw new OptionError({ file: directory, code: 'not-a-folder', detail });
  }
  yield* walk(root, '', basename(root), 0);
}

async function* walk(path: string, below: string, root: string, depth: number): AsyncGenerator<Folder> {
  const entries = await readdir(path, { withFileTypes: true }).catch((cause: Error) => {
    throw new OptionError({ file: path, code: 'unreadable-folder', detail: cause.message, cause });
  });
  const names = (wanted: boolean) =>
    entries
      .filter((entry) => entry.isDirectory() === wanted)
      .map(({ name }) => name)
      .sort();
  yield { path, label: below === '' ? root : below, files: names(false) };
  if (depth === MAX_DEPTH) return;
  for (const name of names(true)) {
    if (name.startsWith('.') || name === 'node_modules') continue;
    yield* walk(join(path, name), below === '' ? name : `${below}/${name}`, root, depth + 1);
  }
}

/** One comparison: a tensor, a sequence or a file of a case, and how far ours is from it. */
export interface ParityRow {
  /** Folder and case, as `--only` matches it: `tiny-a/forward_b1`. */
  readonly case: string;
  /** What was compared: `decoder.layer.2`, `sequences`, `pixel_values`; `-` where the case did not get that far. */
  readonly tensor: string;
  /** Largest |ours - float64 truth|, or |ours - reference| where the reference has no float64 run; a count of wrong items for exact kinds. */
  readonly error?: number;
  /** The reference's own |float32 - float64|, largest. */
  readonly referenceError?: number;
  /** error / referenceError, where both are against float64 and the latter is not zero. */
  readonly ratio?: number;
  /** Most that `error` may be. 0: exact. */
  readonly tolerance?: number;
  readonly verdict: Verdict;
  /** Where and what the largest error is; or why it was not run. One line. */
  readonly note?: string;
}

export type Verdict = 'pass' | 'fail' | 'not run';

/** A comparison that was not made, and why. */
export const notRun = (caseName: string, tensor: string, why: string): ParityRow => ({
  case: caseName,
  tensor,
  verdict: 'not run',
  note: why,
});

/** A case that broke before a number was there. */
export const failed = (caseName: string, tensor: string, why: string): ParityRow => ({
  case: caseName,
  tensor,
  verdict: 'fail',
  note: why,
});

/** An exact comparison: `wrong` items differ; `first` says how the first of them does. */
export function exactRow(caseName: string, tensor: string, wrong: number, first?: string): ParityRow {
  const row = { case: caseName, tensor, error: wrong, tolerance: 0 };
  if (wrong === 0) return { ...row, verdict: 'pass' };
  return { ...row, verdict: 'fail', ...(first === undefined ? {} : { note: first }) };
}

const numbersByName = z.record(z.string(), z.number());

/** What the json beside a tensor file may say; all of it optional, everything else ignored. */
const factsSchema = z.object({
  what: z.optional(z.string()),
  /** Largest |float32 - float64| of the reference, by tensor. */
  f32_vs_f64_max_abs: z.optional(numbersByName),
  /** Tolerance by tensor, or one for all. */
  suggested_atol: z.optional(numbersByName),
  atol: z.optional(z.number()),
  /** Another tensor file of the folder that holds the images. */
  pixel_values_from: z.optional(z.string()),
});
type CaseFacts = z.infer<typeof factsSchema>;

/** A tensor file of a case with its json. */
export interface CaseFile {
  readonly folder: string;
  /** File name without its ending. */
  readonly name: string;
  readonly facts: CaseFacts;
  readonly tensors: ReadonlyMap<string, HostTensor>;
}

/** Reads NAME.safetensors and, where there is one, NAME.json. Throws SafetensorsError, WeightError or ConfigError. */
export async function readCaseFile(folder: string, name: string, hasJson: boolean): Promise<CaseFile> {
  const facts = hasJson ? await readJsonFile(folder, `${name}.json`, factsSchema) : {};
  return { folder, name, facts, tensors: await readTensors(folder, `${name}.safetensors`) };
}

/** Every tensor of a safetensors file, as numbers. */
export async function readTensors(folder: string, file: string): Promise<ReadonlyMap<string, HostTensor>> {
  const bytes = new Uint8Array(await readFile(join(folder, file)));
  const { tensors } = await readSafetensors(fromBytes(bytes), file);
  const result = new Map<string, HostTensor>();
  for (const [name, stored] of tensors) {
    const values = await readValues(stored);
    const numbers =
      values instanceof BigInt64Array || values instanceof BigUint64Array ? Array.from(values, Number) : values;
    result.set(name, { shape: stored.shape, values: numbers });
  }
  return result;
}

/** Reads a json file of a case and checks its layout. Throws ConfigError with the path of what is wrong. */
export async function readJsonFile<T extends z.core.$ZodType>(
  folder: string,
  file: string,
  schema: T,
): Promise<z.infer<T>> {
  const json = readJson(new Uint8Array(await readFile(join(folder, file))), file);
  return checkLayout(json, file, schema);
}

/** A list whose first entry is of this layout: enough to know a file by; whether all are, is found out when it is read. */
export const firstOf = <T extends z.ZodMiniType>(schema: T) => z.tuple([schema], z.unknown());

/** Does a json file have this layout? A broken one has none. */
export async function sniffJson(folder: string, file: string, schema: z.core.$ZodType): Promise<boolean> {
  return await readJsonFile(folder, file, schema).then(
    () => true,
    () => false,
  );
}

/** Checks what a json file holds against the layout that a kind of case has. */
export function checkLayout<T extends z.core.$ZodType>(json: unknown, file: string, schema: T): z.infer<T> {
  const parsed = z.safeParse(schema, json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const path = issue === undefined || issue.path.length === 0 ? undefined : issue.path.join('.');
  throw new ConfigError({ file, path, code: 'case-layout', detail: issue?.message ?? 'is wrong' });
}

/** The tensor `name` of a case, or a ConfigError that it is missing. */
export function needTensor(file: CaseFile, name: string): HostTensor {
  const tensor = file.tensors.get(name);
  if (tensor !== undefined) return tensor;
  throw new ConfigError({
    file: `${file.name}.safetensors`,
    path: name,
    code: 'case-layout',
    detail: 'this tensor is missing',
  });
}

/** Files that belong to a checkpoint, not to a case. */
const NOT_A_CASE =
  /^(config|generation_config|preprocessor_config|processor_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|package|package-lock|tsconfig)\.json$/;

/** Last of the kinds: whatever has the form of a case and no kind took is named. */
export const unknownFiles: CaseKind = {
  async find(folder, unclaimed) {
    const left = unclaimed.filter(
      (file) => /\.(json|jsonl|safetensors)$/.test(file) && !NOT_A_CASE.test(file) && !CHECKPOINT_FILE.test(file),
    );
    const cases = left.map((file): ParityCase => {
      const name = `${folder.label}/${file}`;
      return {
        name,
        async *run() {
          if (file.endsWith('.json')) readJson(new Uint8Array(await readFile(join(folder.path, file))), file); // broken: a failure
          yield notRun(name, '-', 'no kind of case that parity knows');
        },
      };
    });
    return { cases, claims: left };
  },
};

/** Keeps the model that was asked for last, since the cases of a folder share one. */
interface ModelCache {
  /**
   * The model of a folder; valid until the next call. Throws what loading it throws.
   *
   * @param load makes it, where the folder is not a checkpoint.
   */
  get(path: string, load?: () => Promise<Git>): Promise<Git>;
  dispose(): void;
}

export function openModelCache(signal: AbortSignal | undefined): ModelCache {
  let held: { readonly path: string; readonly git: Git } | undefined;
  const dispose = (): void => {
    if (held !== undefined) disposeGit(held.git);
    held = undefined;
  };
  return {
    async get(path, load = async () => loadGit(await fromDirectory(path), signal === undefined ? {} : { signal })) {
      if (held?.path === path) return held.git;
      dispose(); // first, so that two models never share the memory
      held = { path, git: await load() };
      return held.git;
    },
    dispose,
  };
}
