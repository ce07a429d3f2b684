import * as z from 'zod/mini'; // its export `z` would keep bundlers from leaving out what is not used
import { quote, TokenizerError } from '../errors.js';
import { showValue } from '../options.js';
import { type AddedToken, faultOf, ROLES, type Role, TOKEN_LIMIT } from './vocabulary.js';

/** What a checkpoint's files say about its tokenizer; what they leave open has BERT's default. */
export interface TokenizerSettings {
  /** Default true. */
  readonly lowerCase?: boolean | undefined;
  /** Default: as `lowerCase`. */
  readonly stripAccents?: boolean | undefined;
  /** Makes each CJK ideograph a word. Default true. */
  readonly tokenizeChineseChars?: boolean | undefined;
  /** Words that are not split, beside the special tokens. */
  readonly neverSplit?: readonly string[] | undefined;
  /** Default [UNK], [SEP], [PAD], [CLS] and, where the vocabulary has it, [MASK]. */
  readonly specialTokens?: Readonly<Partial<Record<Role, string>>> | undefined;
  readonly addedTokens?: readonly AddedToken[] | undefined;
  /** Words of more code points are unknown. Default 100. */
  readonly maxCharsPerWord?: number | undefined;
  /** What `decode` does unless told. Default true. */
  readonly cleanUpTokenizationSpaces?: boolean | undefined;
  /** The longest input that the model was made for, in tokens; nothing is cut to it unless asked. */
  readonly modelMaxLength?: number | undefined;
  /** Where `encodeBatch` puts [PAD]. Default 'right'. */
  readonly paddingSide?: Side | undefined;
  /** Where `encode` cuts. Default 'right'. */
  readonly truncationSide?: Side | undefined;
}

export type Side = 'left' | 'right';

/** Class names that transformers gives BERT's tokenizer; the last two are of no one model, and say nothing. */
const CLASSES = ['BertTokenizer', 'BertTokenizerFast', 'PreTrainedTokenizerFast', 'TokenizersBackend'];
/** Longest name of a special or added token: what a text may be compared with at each of its characters. */
const NAME_LIMIT = 256;

/** Absent or null: the default counts. */
const flag = z.nullish(z.boolean());
const side = z.nullish(z.enum(['left', 'right']));
const tokenName = z
  .string()
  .check(
    z.refine(
      (name) => name !== '' && name.length <= NAME_LIMIT && faultOf(name) === undefined,
      `a token has 1 to ${NAME_LIMIT} characters, no NUL and no half of a surrogate pair`,
    ),
  );
/** A token id. */
export const tokenId = z.int().check(z.minimum(0));
/** An `AddedToken` object as the files write it. */
export const addedTokenSchema = z.object({
  content: tokenName,
  special: flag,
  normalized: flag,
  single_word: flag,
  lstrip: flag,
  rstrip: flag,
});
/** A token is written as a name, or as an object with `content`. */
const tokenEntry = z.union([tokenName, addedTokenSchema]);

const schema = z.object({
  tokenizer_class: z.nullish(z.enum(CLASSES)),
  do_lower_case: flag,
  strip_accents: flag,
  tokenize_chinese_chars: flag,
  do_basic_tokenize: z.nullish(z.literal(true)),
  clean_up_tokenization_spaces: flag,
  never_split: z.nullish(z.array(z.string())),
  padding_side: side,
  truncation_side: side,
  model_max_length: z.nullish(z.number().check(z.minimum(1), z.refine(isLength, 'a length is a whole number'))),
  unk_token: z.nullish(tokenEntry),
  sep_token: z.nullish(tokenEntry),
  pad_token: z.nullish(tokenEntry),
  cls_token: z.nullish(tokenEntry),
  mask_token: z.nullish(tokenEntry),
  added_tokens_decoder: z.nullish(
    z.record(z.string().check(z.regex(/^(0|[1-9]\d{0,15})$/, 'a key is a token id')), addedTokenSchema),
  ),
  additional_special_tokens: z.nullish(z.array(tokenEntry).check(z.maxLength(TOKEN_LIMIT))),
});

/** transformers writes 1e30 for "no limit", which is no number of tokens. */
function isLength(value: number): boolean {
  return Number.isInteger(value) || value === Number.POSITIVE_INFINITY;
}

/**
 * Reads a tokenizer_config.json (already parsed), as `BertTokenizer.from_pretrained` of transformers does. Unknown keys
 * are ignored; null is the same as absent.
 *
 * @throws TokenizerError for a key of the wrong type, and (`unsupported`) for another kind of tokenizer or for options
 *   that BERT checkpoints do not use
 */
