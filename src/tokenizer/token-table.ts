import { quote, TokenizerError } from '../errors.js';
import { type AddedToken, ROLES, type Role, type TokenizerSettings } from './settings.js';
import type { Vocabulary } from './vocabulary.js';

/** A vocabulary with its added tokens, and which of them are more than words. */
export interface TokenTable {
  readonly tokens: readonly string[];
  readonly ids: ReadonlyMap<string, number>;
  /** The tokens by role; `mask` only where the vocabulary has one. */
  readonly roles: Readonly<Record<Exclude<Role, 'mask'>, number>> & { readonly mask?: number };
  /** Left out by `decode` with `skipSpecialTokens`. */
  readonly specialIds: ReadonlySet<number>;
  /** Added tokens that `decode` keeps apart from their neighbours. */
  readonly aloneIds: ReadonlySet<number>;
  /** All tokens that are found whole in a text. */
  readonly whole: ReadonlySet<string>;
}

const DEFAULT_NAMES: Readonly<Record<Role, string>> = {
  unk: '[UNK]',
  sep: '[SEP]',
  pad: '[PAD]',
  cls: '[CLS]',
  mask: '[MASK]',
};

/**
 * Gives the added tokens their ids and finds the special ones.
 *
 * @throws TokenizerError where [UNK], [SEP], [PAD] or [CLS] (or the tokens that the settings name instead) is missing,
 *   or the id of an added token is not the one it has in the vocabulary, or not the next free one
 */
export function buildTokenTable(vocabulary: Vocabulary, settings: TokenizerSettings): TokenTable {
  const { tokens, ids, added } = withAddedTokens(vocabulary, settings.addedTokens ?? []);
  const roles = rolesOf(vocabulary.file, ids, settings.specialTokens ?? {});
  const specialIds = new Set<number>(Object.values(roles));
  for (const { id, special } of added) if (special) specialIds.add(id);
  const alone = added.filter(({ id }) => !specialIds.has(id) || id >= vocabulary.tokens.length);
  const whole = [...added.map(({ id }) => id), ...Object.values(roles)].map((id) => tokens[id]!);
  return { tokens, ids, roles, specialIds, aloneIds: new Set(alone.map(({ id }) => id)), whole: new Set(whole) };
}

type PlacedToken = AddedToken & { readonly id: number };

function withAddedTokens(vocabulary: Vocabulary, addedTokens: readonly AddedToken[]) {
  const tokens = [...vocabulary.tokens];
  const ids = new Map(vocabulary.ids);
  const added: PlacedToken[] = [];
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
  for (const role of ROLES) {
    const name = names[role] ?? DEFAULT_NAMES[role];
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
