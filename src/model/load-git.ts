import type { ModelFiles } from '../checkpoint/byte-source.js';
import { readBytes } from '../checkpoint/byte-source.js';
import { readJson } from '../checkpoint/json.js';
import type { LoadParamsOptions } from '../checkpoint/load-params.js';
import { loadParams } from '../checkpoint/load-params.js';
import { openCheckpoint } from '../checkpoint/open-checkpoint.js';
import type { TensorMap } from '../checkpoint/stored-tensor.js';
import { aliasTensors, renameTensors } from '../checkpoint/stored-tensor.js';
import type { WeightFault } from '../errors.js';
import { ConfigError } from '../errors.js';
import { specEntries } from '../layers/param-spec.js';
import type { Git } from './git.js';
import { gitSpec } from './git.js';
import type { GitConfig } from './git-config.js';
import { parseGitConfig } from './git-config.js';

export type LoadGitOptions = Pick<LoadParamsOptions, 'signal' | 'onProgress' | 'upload'>;

const MAX_CONFIG_BYTES = 1 << 20;

/** Buffers that some files carry and no computation uses. */
const IGNORED = [/\.position_ids$/];

/**
 * Loads config and weights of a checkpoint folder. The caller owns the parameters: `disposeGit`.
 *
 * @throws ConfigError, SafetensorsError, WeightError, or the signal's reason; nothing stays loaded then.
 */
export async function loadGit(files: ModelFiles, options: LoadGitOptions = {}): Promise<Git> {
  const { config, tensors } = await openGit(files);
  return { config, params: await loadGitParams(config, tensors, files.label, options) };
}

/** Reads a checkpoint folder's config and the headers of its weights; no tensor is made. */
export async function openGit(files: ModelFiles): Promise<{ readonly config: GitConfig; readonly tensors: TensorMap }> {
  const config = parseGitConfig(await readConfig(files), 'config.json');
  return { config, tensors: (await openCheckpoint(files)).tensors };
}

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

/** Reads a folder's config.json as plain JSON. */
export async function readConfig(files: ModelFiles): Promise<unknown> {
  const source = await files.open('config.json');
  if (source === undefined) {
    throw new ConfigError({
      file: files.label,
      place: 'config.json',
      rule: 'missing-file',
      detail: 'there is none in this folder',
    });
  }
  if (source.size > MAX_CONFIG_BYTES) {
    throw new ConfigError({
      file: 'config.json',
      rule: 'too-large',
      detail: `${source.size} bytes, at most ${MAX_CONFIG_BYTES}`,
    });
  }
  return readJson(await readBytes(source, 0, source.size), 'config.json');
}

/**
 * transformers 5 spells `img_temporal_embedding` what 4.x and the original spell `img_temperal_embedding`; and a file may leave out
 * `output.weight` where it is the word embedding.
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

/** What the checkpoint seems to be, where its tensors do not fit the config. */
function weightHint(config: GitConfig): (faults: readonly WeightFault[]) => string | undefined {
  return (faults) => {
    const find = (kind: WeightFault['kind'], pattern: RegExp) =>
      faults.find((f) => f.kind === kind && pattern.test(f.name));
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
    if (find('unexpected', /^(model|module|text_decoder|blip|vit)\b/))
      return 'this does not look like a GIT checkpoint in the Hugging Face layout';
    return undefined;
  };
}
