import { join } from 'node:path';
import type { ModelFiles } from '../checkpoint/byte-source.js';
import { readBytes } from '../checkpoint/byte-source.js';
import { ConfigError } from '../errors.js';
import type { ConvertDtype } from './encode-tensor.js';
import { writeWhole } from './files.js';
import type { WrittenFile } from './write-safetensors.js';

/** What lies beside the weights, and is copied as it is where it is there. */
const COPIED = [
  'preprocessor_config.json',
  'processor_config.json',
  'generation_config.json',
  'vocab.txt',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
] as const;
const MAX_BYTES = 64 * 2 ** 20;

/** What Python makes of the weights when it is told to load them as they are. */
const TORCH_DTYPES: Readonly<Record<ConvertDtype, string>> = {
  f32: 'float32',
  f16: 'float16',
  bf16: 'bfloat16',
  int8: 'float32',
};

/** Writes config.json for weights of this format and copies the other small files of a checkpoint into `folder`. */
export async function writeSmallFiles(
  source: ModelFiles,
  config: unknown,
  dtype: ConvertDtype,
  folder: string,
): Promise<{ readonly files: WrittenFile[]; readonly warnings: string[] }> {
  const torch_dtype = TORCH_DTYPES[dtype];
  const text = JSON.stringify({ architectures: ['GitForCausalLM'], ...(config as object), torch_dtype }, undefined, 2);
  const files = [await write(folder, 'config.json', new TextEncoder().encode(`${text}\n`))];
  for (const name of COPIED) {
    const found = await source.open(name);
    if (found === undefined) continue;
    if (found.size > MAX_BYTES) throw new ConfigError({ file: name, code: 'too-large', detail: `${found.size} bytes` });
    files.push(await write(folder, name, await readBytes(found, 0, found.size)));
  }
  const named = new Set(files.map(({ name }) => name));
  const warnings =
    named.has('vocab.txt') || named.has('tokenizer.json')
      ? []
      : ['the source has no vocabulary: put its vocab.txt there (for the published models that of bert-base-uncased)'];
  return { files, warnings };
}

async function write(folder: string, name: string, bytes: Uint8Array): Promise<WrittenFile> {
  await writeWhole(join(folder, name), bytes);
  return { name, bytes: bytes.length };
}
