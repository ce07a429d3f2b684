import type { ModelFiles } from '../checkpoint/byte-source.js';
import { fromBytes } from '../checkpoint/byte-source.js';
import { fnv1a } from '../checkpoint/generated-weights.js';
import type { StoredTensor } from '../checkpoint/stored-tensor.js';
import { elementCount } from '../checkpoint/stored-tensor.js';
import { OptionError } from '../errors.js';
import { seededRandom } from '../generation/generate.js';
import { specEntries, type TensorSpec } from '../layers/param-spec.js';
import { type Git, gitSpec } from '../model/git.js';
import type { GitConfig } from '../model/git-config.js';
import { loadGitParams, readGitConfig } from '../model/load-git.js';
import { joined, safetensorsPieces } from './checkpoint.js';

// Weights to train a model from nothing.

export interface InitialWeightsOptions {
  /**
   * `huggingface`, the default: what transformers' GIT begins with. Matrices and embeddings are normal with a deviation of 0.02, the padding word,
   * temporal embeddings and biases 0, layer norms 1. `fan-in`: the deviation of a matrix is 1/√inputs, so that activations keep their size
   * whatever the width, that of embeddings 1, and positions of patches are waves, by which neighbors are easily found; small models learn faster
   * from it.
   */
  readonly scheme?: 'huggingface' | 'fan-in' | undefined;
  /** Default 0. Each tensor has numbers of its own, which depend on seed and name alone. */
  readonly seed?: number | undefined;
}

const HUGGING_FACE_DEVIATION = 0.02; // GitConfig's initializer_range

/** Is it one vector for each word, position or image, rather than a matrix that inputs are multiplied by? */
const isEmbedding = (name: string): boolean => /embeddings?\.weight$|class_embedding$/.test(name) && !isPatch(name);
const isPatch = (name: string): boolean => name.endsWith('patch_embedding.weight');

const isPatchPosition = (name: string): boolean => name.endsWith('vision_model.embeddings.position_embedding.weight');

/**
 * Positions of g x g patches, row by row after the class token's, as sines and cosines of row and column with wavelengths from 2 patches to 2g (as
 * MAE begins, arXiv 2111.06377, with waves that fit the grid): that a patch is next to another is one rotation, wherever they are. Deviation 1;
 * columns that are left over stay as they are.
 */
function fillWaves(values: Float32Array, [positions, width]: readonly [number, number]): void {
  const grid = Math.sqrt(positions - 1);
  const waves = Math.floor(width / 4);
  for (let patch = 0; patch < positions - 1; patch++) {
    const places = [Math.floor(patch / grid), patch % grid];
    for (let wave = 0; wave < waves; wave++) {
      const pace = Math.PI / grid ** (wave / Math.max(1, waves - 1)); // radians from one patch to the next
      for (const [axis, place] of places.entries()) {
        const at = (1 + patch) * width + 4 * wave + 2 * axis;
        values[at] = Math.SQRT2 * Math.sin(pace * place);
        values[at + 1] = Math.SQRT2 * Math.cos(pace * place);
      }
    }
  }
}

/** The values of one tensor as a checkpoint stores it. */
function initialValues(
  name: string,
  { shape }: TensorSpec,
  { padTokenId }: GitConfig,
  { scheme = 'huggingface', seed = 0 }: InitialWeightsOptions,
): Float32Array<ArrayBuffer> {
  const values = new Float32Array(elementCount(shape));
  if (name.includes('img_temperal_embedding') || name.endsWith('.bias')) return values;
  if (shape.length === 1 && !isEmbedding(name)) return values.fill(1); // layer norms
  const inputs = isEmbedding(name) ? 1 : elementCount(shape.slice(1));
  const deviation = scheme === 'huggingface' ? HUGGING_FACE_DEVIATION : 1 / Math.sqrt(inputs);
  const random = seededRandom(seed, fnv1a(name));
  for (let i = 0; i < values.length; i += 2) {
    // Box and Muller: two normal numbers of two uniform ones.
    const [radius, angle] = [deviation * Math.sqrt(-2 * Math.log(1 - random())), 2 * Math.PI * random()];
    values[i] = radius * Math.cos(angle);
    if (i + 1 < values.length) values[i + 1] = radius * Math.sin(angle);
  }
  if (scheme === 'fan-in' && isPatchPosition(name)) fillWaves(values, shape as readonly [number, number]);
  if (name === 'git.embeddings.word_embeddings.weight')
    values.fill(0, padTokenId * shape[1]!, (padTokenId + 1) * shape[1]!);
  return values;
}

/** Every tensor of a checkpoint, made when it is read. */
function initialTensors(config: GitConfig, options: InitialWeightsOptions): StoredTensor[] {
  const { scheme = 'huggingface' } = options;
  if (scheme !== 'huggingface' && scheme !== 'fan-in') {
    const detail = `expected "huggingface" or "fan-in", found ${JSON.stringify(scheme)}`;
    throw new OptionError({ path: 'scheme', code: 'unknown-scheme', detail });
  }
  return specEntries(gitSpec(config)).map(({ name, spec }) => {
    const byteLength = 4 * elementCount(spec.shape);
    const read = async (begin = 0, end = byteLength) =>
      new Uint8Array(initialValues(name, spec, config, options).buffer, begin, end - begin);
    return { name, dtype: 'F32', shape: spec.shape, byteLength, file: 'initial weights', read };
  });
}

/**
 * A model that knows nothing, to train: weights of random numbers. The caller owns the parameters: `disposeGit`.
 *
 * @throws OptionError for an unknown scheme.
 */
export async function initialWeights(config: GitConfig, options: InitialWeightsOptions = {}): Promise<Git> {
  const tensors = new Map(initialTensors(config, options).map((tensor) => [tensor.name, tensor]));
  return { config, params: await loadGitParams(config, tensors, 'initial weights') };
}

/**
 * A folder with config.json, vocabulary and preprocessor_config.json, and model.safetensors of `initialWeights` in place of its weights, if any:
 * `loadImage2Text(await withInitialWeights(files))` is a model to train from nothing.
 *
 * @throws ConfigError where config.json is missing or wrong; OptionError for an unknown scheme.
 */
export async function withInitialWeights(files: ModelFiles, options: InitialWeightsOptions = {}): Promise<ModelFiles> {
  const tensors = initialTensors(await readGitConfig(files), options).map(({ name, shape, read }) => ({
    ...{ name, dtype: 'F32' as const, shape },
    async *pieces() {
      yield await read();
    },
  }));
  const weights = await joined(safetensorsPieces(tensors, { format: 'pt' }));
  return {
    label: files.label,
    async open(name) {
      if (name === 'model.safetensors') return fromBytes(weights);
      return /\.(safetensors|bin|pt|pth|index\.json)$/.test(name) ? undefined : files.open(name);
    },
  };
}
