import {
  addedTokenOf,
  asObject,
  booleanOf,
  describe,
  failAt,
  fieldOf,
  type JsonObject,
  listOf,
  objectOf,
  stringOf,
  tokenEntryOf,
} from './json-fields.js';
import { type AddedToken, ROLES, type Role, type TokenizerSettings } from './settings.js';
import { TOKEN_LIMIT } from './vocabulary.js';

const CLASSES = ['BertTokenizer', 'BertTokenizerFast'];

/**
 * Reads a tokenizer_config.json (already parsed), as `BertTokenizer.from_pretrained` of transformers 4.40 does.
 * Unknown keys are ignored; null is the same as absent.
 *
 * @throws TokenizerError for a key of the wrong type, and (`unsupported`) for another kind of tokenizer or for options
 *   that BERT checkpoints do not use
 */
export function parseTokenizerConfig(json: unknown, file: string): TokenizerSettings {
  const root = asObject(json, file, '');
  refuseOtherKinds(root);
  return {
    lowerCase: booleanOf(root, 'do_lower_case'),
    stripAccents: booleanOf(root, 'strip_accents'),
    tokenizeChineseChars: booleanOf(root, 'tokenize_chinese_chars'),
    cleanUpTokenizationSpaces: booleanOf(root, 'clean_up_tokenization_spaces'),
    neverSplit: neverSplitOf(root),
    specialTokens: specialTokensOf(root),
    addedTokens: addedTokensOf(root),
    modelMaxLength: modelMaxLengthOf(root),
  };
}

function refuseOtherKinds(root: JsonObject): void {
  const only = (key: string, allowed: readonly string[]) => {
    const value = stringOf(root, key);
    if (value !== undefined && !allowed.includes(value)) {
      failAt(root, key, 'unsupported-option', `${describe(value)}; known: ${allowed.join(', ')}`, true);
    }
  };
  only('tokenizer_class', CLASSES);
  only('padding_side', ['right']);
  only('truncation_side', ['right']);
  if (booleanOf(root, 'do_basic_tokenize') === false) {
    failAt(root, 'do_basic_tokenize', 'unsupported-option', 'must be true', true);
  }
}

function specialTokensOf(root: JsonObject): Partial<Record<Role, string>> {
  const names: Partial<Record<Role, string>> = {};
  for (const role of ROLES) {
    const entry = tokenEntryOf(root, `${role}_token`);
    if (entry !== undefined) names[role] = entry.content;
  }
  return names;
}

function neverSplitOf(root: JsonObject): string[] | undefined {
  return listOf(root, 'never_split')?.map((word, i) => {
    if (typeof word === 'string') return word;
    return failAt(root, 'never_split', 'wrong-type', `entry ${i} must be a string, not ${describe(word)}`);
  });
}

/** `added_tokens_decoder` (content by id) and `additional_special_tokens` (no ids), each token once. */
function addedTokensOf(root: JsonObject): AddedToken[] {
  const tokens = new Map<string, AddedToken>();
  const decoder = objectOf(root, 'added_tokens_decoder');
  for (const key of Object.keys(decoder?.value ?? {})) {
    if (!/^(0|[1-9]\d{0,15})$/.test(key)) failAt(decoder!, key, 'illegal-id', 'must be a token id');
    const entry = addedTokenOf(asObject(fieldOf(decoder!, key), root.file, `added_tokens_decoder.${key}`));
    if (tokens.has(entry.content)) failAt(decoder!, key, 'duplicate-token', `${describe(entry.content)} comes twice`);
    tokens.set(entry.content, { ...entry, id: Number(key) });
  }
  const list = listOf(root, 'additional_special_tokens') ?? [];
  if (list.length > TOKEN_LIMIT) failAt(root, 'additional_special_tokens', 'too-many-tokens', `${list.length} tokens`);
  const asFields: JsonObject = { file: root.file, path: 'additional_special_tokens', value: { ...list } };
  for (const key of Object.keys(asFields.value)) {
    const { content } = tokenEntryOf(asFields, key) ?? failAt(asFields, key, 'wrong-type', 'must be a token, not null');
    tokens.set(content, { content, special: true, id: tokens.get(content)?.id });
  }
  return [...tokens.values()];
}

/** transformers writes 1e30 for "no limit", which is no number of tokens. */
function modelMaxLengthOf(root: JsonObject): number | undefined {
  const value = fieldOf(root, 'model_max_length');
  if (value === undefined) return undefined;
  const isLength =
    typeof value === 'number' && value >= 1 && (Number.isInteger(value) || value === Number.POSITIVE_INFINITY);
  if (!isLength) failAt(root, 'model_max_length', 'wrong-type', `must be a positive integer, not ${describe(value)}`);
  return value > Number.MAX_SAFE_INTEGER ? undefined : value;
}
