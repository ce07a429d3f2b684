import { WeightError } from '../errors.js';
import { nameOf, type StoredTensor, type TensorMap } from './stored-tensor.js';

/**
 * Checkpoints in the layout of Microsoft's GenerativeImage2Text (`model.pt`), under the names of Hugging Face's. The differences:
 * CLIP's own names in the vision tower, query, key and value of its attention stacked in one matrix, and a projection
 * `image_encoder.proj` of CLIP's contrastive training that GIT never uses.
 */

/** Longest first where one begins another. The rest of a name is kept. */
const PREFIXES: readonly (readonly [original: string, ours: string])[] = [
  ['image_encoder.class_embedding', 'git.image_encoder.vision_model.embeddings.class_embedding'],
  ['image_encoder.positional_embedding', 'git.image_encoder.vision_model.embeddings.position_embedding.weight'],
  ['image_encoder.conv1.', 'git.image_encoder.vision_model.embeddings.patch_embedding.'],
  ['image_encoder.ln_pre.', 'git.image_encoder.vision_model.pre_layrnorm.'],
  ['image_encoder.ln_post.', 'git.image_encoder.vision_model.post_layernorm.'],
  ['textual.embedding.words.', 'git.embeddings.word_embeddings.'],
  ['textual.embedding.positions.', 'git.embeddings.position_embeddings.'],
  ['textual.embedding.layer_norm.', 'git.embeddings.LayerNorm.'],
  ['textual.transformer.encoder.', 'git.encoder.'],
  ['textual.visual_projection.', 'git.visual_projection.visual_projection.'],
  ['textual.output.', 'output.'],
  ['img_temperal_embedding.', 'git.img_temperal_embedding.'],
];

const BLOCK = /^image_encoder\.transformer\.resblocks\.(\d+)\.(.+)$/;
const BLOCK_PARTS: readonly (readonly [original: string, ours: string])[] = [
  ['attn.out_proj.', 'self_attn.out_proj.'],
  ['ln_1.', 'layer_norm1.'],
  ['ln_2.', 'layer_norm2.'],
  ['mlp.c_fc.', 'mlp.fc1.'],
  ['mlp.c_proj.', 'mlp.fc2.'],
];
const FUSED = /^attn\.in_proj_(weight|bias)$/;
const UNUSED = 'image_encoder.proj';

/** Are these the names of the original project, with or without the `module.` of data-parallel training? */
export const isOriginalLayout = (tensors: TensorMap): boolean =>
  [...tensors.keys()].some((name) => /^(module\.)?(textual\.embedding\.words|image_encoder\.conv1)\./.test(name));

/**
 * The same tensors by Hugging Face's names, query, key and value apart; nothing is read. A name that the original does not have is
 * kept, to be reported with all others when the model is loaded. Throws WeightError (`fused-attention`, `name-collision`).
 */
export function fromOriginalLayout(tensors: TensorMap): TensorMap {
  const result = new Map<string, StoredTensor>();
  const add = (name: string, stored: StoredTensor) => {
    const other = result.get(name);
    if (other)
      throw weightError(stored, 'name-collision', `${nameOf(other.name)} means the same tensor, ${nameOf(name)}`);
    result.set(name, { ...stored, name });
  };
  for (const [fullName, stored] of tensors) {
    const name = fullName.replace(/^module\./, '');
    if (name === UNUSED) continue;
    const [, block, part] = BLOCK.exec(name) ?? [];
    if (block === undefined || part === undefined) {
      add(replacePrefix(name, PREFIXES), stored);
      continue;
    }
    const ours = `git.image_encoder.vision_model.encoder.layers.${block}.`;
    const fused = FUSED.exec(part)?.[1];
    if (fused === undefined) add(ours + replacePrefix(part, BLOCK_PARTS), stored);
    else for (const [which, third] of thirds(stored)) add(`${ours}self_attn.${which}_proj.${fused}`, third);
  }
  return result;
}

function replacePrefix(name: string, table: readonly (readonly [string, string])[]): string {
  const [original, ours] = table.find(([prefix]) => name.startsWith(prefix)) ?? ['', ''];
  return ours + name.slice(original.length);
}

/** The rows of a stacked matrix (or bias) are those of query, then key, then value; each third is read by itself. */
function thirds(stored: StoredTensor): [string, StoredTensor][] {
  const [rows = 0, ...columns] = stored.shape;
  if (rows === 0 || rows % 3 !== 0)
    throw weightError(stored, 'fused-attention', `${rows} rows are not query, key and value`);
  const byteLength = stored.byteLength / 3;
  return ['q', 'k', 'v'].map((which, index) => {
    const start = index * byteLength;
    const read = (begin = 0, end = byteLength) => stored.read(start + begin, start + end);
    return [which, { ...stored, shape: [rows / 3, ...columns], byteLength, read }];
  });
}

const weightError = (stored: StoredTensor, code: string, detail: string) =>
  new WeightError({ file: stored.file, path: nameOf(stored.name), code, detail });
