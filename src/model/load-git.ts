import type { ModelFiles } from '../checkpoint/byte-source.js';
import { readBytes } from '../checkpoint/byte-source.js';
import type { Json } from '../checkpoint/json.js';
import { readJson } from '../checkpoint/json.js';
import { checkInferred, inferConfig } from '../checkpoint/layout.js';
import type { LoadParamsOptions } from '../checkpoint/load-params.js';
import { checkMemory, loadParams, unusedTensors } from '../checkpoint/load-params.js';
import type { OpenCheckpoint } from '../checkpoint/open-checkpoint.js';
import { openCheckpoint } from '../checkpoint/open-checkpoint.js';
import type { TensorMap } from '../checkpoint/stored-tensor.js';
import { aliasTensors, renameTensors } from '../checkpoint/stored-tensor.js';
import type { WeightFault } from '../errors.js';
import { ConfigError, WeightError } from '../errors.js';
import { specEntries } from '../layers/param-spec.js';
import { type Git, gitSpec } from './git.js';
import type { GitConfig } from './git-config.js';
import { parseGitConfig } from './git-config.js';

export type LoadGitOptions = Pick<LoadParamsOptions, 'signal' | 'onProgress' | 'upload' | 'uploadCopies' | 'weights'>;

const MAX_CONFIG_BYTES = 1 << 20;

/** Names of buffers that some files carry and no computation uses. */
export const IGNORED = [/\.position_ids$/];

/**
 * Loads config and weights of a checkpoint folder. The caller owns the parameters: `disposeGit`.
 *
 * @throws ConfigError, SafetensorsError, WeightError, or the signal's reason; nothing stays loaded then.
 */
export async function loadGit(files: ModelFiles, options: LoadGitOptions = {}): Promise<Git> {
  const { config, tensors } = await openGit(files);
  return { config, params: await loadGitParams(config, tensors, files.label, options) };
}

/** A checkpoint folder whose small files and headers were read, and none of whose tensors was. */
export interface OpenedGit extends OpenCheckpoint {
  readonly config: GitConfig;
  /** config.json as it is, or what the shapes of the tensors say where there is none. */
  readonly json: unknown;
}

/**
 * Reads a checkpoint folder's config and the headers of its weights; no tensor is made. Weights in the original's layout may come
 * without a config.json: their shapes give it; where there is one, it must say the same.
 *
 * @throws ConfigError (`missing-file`, `config-contradicts-weights`, …), WeightError, SafetensorsError, TorchFileError.
 */
export async function openGit(files: ModelFiles): Promise<OpenedGit> {
  const given = await readConfig(files);
  const stated = given === undefined ? undefined : parseGitConfig(given, 'config.json');
  const opened = await openCheckpoint(files).catch((error: unknown) => {
    throw given === undefined && isNoWeights(error) ? missingConfig(files) : error;
  });
  if (opened.layout !== 'original') {
    if (stated === undefined) throw missingConfig(files);
    return describe(opened, stated, given, files.label);
  }
  const inferred = inferConfig(opened.tensors, files.label);
  if (stated === undefined) {
    return describe(opened, parseGitConfig(inferred, opened.files[0]), inferred, files.label);
  }
  checkInferred(inferred, given as Json);
  return describe(opened, stated, given, files.label);
}

/** Tensors that the model has no use for are a warning; those that it lacks are an error when they are loaded. */
function describe(opened: OpenCheckpoint, config: GitConfig, json: unknown, label: string): OpenedGit {
  const options = { label, ignore: IGNORED, hint: weightHint(config) };
  const unused = unusedTensors(specEntries(gitSpec(config)), canonicalNames(opened.tensors), options);
  return { ...opened, warnings: [...opened.warnings, ...unused], config, json };
}

const isNoWeights = (error: unknown): boolean => error instanceof WeightError && error.code === 'no-weights';

const missingConfig = ({ label }: ModelFiles): ConfigError =>
  new ConfigError({ file: label, path: 'config.json', code: 'missing-file', detail: 'there is none in this folder' });

