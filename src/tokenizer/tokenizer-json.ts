import * as z from 'zod/mini';
import { quote, TokenizerError } from '../errors.js';
import { addedTokenOf, addedTokenSchema, checkLayout, type TokenizerSettings, tokenId } from './tokenizer-config.js';
import { type AddedToken, readTextFile, type Vocabulary, vocabularyOf } from './vocabulary.js';

/** Largest tokenizer.json, in bytes: five times that of multilingual BERT, which has 120,000 tokens. */
const FILE_LIMIT = 16 * 1024 * 1024;
/** Deepest nesting and most values: a real file has 6 levels, and hardly more values than tokens. */
const DEPTH_LIMIT = 64;
const VALUE_LIMIT = 3_000_000;
/** Longest word that may be asked for: the work for a word grows with its length. */
const WORD_LIMIT = 1000;

const flag = z.nullish(z.boolean());
const tokenWithId = z.tuple([z.string(), z.int()]);
const schema = z.object({
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
type Raw = z.infer<typeof schema>;

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
  const { model, normalizer, post_processor, added_tokens } = checkLayout(schema, json, file);
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
      addedTokens: addedTokensOf(added_tokens ?? [], file),
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

function addedTokensOf(entries: NonNullable<Raw['added_tokens']>, file: string): AddedToken[] {
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
