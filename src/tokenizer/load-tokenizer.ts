import { TokenizerError } from '../errors.js';
import { createBertTokenizer } from './bert-tokenizer.js';
import type { TokenizerSettings } from './settings.js';
import type { NamedBytes } from './text-file.js';
import type { Tokenizer } from './tokenizer.js';
import { parseTokenizerConfig } from './tokenizer-config.js';
import { parseTokenizerJson } from './tokenizer-json.js';
import { parseVocab } from './vocabulary.js';

/** The tokenizer files of a checkpoint. */
export interface TokenizerFiles {
  /** vocab.txt. Where it is given, `tokenizerJson` is not read: the reference is the tokenizer that reads vocab.txt. */
  readonly vocabTxt?: NamedBytes | undefined;
  /** tokenizer.json. */
  readonly tokenizerJson?: NamedBytes | undefined;
  /** tokenizer_config.json, already parsed; BERT's defaults where there is none. */
  readonly tokenizerConfig?: { readonly json: unknown; readonly file: string } | undefined;
}

/**
 * Makes the tokenizer of a checkpoint. What tokenizer_config.json says goes before what tokenizer.json says.
 *
 * @throws TokenizerError where a file breaks a rule, a special token is missing, or there is no vocabulary at all
 */
export function loadTokenizer({ vocabTxt, tokenizerJson, tokenizerConfig }: TokenizerFiles): Tokenizer {
  const config = tokenizerConfig && parseTokenizerConfig(tokenizerConfig.json, tokenizerConfig.file);
  if (vocabTxt !== undefined) {
    return createBertTokenizer({ ...config, vocabulary: parseVocab(vocabTxt.bytes, vocabTxt.file) });
  }
  if (tokenizerJson === undefined) {
    throw new TokenizerError({
      code: 'vocabulary-missing',
      detail: 'the checkpoint has no vocab.txt and no tokenizer.json',
    });
  }
  const { vocabulary, settings } = parseTokenizerJson(tokenizerJson.bytes, tokenizerJson.file);
  return createBertTokenizer({ ...merge(settings, config ?? {}), vocabulary });
}

function merge(json: TokenizerSettings, config: TokenizerSettings): TokenizerSettings {
  const stated = Object.entries(config).filter(([, value]) => value !== undefined);
  const added = new Map((json.addedTokens ?? []).map((token) => [token.content, token]));
  for (const token of config.addedTokens ?? []) {
    added.set(token.content, { ...token, id: token.id ?? added.get(token.content)?.id });
  }
  return {
    ...json,
    ...Object.fromEntries(stated),
    specialTokens: { ...json.specialTokens, ...config.specialTokens },
    addedTokens: [...added.values()],
  };
}
