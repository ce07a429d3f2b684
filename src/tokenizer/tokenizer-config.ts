import * as z from 'zod/mini';
import { quote, TokenizerError } from '../errors.js';
import { showValue } from '../options.js';
import {
  type AddedToken,
  faultOf,
  ROLES,
  type Role,
  readTextFile,
  TOKEN_LIMIT,
  type Vocabulary,
  vocabularyOf,
} from './vocabulary.js';

// its export `z` would keep bundlers from leaving out what is not used

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
const tokenId = z.int().check(z.minimum(0));
/** An `AddedToken` object as the files write it. */
const addedTokenSchema = z.object({
  content: tokenName,
  special: flag,
  normalized: flag,
  single_word: flag,
  lstrip: flag,
  rstrip: flag,
});
/** A token is written as a name, or as an object with `content`. */
const tokenEntry = z.union([tokenName, addedTokenSchema]);

const configSchema = z.object({
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
  const raw = checkLayout(configSchema, json, file);
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
function addedTokensOf(raw: z.infer<typeof configSchema>, file: string): AddedToken[] {
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
function addedTokenOf(entry: z.infer<typeof addedTokenSchema>, id?: number): AddedToken {
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
function checkLayout<T extends z.core.$ZodType>(layout: T, json: unknown, file: string): z.infer<T> {
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

/** Largest tokenizer.json, in bytes: five times that of multilingual BERT, which has 120,000 tokens. */
const FILE_LIMIT = 16 * 1024 * 1024;
/** Deepest nesting and most values: a real file has 6 levels, and hardly more values than tokens. */
const DEPTH_LIMIT = 64;
const VALUE_LIMIT = 3_000_000;
/** Longest word that may be asked for: the work for a word grows with its length. */
const WORD_LIMIT = 1000;

const tokenWithId = z.tuple([z.string(), z.int()]);
const jsonSchema = z.object({
  model: z.object({
    type: z.nullish(z.string()), // left out by some; checked apart
    unk_token: z.nullish(z.string()),
    continuing_subword_prefix: z.nullish(z.literal('##')),
    max_input_chars_per_word: z.nullish(z.int().check(z.minimum(1), z.maximum(WORD_LIMIT))),
    vocab: z.looseObject({}), // read by hand: a schema of each entry would copy it
  }),
  normalizer: z.object({
    type: z.literal('BertNormalizer'),
    clean_text: z.nullish(z.literal(true)),
    lowercase: flag,
    strip_accents: flag,
    handle_chinese_chars: flag,
  }),
  pre_tokenizer: z.object({ type: z.literal('BertPreTokenizer') }),
  post_processor: z.nullish(
    z.discriminatedUnion('type', [
      z.object({ type: z.literal('BertProcessing'), cls: tokenWithId, sep: tokenWithId }),
      z.object({
        type: z.literal('TemplateProcessing'),
        single: z.array(z.looseObject({})),
        special_tokens: z.nullish(z.record(z.string(), z.object({ ids: z.array(z.int()) }))),
      }),
    ]),
  ),
  decoder: z.nullish(z.object({ type: z.literal('WordPiece'), prefix: z.nullish(z.literal('##')) })),
  added_tokens: z.nullish(z.array(z.extend(addedTokenSchema, { id: tokenId }))),
});
type Raw = z.infer<typeof jsonSchema>;

/** What a tokenizer.json holds. */
export interface TokenizerJson {
  readonly vocabulary: Vocabulary;
  readonly settings: TokenizerSettings;
}

/**
 * Reads a tokenizer.json of the BERT WordPiece kind: `model`, the options of `normalizer`, the names in
 * `post_processor`, `added_tokens`. Its `truncation` and `padding` are not obeyed: both are options of each call here.
 *
 * @throws TokenizerError where the file is not such a JSON, an id is not the index of one token, or added tokens
 *   contradict the vocabulary; with `unsupported` for a normalizer, pre-tokenizer, post-processor or decoder that is
 *   not BERT's
 */
export function parseTokenizerJson(bytes: Uint8Array, file: string): TokenizerJson {
  const json = parseJson(readTextFile({ bytes, file }, FILE_LIMIT), file);
  const type = (json as { model?: { type?: unknown } | null } | null)?.model?.type;
  if (typeof type === 'string' && type !== 'WordPiece') {
    const detail = `must be "WordPiece", not ${quote(type)}`;
    throw new TokenizerError({ file, path: 'model.type', code: 'not-word-piece', detail });
  }
  const { model, normalizer, post_processor, added_tokens } = checkLayout(jsonSchema, json, file);
  const tokens = tokensById((json as Raw).model.vocab, file); // as parsed: a schema leaves the name __proto__ out
  const vocabulary = vocabularyOf(tokens, file, (id) => `model.vocab id ${id}`);
  return {
    vocabulary,
    settings: {
      lowerCase: normalizer.lowercase ?? undefined,
      stripAccents: normalizer.strip_accents ?? undefined,
      tokenizeChineseChars: normalizer.handle_chinese_chars ?? undefined,
      specialTokens: {
        unk: model.unk_token ?? '[UNK]',
        ...sequenceTokens(post_processor, vocabulary.ids, file),
      },
      addedTokens: addedTokensIn(added_tokens ?? [], file),
      maxCharsPerWord: model.max_input_chars_per_word ?? undefined,
    },
  };
}

/** JSON.parse, after a look at how deep and wide the text is: a parser would need gigabytes for some of its bytes. */
function parseJson(text: string, file: string): unknown {
  const fail = (code: string, detail: string, cause?: unknown) => new TokenizerError({ file, code, detail, cause });
  let depth = 0;
  let values = 0;
  for (let at = 0; at < text.length; at++) {
    const unit = text[at];
    if (unit === '"') {
      for (at++; at < text.length && text[at] !== '"'; at++) if (text[at] === '\\') at++;
    } else if (unit === ',') values++;
    else if (unit === '}' || unit === ']') depth--;
    else if ((unit === '{' || unit === '[') && ++depth > DEPTH_LIMIT) {
      throw fail('too-deep', `more than ${DEPTH_LIMIT} levels of nesting`);
    }
  }
  if (values > VALUE_LIMIT) throw fail('too-large', `${values} values, the limit is ${VALUE_LIMIT}`);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw fail('not-json', String((cause as Error).message), cause);
  }
}

/**
 * The tokens of `model.vocab` in the order of their ids, which must be 0 to n - 1: so nothing is allocated by the size
 * of an id.
 */
function tokensById(vocab: Readonly<Record<string, unknown>>, file: string): string[] {
  const entries = Object.entries(vocab);
  const fail = (token: string | undefined, code: string, detail: string): never => {
    const path = `model.vocab${token === undefined ? '' : `.${/^\w{1,60}$/.test(token) ? token : quote(token)}`}`;
    throw new TokenizerError({ file, path, code, detail });
  };
  if (entries.length === 0) fail(undefined, 'empty-vocabulary', 'has no token');
  const tokens = new Array<string | undefined>(entries.length).fill(undefined);
  for (const [token, id] of entries) {
    if (typeof id !== 'number' || !Number.isSafeInteger(id) || id < 0) {
      return fail(token, 'illegal-id', `must be a token id, not ${quote(String(id))}`);
    }
    if (id >= entries.length) {
      fail(token, 'ids-not-dense', `has id ${id}, but there are only ${entries.length} tokens`);
    }
    if (tokens[id] !== undefined) fail(token, 'duplicate-id', `has id ${id} like ${quote(tokens[id])}`);
    tokens[id] = token;
  }
  return tokens as string[]; // n different ids below n: no hole is left
}

/** The tokens that the `post_processor` puts before and after one sequence; {} where there is none. */
function sequenceTokens(
  raw: Raw['post_processor'],
  ids: ReadonlyMap<string, number>,
  file: string,
): { readonly cls?: string; readonly sep?: string } {
  if (!raw) return {};
  const check = (path: string, token: string, id: number | undefined): string => {
    const expected = ids.get(token);
    if (id === expected) return token;
    const detail = `${quote(token)} has id ${id ?? 'none'}, in the vocabulary ${expected ?? 'none'}`;
    throw new TokenizerError({ file, path: `post_processor.${path}`, code: 'token-conflict', detail });
  };
  if (raw.type === 'BertProcessing') return { cls: check('cls', ...raw.cls), sep: check('sep', ...raw.sep) };
  const template = z.safeParse(templateSchema, raw.single);
  if (!template.success) {
    const detail = 'must be a token, the sequence and a token';
    throw new TokenizerError({
      file,
      path: 'post_processor.single',
      code: 'unsupported-option',
      detail,
      unsupported: true,
    });
  }
  const [first, , last] = template.data;
  const known = raw.special_tokens ?? {};
  const nameOf = (place: number, { SpecialToken: { id } }: typeof first): string => {
    const stated = Object.hasOwn(known, id) ? known[id]!.ids : [ids.get(id) ?? -1];
    return check(`single.${place}`, id, stated.length === 1 ? stated[0] : undefined);
  };
  return { cls: nameOf(0, first), sep: nameOf(2, last) };
}

const piece = z.object({ SpecialToken: z.object({ id: z.string() }) });
/** `[CLS] sequence [SEP]` */
const templateSchema = z.tuple([piece, z.object({ Sequence: z.looseObject({}) }), piece]);

function addedTokensIn(entries: NonNullable<Raw['added_tokens']>, file: string): AddedToken[] {
  const known = new Set<string>();
  return entries.map((entry, i) => {
    if (known.has(entry.content)) {
      const path = `added_tokens.${i}.content`;
      const detail = `${quote(entry.content)} is there twice`;
      throw new TokenizerError({ file, path, code: 'duplicate-token', detail });
    }
    known.add(entry.content);
    return addedTokenOf(entry, entry.id);
  });
}
