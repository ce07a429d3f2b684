import { quote, TokenizerError } from '../errors.js';
import { longestMatch, sortTokens } from './word-piece.js';

/** Bytes and the name to call them by in errors. */
export interface NamedBytes {
  readonly bytes: Uint8Array;
  readonly file: string;
}

/** Tokens by id and ids by token; every id from 0 to the last is used once. */
export interface Vocabulary {
  /** Where it was read from, for errors. */
  readonly file: string;
  readonly tokens: readonly string[];
  readonly ids: ReadonlyMap<string, number>;
}

/** Largest vocab.txt, in bytes: seven times that of multilingual BERT, which has 120,000 tokens. */
const FILE_LIMIT = 8 * 1024 * 1024;
/** Largest number of tokens of a vocabulary. */
export const TOKEN_LIMIT = 1_000_000;

/**
 * Reads a vocab.txt: one token a line, the first line is id 0. Lines end with LF, CRLF or CR (the original reads with
 * universal newlines); nothing is trimmed, and an empty line keeps its id.
 *
 * @throws TokenizerError where the file is not a UTF-8 text, has no or too many tokens, or one twice
 */
export function parseVocab(bytes: Uint8Array, file: string): Vocabulary {
  const text = readTextFile({ bytes, file }, FILE_LIMIT);
  if (/^\s*(\{\s*"[^"\n]*"\s*:|\[\s*"[^"\n]*"\s*,)/.test(text)) {
    throw new TokenizerError({ file, code: 'not-a-tokenizer-file', detail: 'is JSON, not one token a line' });
  }
  const lines = text.split(/\r\n|\r|\n/);
  if (lines.at(-1) === '') lines.pop(); // what follows the end of the last line
  return vocabularyOf(lines, file, (id) => `line ${id + 1}`);
}

/**
 * A vocabulary of the tokens in the order of their ids. `pathOf` says where a token is in its file.
 *
 * @throws TokenizerError where there are no or too many tokens, or one is there twice, holds NUL or half a surrogate
 *   pair
 */
export function vocabularyOf(
  tokens: readonly string[],
  file: string,
  pathOf: (id: number) => string = (id) => `id ${id}`,
): Vocabulary {
  const fail = (code: string, detail: string, path?: string): never => {
    throw new TokenizerError({ file, path, code, detail });
  };
  if (tokens.every((token) => token === '')) fail('empty-vocabulary', 'has no token');
  if (tokens.length > TOKEN_LIMIT) fail('too-many-tokens', `${tokens.length} tokens, the limit is ${TOKEN_LIMIT}`);
  const ids = new Map<string, number>();
  for (const [id, token] of tokens.entries()) {
    const earlier = ids.get(token);
    if (earlier !== undefined) fail('duplicate-token', `${quote(token)} is at ${pathOf(earlier)} too`, pathOf(id));
    const fault = faultOf(token);
    if (fault !== undefined) fail('illegal-token', `${quote(token)} ${fault}`, pathOf(id));
    ids.set(token, id);
  }
  return { file, tokens, ids };
}

/** What makes a string impossible as a token, if anything. */
export function faultOf(token: string): string | undefined {
  if (token.includes('\0')) return 'holds a NUL character';
  if (/[\ud800-\udfff]/u.test(token)) return 'holds half a surrogate pair';
  return undefined;
}

/** The tokens that BERT gives a role, with their usual names. */
export const ROLES = { unk: '[UNK]', sep: '[SEP]', pad: '[PAD]', cls: '[CLS]', mask: '[MASK]' } as const;
export type Role = keyof typeof ROLES;

/** A vocabulary with its added tokens, and which of them are more than words. */
export interface TokenTable {
  readonly tokens: readonly string[];
  readonly ids: ReadonlyMap<string, number>;
  /** The tokens by role; `mask` only where the vocabulary has one. */
  readonly roles: Readonly<Record<Exclude<Role, 'mask'>, number>> & { readonly mask?: number };
  /** Left out by `decode` with `skipSpecialTokens`. */
  readonly specialIds: ReadonlySet<number>;
  /** Added tokens that `decode` keeps apart from their neighbors. */
  readonly aloneIds: ReadonlySet<number>;
  /** All tokens that are found whole in a text. */
  readonly whole: readonly (AddedToken & { readonly id: number })[];
}

/**
 * Gives the added tokens their ids and finds the special ones.
 *
 * @throws TokenizerError where [UNK], [SEP], [PAD] or [CLS] (or the tokens that `names` has instead) is missing, or the
 *   id of an added token is not the one it has in the vocabulary, or not the next free one
 */
export function buildTokenTable(
  vocabulary: Vocabulary,
  addedTokens: readonly AddedToken[],
  names: Readonly<Partial<Record<Role, string>>>,
): TokenTable {
  const { tokens, ids, added } = withAddedTokens(vocabulary, addedTokens);
  const roles = rolesOf(vocabulary.file, ids, names);
  const specialIds = new Set<number>(Object.values(roles));
  for (const { id, special } of added) if (special) specialIds.add(id);
  const alone = added.filter(({ id }) => !specialIds.has(id) || id >= vocabulary.tokens.length);
  const stated = new Set(added.map(({ id }) => id));
  const others = Object.values(roles).filter((id) => !stated.has(id));
  const whole = [...added, ...others.map((id) => ({ content: tokens[id]!, id, special: true }))];
  return { tokens, ids, roles, specialIds, aloneIds: new Set(alone.map(({ id }) => id)), whole };
}

function withAddedTokens(vocabulary: Vocabulary, addedTokens: readonly AddedToken[]) {
  const tokens = [...vocabulary.tokens];
  const ids = new Map(vocabulary.ids);
  const added: (AddedToken & { readonly id: number })[] = [];
  const byId = [...addedTokens].sort((a, b) => (a.id ?? Number.MAX_SAFE_INTEGER) - (b.id ?? Number.MAX_SAFE_INTEGER));
  for (const token of byId) {
    const own = ids.get(token.content);
    const expected = own ?? tokens.length;
    if ((token.id ?? expected) !== expected) {
      const reason = own === undefined ? `the next free id is ${expected}` : `in the vocabulary it has ${expected}`;
      const detail = `${quote(token.content)} has id ${token.id}, but ${reason}`;
      throw new TokenizerError({ file: vocabulary.file, path: 'added tokens', code: 'token-conflict', detail });
    }
    if (own === undefined) {
      ids.set(token.content, expected);
      tokens.push(token.content);
    }
    added.push({ ...token, id: expected });
  }
  return { tokens, ids, added };
}

function rolesOf(
  file: string,
  ids: ReadonlyMap<string, number>,
  names: Readonly<Partial<Record<Role, string>>>,
): TokenTable['roles'] {
  const found: Partial<Record<Role, number>> = {};
  for (const role of Object.keys(ROLES) as Role[]) {
    const name = names[role] ?? ROLES[role];
    const id = ids.get(name);
    if (id !== undefined) found[role] = id;
    else if (role !== 'mask') {
      const padded = [...ids.keys()].find((token) => token.trim() === name);
      const hint = padded === undefined ? '' : `; there is ${quote(padded)}, and spaces count`;
      const detail = `the ${role} token ${quote(name)} is not in the vocabulary of ${ids.size} tokens${hint}`;
      throw new TokenizerError({ file, path: `${role}_token`, code: 'special-token-missing', detail });
    }
  }
  return found as TokenTable['roles'];
}

/** Files that people find under the name of another, by their first bytes. */
const SIGNATURES: readonly (readonly [RegExp, string])[] = [
  [/^version https:\/\/git-lfs\./, 'a Git LFS pointer: fetch the file itself (git lfs pull)'],
  [/^\s*<(!doctype|html|head|body|\?xml|!--)/i, 'a web page'],
  [/^\x1f\x8b/, 'a gzip file: unpack it'],
  [/^PK[\x03\x05]/, 'a zip file'],
  [/^\x28\xb5\x2f\xfd/, 'a zstd file: unpack it'],
  [/^%PDF-/, 'a PDF file'],
  [/^.{5}\0{3}\{"/s, 'a safetensors file'],
  [/^(\xff\xfe|\xfe\xff)/, 'UTF-16: save it as UTF-8'],
];

/**
 * The text of a UTF-8 file.
 *
 * @throws TokenizerError where the file is larger than `limit` bytes, has the signature of something else, starts with a
 *   byte order mark, or is not UTF-8
 */
export function readTextFile({ bytes, file }: NamedBytes, limit: number): string {
  const fail = (code: string, detail: string, at?: { path: string; offset: number }): never => {
    throw new TokenizerError({ file, ...at, code, detail });
  };
  if (bytes.length === 0) fail('empty-file', 'has no bytes');
  if (bytes.length > limit) fail('too-large', `${bytes.length} bytes, the limit is ${limit}`);
  const head = String.fromCharCode(...bytes.subarray(0, 64));
  for (const [pattern, name] of SIGNATURES) if (pattern.test(head)) fail('not-a-tokenizer-file', `is ${name}`);
  if (head.startsWith('\xef\xbb\xbf')) {
    const detail = 'starts with U+FEFF, which would become part of the first token: save it without';
    fail('byte-order-mark', detail, { path: 'line 1', offset: 0 });
  }
  return (
    decodeUtf8(bytes) ?? fail('not-utf-8', 'a line with bytes that are not UTF-8 starts here', firstBadLine(bytes))
  );
}

function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** The first line that is not UTF-8, found line by line because a line feed is never inside a character. */
function firstBadLine(bytes: Uint8Array): { path: string; offset: number } {
  let offset = 0;
  let line = 1;
  for (; offset < bytes.length; line++) {
    const feed = bytes.indexOf(0x0a, offset);
    const end = feed < 0 ? bytes.length : feed + 1;
    if (decodeUtf8(bytes.subarray(offset, end)) === undefined) break;
    offset = end;
  }
  return { path: `line ${line}`, offset };
}

/** A token beside the word pieces: found whole in a text, before anything else. */
export interface AddedToken {
  readonly content: string;
  /** Left out by `decode` with `skipSpecialTokens`. */
  readonly special: boolean;
  /** Its id; the next free one where absent. */
  readonly id?: number | undefined;
  /** Is looked for in the normalized text, in its own normalized form, which `decode` gives. Default: not `special`. */
  readonly normalized?: boolean | undefined;
  /** Not found inside a word. Default false. */
  readonly singleWord?: boolean | undefined;
  /** Takes the white space before it. Default false. */
  readonly lstrip?: boolean | undefined;
  /** Takes the white space after it. Default false. */
  readonly rstrip?: boolean | undefined;
}

/** A piece of a text: a token found whole in it, or what stands between two. */
export interface Segment {
  readonly text: string;
  /** The token; undefined for text. */
  readonly token: string | undefined;
}

type Flags = Pick<AddedToken, 'singleWord' | 'lstrip' | 'rstrip'>;

/** `\w` of Rust's regular expressions. */
const WORD_BEFORE = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]$/u;
const WORD_AFTER = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;
const SPACE = /\p{White_Space}/u;

/**
 * Returns a function that cuts a text at the tokens written in it, as it is asked to go on: the leftmost first, and of those that start at one
 * place the longest, as `AddedVocabulary` of Hugging Face's tokenizers. No segment is empty. Time: length of the text x
 * length of the longest token x logarithm of their number.
 */
export function createSegmenter(tokens: ReadonlyMap<string, Flags>): (text: string) => Iterable<Segment> {
  const sorted = sortTokens(tokens.keys());
  return function* (text) {
    let start = 0; // of the text that no segment has yet
    for (let at = 0; at < text.length; ) {
      const found = longestMatch(sorted, text, at);
      if (found === at) {
        at++;
        continue;
      }
      const token = text.slice(at, found);
      const { singleWord, lstrip, rstrip } = tokens.get(token)!;
      if (singleWord && (WORD_BEFORE.test(charBefore(text, at)) || WORD_AFTER.test(text.slice(found, found + 2)))) {
        at = found; // as there: what is inside the match is not looked at again
        continue;
      }
      let [begin, end] = [at, found];
      if (lstrip) while (begin > start && SPACE.test(text[begin - 1]!)) begin--;
      if (rstrip) while (end < text.length && SPACE.test(text[end]!)) end++;
      if (start < begin) yield { text: text.slice(start, begin), token: undefined };
      yield { text: text.slice(begin, end), token };
      start = at = end;
    }
    if (start < text.length) yield { text: text.slice(start), token: undefined };
  };
}

/** The code point before `at`, or more; '' at the start. */
const charBefore = (text: string, at: number): string => text.slice(Math.max(0, at - 2), at);
