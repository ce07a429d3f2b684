import { quote, TokenizerError } from '../errors.js';
import { readTextFile } from './text-file.js';

/** Tokens by id and ids by token; every id from 0 to the last is used once. */
export interface Vocabulary {
  /** Where it was read from, for errors. */
  readonly file: string;
  readonly tokens: readonly string[];
  readonly ids: ReadonlyMap<string, number>;
}

/** Largest vocab.txt, in bytes. */
const FILE_LIMIT = 32 * 1024 * 1024;
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
 * A vocabulary of the tokens in the order of their ids. `placeOf` says where a token stands in its file.
 *
 * @throws TokenizerError where there are no or too many tokens, or one is there twice, holds NUL or half a surrogate
 *   pair
 */
export function vocabularyOf(
  tokens: readonly string[],
  file: string,
  placeOf: (id: number) => string = (id) => `id ${id}`,
): Vocabulary {
  const fail = (code: string, detail: string, path?: string): never => {
    throw new TokenizerError({ file, path, code, detail });
  };
  if (tokens.every((token) => token === '')) fail('empty-vocabulary', 'has no token');
  if (tokens.length > TOKEN_LIMIT) fail('too-many-tokens', `${tokens.length} tokens, the limit is ${TOKEN_LIMIT}`);
  const ids = new Map<string, number>();
  for (const [id, token] of tokens.entries()) {
    const earlier = ids.get(token);
    if (earlier !== undefined) fail('duplicate-token', `${quote(token)} is at ${placeOf(earlier)} too`, placeOf(id));
    const fault = faultOf(token);
    if (fault !== undefined) fail('illegal-token', `${quote(token)} ${fault}`, placeOf(id));
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
