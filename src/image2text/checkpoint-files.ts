import type { ByteSource, ModelFiles } from '../checkpoint/byte-source.js';
import { readBytes } from '../checkpoint/byte-source.js';
import { readJson } from '../checkpoint/json.js';
import { ConfigError, TokenizerError } from '../errors.js';
import type { ImageConfig } from '../image/image-config.js';
import { defaultImageConfig, parseImageConfig } from '../image/image-config.js';
import type { GitConfig } from '../model/git-config.js';
import { loadTokenizer } from '../tokenizer/load-tokenizer.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';

const MAX_FILE_BYTES = 64 * 2 ** 20;

/** The vocabulary of a checkpoint folder: vocab.txt, else tokenizer.json, with tokenizer_config.json's settings where there is one. */
export async function openTokenizer(files: ModelFiles, config: GitConfig): Promise<Tokenizer> {
  const [vocabTxt, tokenizerJson, settings] = await Promise.all([
    readSmall(files, 'vocab.txt'),
    readSmall(files, 'tokenizer.json'),
    readJsonFile(files, 'tokenizer_config.json'),
  ]);
  if (vocabTxt === undefined && tokenizerJson === undefined) {
    const detail = 'there is no vocab.txt and no tokenizer.json in this folder';
    throw new TokenizerError({ file: files.label, code: 'missing-file', detail });
  }
  const tokenizer = loadTokenizer({
    ...(vocabTxt === undefined ? { tokenizerJson: tokenizerJson! } : { vocabTxt }),
    ...(settings === undefined ? {} : { tokenizerConfig: settings }),
  });
  checkFit(tokenizer, config, vocabTxt?.file ?? 'tokenizer.json');
  return tokenizer;
}

/** A vocabulary of another model gives words that have nothing to do with the image, and no other sign. */
function checkFit(tokenizer: Tokenizer, config: GitConfig, file: string): void {
  const fail = (detail: string): never => {
    throw new ConfigError({ file, code: 'vocabulary-does-not-fit', detail: `${detail}: is it of another checkpoint?` });
  };
  if (tokenizer.vocabSize > config.vocabSize)
    fail(`${tokenizer.vocabSize} words, config.json has vocab_size ${config.vocabSize}`);
  if (tokenizer.clsId !== config.bosTokenId)
    fail(`[CLS] has id ${tokenizer.clsId}, config.json has bos_token_id ${config.bosTokenId}`);
  if (tokenizer.sepId !== config.eosTokenId)
    fail(`[SEP] has id ${tokenizer.sepId}, config.json has eos_token_id ${config.eosTokenId}`);
}

/** preprocessor_config.json, or what CLIP does for images of the model's size where there is none. */
export async function openImageConfig(files: ModelFiles, config: GitConfig): Promise<ImageConfig> {
  const found = await readJsonFile(files, 'preprocessor_config.json');
  return found === undefined ? defaultImageConfig(config.vision.imageSize) : parseImageConfig(found.json, found.file);
}

async function readJsonFile(files: ModelFiles, file: string): Promise<{ json: unknown; file: string } | undefined> {
  const found = await readSmall(files, file);
  return found === undefined ? undefined : { json: readJson(found.bytes, file), file };
}

async function readSmall(files: ModelFiles, file: string): Promise<{ bytes: Uint8Array; file: string } | undefined> {
  const source: ByteSource | undefined = await files.open(file);
  if (source === undefined) return undefined;
  if (source.size > MAX_FILE_BYTES) {
    throw new ConfigError({ file, code: 'too-large', detail: `${source.size} bytes, at most ${MAX_FILE_BYTES}` });
  }
  return { bytes: await readBytes(source, 0, source.size), file };
}