export function parseTokenizerConfig(json: unknown, file: string): TokenizerSettings {
  const raw = checkLayout(schema, json, file);
  const specialTokens: Partial<Record<Role, string>> = {};
  for (const role of Object.keys(ROLES) as Role[]) {
    const entry = raw[`${role}_token`];
    if (entry) specialTokens[role] = typeof entry === 'string' ? entry : entry.content;
  }
  const longest = raw.model_max_length ?? undefined;
  return {
    lowerCase: raw.do_lower_case ?? undefined,
    stripAccents: raw.strip_accents ?? undefined,
    tokenizeChineseChars: raw.tokenize_chinese_chars ?? undefined,
    cleanUpTokenizationSpaces: raw.clean_up_tokenization_spaces ?? undefined,
    neverSplit: raw.never_split ?? undefined,
    specialTokens,
    addedTokens: addedTokensOf(raw, file),
    modelMaxLength: longest !== undefined && longest > Number.MAX_SAFE_INTEGER ? undefined : longest,
    paddingSide: raw.padding_side ?? undefined,
    truncationSide: raw.truncation_side ?? undefined,
  };
}

/** `added_tokens_decoder` (content by id) and `additional_special_tokens` (no ids), each token once. */
function addedTokensOf(raw: z.infer<typeof schema>, file: string): AddedToken[] {
  const tokens = new Map<string, AddedToken>();
  for (const [id, entry] of Object.entries(raw.added_tokens_decoder ?? {})) {
    if (tokens.has(entry.content)) {
      const path = `added_tokens_decoder.${id}`;
      throw new TokenizerError({ file, path, code: 'duplicate-token', detail: `${quote(entry.content)} comes twice` });
    }
    tokens.set(entry.content, addedTokenOf(entry, Number(id)));
  }
  for (const entry of raw.additional_special_tokens ?? []) {
    const token = typeof entry === 'string' ? { content: entry } : entry;
    const known = tokens.get(token.content);
    tokens.set(token.content, { ...(known ?? addedTokenOf({ ...token, special: true })), special: true });
  }
  return [...tokens.values()];
}

/** What an `AddedToken` object says. */
export function addedTokenOf(entry: z.infer<typeof addedTokenSchema>, id?: number): AddedToken {
  return {
    content: entry.content,
    special: entry.special ?? false,
    normalized: entry.normalized ?? undefined,
    singleWord: entry.single_word ?? false,
    lstrip: entry.lstrip ?? false,
    rstrip: entry.rstrip ?? false,
    ...(id !== undefined && { id }),
  };
}

/**
 * Checks what a JSON file holds.
 *
 * @throws TokenizerError with the dotted path of the first key that breaks a rule; `unsupported` where the value is one
 *   that other tokenizers have
 */
export function checkLayout<T extends z.core.$ZodType>(layout: T, json: unknown, file: string): z.infer<T> {
  const parsed = z.safeParse(layout, json);
  if (parsed.success) return parsed.data;
  let issue = parsed.error.issues[0]!;
  let keys = issue.path;
  while (issue.code === 'invalid_union' && issue.errors.length > 0) {
    // of the branches the one that the value has the type of
    const branch = issue.errors.find(([first]) => first!.code !== 'invalid_type' || first!.path.length > 0);
    issue = (branch ?? issue.errors[0]!)[0]!;
    keys = [...keys, ...issue.path];
  }
  const found = keys.reduce<unknown>((node, key) => (node as Record<PropertyKey, unknown> | undefined)?.[key], json);
  const path = keys.map((key) => (/^\w{1,60}$/.test(String(key)) ? String(key) : quote(String(key)))).join('.');
  const { code, detail, unsupported = false } = ruleOf(issue, found);
  throw new TokenizerError({ file, path: path === '' ? undefined : path, code, detail, unsupported });
}

/** What a broken rule is called, and what it asks for. */
function ruleOf(
  issue: z.core.$ZodIssue,
  found: unknown,
): { readonly code: string; readonly detail: string; readonly unsupported?: boolean } {
  const but = `, not ${showValue(found)}`;
  if (found === undefined) return { code: 'missing-field', detail: 'is needed, but missing' };
  if (issue.code === 'invalid_type' && issue.expected === 'object' && found === null && issue.path.length > 0) {
    return { code: 'unsupported-option', detail: 'must be there, not null', unsupported: true };
  }
  if (issue.code === 'invalid_type') return { code: 'wrong-type', detail: `must be of type ${issue.expected}${but}` };
  if (issue.code === 'invalid_union') {
    return { code: 'unsupported-option', detail: `is of no known kind: ${showValue(found)}`, unsupported: true };
  }
  if (issue.code === 'invalid_value') {
    const sameType = issue.values.some((value) => typeof value === typeof found);
    const detail = `must be ${issue.values.map((value) => showValue(value)).join(' or ')}${but}`;
    return sameType ? { code: 'unsupported-option', detail, unsupported: true } : { code: 'wrong-type', detail };
  }
  if (issue.code === 'too_big') {
    return { code: 'out-of-range', detail: `at most ${issue.maximum} is supported${but}`, unsupported: true };
  }
  if (issue.code === 'too_small') return { code: 'out-of-range', detail: `must be at least ${issue.minimum}${but}` };
  return { code: 'illegal-value', detail: `${showValue(found)}: ${issue.message}` };
}