/** The parameters of `config` from stored tensors, in either spelling of the temporal keys, with or without a tied output. */
export function loadGitParams(
  config: GitConfig,
  tensors: TensorMap,
  label: string,
  options: LoadGitOptions = {},
): Promise<Git['params']> {
  return loadParams(gitSpec(config), canonicalNames(tensors), {
    ...options,
    label,
    ignore: IGNORED,
    hint: weightHint(config),
  });
}

/**
 * Says before any tensor is read, from config and headers alone, that the weights are too large for the current backend's memory.
 *
 * @throws BackendError (`memory-limit`); ConfigError and what reading the headers throws.
 */
export async function checkGitMemory(
  files: ModelFiles,
  options: Pick<LoadGitOptions, 'weights' | 'upload'> = {},
): Promise<void> {
  const { config } = await openGit(files);
  checkMemory(specEntries(gitSpec(config)), options);
}

/** A folder's config.json, checked. @throws ConfigError where it is missing or wrong. */
export async function readGitConfig(files: ModelFiles): Promise<GitConfig> {
  const json = await readConfig(files);
  if (json === undefined) throw missingConfig(files);
  return parseGitConfig(json, 'config.json');
}

/** A folder's config.json as plain JSON, where there is one. */
async function readConfig(files: ModelFiles): Promise<unknown> {
  const source = await files.open('config.json');
  if (source === undefined) return undefined;
  if (source.size > MAX_CONFIG_BYTES) {
    throw new ConfigError({
      file: 'config.json',
      code: 'too-large',
      detail: `${source.size} bytes, at most ${MAX_CONFIG_BYTES}`,
    });
  }
  return readJson(await readBytes(source, 0, source.size), 'config.json');
}

/**
 * transformers 5 spells `img_temporal_embedding` what 4.x and the original spell `img_temperal_embedding`. `output.weight` is the word embedding
 * where the file leaves it out. A stored one counts, whatever `tie_word_embeddings` says, as in transformers 5.18.
 */
export function canonicalNames(tensors: TensorMap): TensorMap {
  const renamed = renameTensors(tensors, (name) =>
    name.replace(/^git\.img_temporal_embedding\./, 'git.img_temperal_embedding.'),
  );
  return aliasTensors(renamed, { 'output.weight': 'git.embeddings.word_embeddings.weight' });
}

/** How many parameters, and bytes as float32. */
export function countParameters(config: GitConfig): number {
  return specEntries(gitSpec(config)).reduce((sum, { spec }) => sum + spec.shape.reduce((a, b) => a * b, 1), 0);
}

/** Guesses what the checkpoint is, where its tensors do not fit the config. */
export function weightHint(config: GitConfig): (faults: readonly WeightFault[]) => string | undefined {
  return (faults) => {
    const find = (kind: WeightFault['kind'], pattern: RegExp) =>
      faults.find((f) => f.kind === kind && pattern.test(f.name));
    if (find('unexpected', /^(model|module|text_decoder|blip|vit)\b/))
      return 'this does not look like a GIT checkpoint in the Hugging Face layout';
    const size = find('misshapen', /class_embedding$/);
    if (size?.found !== undefined) {
      return `vision_config.hidden_size is ${config.vision.hiddenSize}, the file's vision tower has ${size.found[0]}: another size of checkpoint?`;
    }
    if (find('unexpected', /img_temp[eo]ral_embedding/))
      return 'the weights are of a video model: num_image_with_embedding in config.json?';
    if (find('missing', /img_temp[eo]ral_embedding/)) return 'config.json is of a video model, the weights are not';
    if (find('misshapen', /position_embedding\.weight$/))
      return 'image_size or patch_size in config.json is not the one of these weights';
    if (find('misshapen', /word_embeddings\.weight$/))
      return 'vocab_size in config.json is not the one of these weights';
    return undefined;
  };
}
