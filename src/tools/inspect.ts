import { stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { type ByteSource, type ModelFiles, readBytes } from '../checkpoint/byte-source.js';
import { readJson } from '../checkpoint/json.js';
import { compareWeights } from '../checkpoint/load-params.js';
import { openCheckpoint, readSharded, readWeights } from '../checkpoint/open-checkpoint.js';
import { readSafetensors } from '../checkpoint/safetensors.js';
import type { TensorMap } from '../checkpoint/stored-tensor.js';
import { readValues } from '../checkpoint/stored-tensor.js';
import { looksLikeTorch, readPytorch } from '../checkpoint/torch/torch-file.js';
import { ConfigError, TorchFileError } from '../errors.js';
import { IMAGE_ENDING, recognize } from '../file-signature.js';
import { nodeTransport } from '../hub/node-transport.js';
import { openRemote } from '../hub/remote-files.js';
import { decodeImage, identifyImage } from '../image/decode.js';
import { parseImageConfig } from '../image/image-config.js';
import { openImageConfig, openTokenizer } from '../image2text/load.js';
import { specEntries } from '../layers/param-spec.js';
import { gitSpec } from '../model/git.js';
import { type GitConfig, parseGitConfig } from '../model/git-config.js';
import { canonicalNames, countParameters, IGNORED, openGit, weightHint } from '../model/load-git.js';
import { fromDirectory, fromFile } from '../platform/node-files.js';
import { loadTokenizer } from '../tokenizer/tokenizer.js';
import { parseTokenizerConfig } from '../tokenizer/tokenizer-config.js';

/** What a file holds. */
export interface Inspection {
  readonly file: string;
  readonly kind: FileKind | 'checkpoint folder';
  /** Short facts in the order to show them. */
  readonly facts: Readonly<Record<string, string | number | boolean>>;
  readonly tensors?: readonly {
    readonly name: string;
    readonly dtype: string;
    readonly shape: readonly number[];
    readonly bytes: number;
  }[];
  readonly metadata?: Readonly<Record<string, string>>;
  /** Odd, but harmless. */
  readonly warnings?: readonly string[];
}

type Found = Omit<Inspection, 'file' | 'kind'>;

/**
 * Says what is in a file, in a checkpoint folder, or in a file behind an http address, of which only the ranges that matter are fetched.
 * Without `check` only headers are read; with it everything is read and checked as loading would do it.
 *
 * @throws the error that loading would give; `unsupported` is true on it where the file is legal but outside this project.
 */
export async function inspectFile(
  path: string,
  options: { readonly check?: boolean; readonly signal?: AbortSignal } = {},
): Promise<Inspection> {
  const check = options.check ?? false;
  if (/^https?:/i.test(path)) return inspectRemote(path, check, options.signal);
  const found = await stat(path).catch(() => undefined);
  if (found === undefined)
    throw new ConfigError({ file: path, code: 'no-such-file', detail: 'there is no such file or folder' });
  if (found.isDirectory())
    return { file: path, kind: 'checkpoint folder', ...(await inspectFolder(await fromDirectory(path), check)) };
  return inspectSource(path, await fromFile(path), () => fromDirectory(dirname(path)), check);
}

/** A file on a web server, with the proxies of the environment. */
async function inspectRemote(url: string, check: boolean, signal?: AbortSignal): Promise<Inspection> {
  const transport = nodeTransport(process.env);
  const open = (address: string) => openRemote(address, { fetch: transport.fetch, signal });
  const shards: ModelFiles = { label: url, open: (name) => open(new URL(name, url).href) };
  try {
    return await inspectSource(url, await open(url), async () => shards, check);
  } finally {
    transport.close();
  }
}

/** `folder` gives the files beside this one, for the shards of an index. */
async function inspectSource(
  path: string,
  source: ByteSource,
  folder: () => Promise<ModelFiles>,
  check: boolean,
): Promise<Inspection> {
  const all = () => readBytes(source, 0, source.size);
  const name = path.replace(/[?#].*$/, '');
  const kind = await kindOf(name, all, await readBytes(source, 0, Math.min(16, source.size)));
  return { file: path, kind, ...(await inspectKind(kind, path, source, folder, check)) };
}

async function inspectKind(
  kind: FileKind,
  path: string,
  source: ByteSource,
  folder: () => Promise<ModelFiles>,
  check: boolean,
): Promise<Found> {
  const bytes = () => readBytes(source, 0, source.size);
  const json = async () => readJson(await bytes(), path);
  switch (kind) {
    case 'safetensors':
    case 'safetensors index':
    case 'pytorch':
    case 'pytorch index':
      return inspectWeights(kind, path, source, folder, check);
    case 'config':
      return { facts: configFacts(parseGitConfig(await json(), path)) };
    case 'preprocessor config':
      return { facts: flatten(parseImageConfig(await json(), path)) };
    case 'tokenizer config':
      return { facts: flatten(parseTokenizerConfig(await json(), path)) };
    case 'generation config':
      return { facts: flatten((await json()) as object) };
    case 'tokenizer':
      return tokenizerFacts(loadTokenizer({ tokenizerJson: { bytes: await bytes(), file: path } }));
    case 'vocabulary':
      return tokenizerFacts(loadTokenizer({ vocabTxt: { bytes: await bytes(), file: path } }));
    case 'image':
      return inspectImage(await bytes(), path, check);
  }
}

type WeightKind = 'safetensors' | 'safetensors index' | 'pytorch' | 'pytorch index';

async function inspectWeights(
  kind: WeightKind,
  path: string,
  source: ByteSource,
  folder: () => Promise<ModelFiles>,
  check: boolean,
): Promise<Found> {
  const { tensors, ...more } = await openWeights(kind, path, source, folder);
  if (check) for (const tensor of tensors.values()) await readValues(tensor);
  return { facts: tensorFacts(tensors), tensors: listTensors(tensors), ...more };
}

async function openWeights(
  kind: WeightKind,
  path: string,
  source: ByteSource,
  folder: () => Promise<ModelFiles>,
): Promise<{ tensors: TensorMap } & Pick<Found, 'metadata' | 'warnings'>> {
  if (kind === 'safetensors') return readSafetensors(source, path);
  if (kind === 'pytorch') return readPytorch(source, path);
  const index = { name: basename(path), source };
  return kind === 'pytorch index'
    ? readSharded(await folder(), index, readPytorch, TorchFileError)
    : readSharded(await folder(), index, readSafetensors);
}

async function inspectFolder(files: ModelFiles, check: boolean): Promise<Found> {
  const { config, tensors } = await openGit(files);
  const tokenizer = await openTokenizer(files, config);
  const image = await openImageConfig(files, config);
  const { format, metadata, warnings } = await openCheckpoint(files);
  if (check) await checkWeights(config, tensors, files.label);
  return {
    facts: {
      format,
      parameters: countParameters(config),
      ...configFacts(config),
      'vocabulary size of the tokenizer': tokenizer.vocabSize,
      ...flatten(image, 'image '),
      ...tensorFacts(tensors),
    },
    metadata,
    warnings,
  };
}

/** Reads every weight that the config asks for, as loading would, but keeps none. */
async function checkWeights(config: GitConfig, stored: TensorMap, label: string): Promise<void> {
  const tensors = canonicalNames(stored);
  const needed = specEntries(gitSpec(config));
  compareWeights(needed, tensors, { label, ignore: IGNORED, hint: weightHint(config) });
  for (const { name, spec } of needed) await readWeights(tensors.get(name)!, spec);
}

async function inspectImage(bytes: Uint8Array, file: string, check: boolean): Promise<Found> {
  const facts = await identifyImage(bytes, { file });
  if (check) await decodeImage(bytes, { file });
  return { facts: flatten(facts) };
}

const listTensors = (tensors: TensorMap): NonNullable<Inspection['tensors']> =>
  [...tensors.values()].map(({ name, dtype, shape, byteLength }) => ({ name, dtype, shape, bytes: byteLength }));

function tensorFacts(tensors: TensorMap): Found['facts'] {
  const all = [...tensors.values()];
  return {
    tensors: all.length,
    dtypes: [...new Set(all.map(({ dtype }) => dtype))].sort().join(' '),
    'weight bytes': all.reduce((sum, { byteLength }) => sum + byteLength, 0),
  };
}

const configFacts = ({ vision, ...text }: GitConfig): Found['facts'] => ({
  ...(text as unknown as Record<string, string | number>),
  ...flatten(vision, 'vision '),
});

const tokenizerFacts = (tokenizer: {
  vocabSize: number;
  clsId: number;
  sepId: number;
  padId: number;
  unkId: number;
}): Found => ({
  facts: {
    words: tokenizer.vocabSize,
    '[CLS]': tokenizer.clsId,
    '[SEP]': tokenizer.sepId,
    '[PAD]': tokenizer.padId,
    '[UNK]': tokenizer.unkId,
  },
});

/** The entries of an object as text or numbers. */
function flatten(value: object, prefix = ''): Found['facts'] {
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, fact]) => fact !== undefined)
      .map(([key, fact]) => [
        prefix + key,
        typeof fact === 'number' || typeof fact === 'boolean' || typeof fact === 'string' ? fact : JSON.stringify(fact),
      ]),
  );
}

