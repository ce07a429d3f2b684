import { createHash } from 'node:crypto';
import type { ByteSource, ModelFiles } from 'generative-image2text';

/** Small files that decide what a checkpoint says. */
const SMALL = [
  ...['config.json', 'preprocessor_config.json', 'processor_config.json', 'generation_config.json'],
  ...['vocab.txt', 'tokenizer.json', 'tokenizer_config.json'],
];
/** Weights, in the order in which loading looks for them; an index names its shards. */
const WEIGHTS = [
  'model.safetensors',
  'model.safetensors.index.json',
  'pytorch_model.bin',
  'pytorch_model.bin.index.json',
];
const PIECE = 8 * 2 ** 20;

/** What a checkpoint is, whatever it is called and wherever its files are. */
export interface ModelDigest {
  /** SHA-256 in hex, over the names and contents of its files. */
  readonly digest: string;
  /** Bytes of its weights. */
  readonly size: number;
}

export async function modelDigest(files: ModelFiles, signal?: AbortSignal): Promise<ModelDigest> {
  const whole = createHash('sha256');
  let size = 0;
  const add = async (name: string, isWeights: boolean): Promise<ByteSource | undefined> => {
    const source = await files.open(name);
    if (source === undefined) return undefined;
    whole.update(`${name}\0${source.size}\0`);
    for (let start = 0; start < source.size; start += PIECE) {
      signal?.throwIfAborted();
      const piece = await source.slice(start, Math.min(start + PIECE, source.size)).arrayBuffer();
      whole.update(new Uint8Array(piece));
    }
    if (isWeights) size += source.size;
    return source;
  };
  for (const name of SMALL) await add(name, false);
  for (const name of WEIGHTS) {
    const source = await add(name, !name.endsWith('.json'));
    if (source === undefined) continue;
    if (name.endsWith('.json')) for (const shard of await shardsOf(source)) await add(shard, true);
    break;
  }
  return { digest: whole.digest('hex'), size };
}

async function shardsOf(source: ByteSource): Promise<string[]> {
  const text = new TextDecoder().decode(await source.slice(0, source.size).arrayBuffer());
  const { weight_map: map } = JSON.parse(text) as { readonly weight_map?: Readonly<Record<string, string>> };
  return [...new Set(Object.values(map ?? {}))].sort();
}