/** What a file is for. */
export type FileKind =
  | 'safetensors'
  | 'safetensors index'
  | 'pytorch'
  | 'pytorch index'
  | 'config'
  | 'preprocessor config'
  | 'tokenizer'
  | 'tokenizer config'
  | 'generation config'
  | 'vocabulary'
  | 'image';

const BY_ENDING: readonly (readonly [RegExp, FileKind])[] = [
  [/\.safetensors$/i, 'safetensors'],
  [/\.safetensors\.index\.json$/i, 'safetensors index'],
  [/\.bin\.index\.json$/i, 'pytorch index'],
  [/\.(bin|pt|pth|ckpt)$/i, 'pytorch'],
  [IMAGE_ENDING, 'image'],
  [/\.hei[cf]$/i, 'image'],
  [/\.txt$/i, 'vocabulary'],
];

const BY_NAME: readonly (readonly [RegExp, FileKind])[] = [
  [/(^|[\\/])preprocessor_config\.json$/i, 'preprocessor config'],
  [/(^|[\\/])tokenizer_config\.json$/i, 'tokenizer config'],
  [/(^|[\\/])generation_config\.json$/i, 'generation config'],
  [/(^|[\\/])tokenizer[^\\/]*\.json$/i, 'tokenizer'],
];

/** Keys that only one kind of JSON file has at its top. */
const BY_KEY: readonly (readonly [readonly string[], FileKind])[] = [
  [['weight_map'], 'safetensors index'],
  [['model', 'added_tokens', 'pre_tokenizer', 'normalizer'], 'tokenizer'],
  [['tokenizer_class', 'do_lower_case', 'model_max_length'], 'tokenizer config'],
  [
    [
      'image_mean',
      'image_std',
      'do_resize',
      'do_center_crop',
      'image_processor_type',
      'feature_extractor_type',
      'size',
      'crop_size',
    ],
    'preprocessor config',
  ],
];

/**
 * The kind of a file by its name, and for JSON by what it holds; a file of no known ending by its first bytes.
 *
 * @throws ConfigError where a .json file of no telling name is not JSON at all.
 */
export function kindOf(file: string, bytes: () => Promise<Uint8Array>, head: Uint8Array): Promise<FileKind> | FileKind {
  const named = [...BY_ENDING, ...BY_NAME].find(([pattern]) => pattern.test(file));
  if (named !== undefined) return named[1];
  if (/\.json$/i.test(file)) return bytes().then((all) => kindOfJson(readJson(all, file)));
  return kindOfHead(head);
}

/** JSON that fits no other kind is read as a config, whose errors say what a config needs. */
function kindOfJson(json: unknown): FileKind {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) return 'config';
  if ('vision_config' in json || 'model_type' in json) return 'config';
  return BY_KEY.find(([keys]) => keys.some((key) => key in json))?.[1] ?? 'config';
}

function kindOfHead(head: Uint8Array): FileKind {
  if (recognize(head)?.what === 'a safetensors file') return 'safetensors';
  return looksLikeTorch(head) ? 'pytorch' : 'image'; // its reader names what the bytes are
}
