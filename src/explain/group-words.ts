import { lookMean, meanOf } from './looks.js';
import type { ExplainedWord, TokenLook } from './types.js';

/** What has to be known of a vocabulary to read its pieces; a `Tokenizer` is one. */
export interface Pieces {
  tokenOf(id: number): string;
  readonly vocabSize: number;
  readonly specialIds: ReadonlySet<number>;
}

interface Group {
  readonly first: number;
  readonly tokens: TokenLook[];
  readonly special: boolean;
  text: string;
}

/**
 * Joins word pieces to words: `##ing` belongs to the word before it. A word's look is the mean of its pieces' looks, so that its shares
 * still add up to 1; its probability is the product of theirs.
 *
 * @param text the decoded text, which tells where spaces stand.
 */
export function groupWords(tokens: readonly TokenLook[], pieces: Pieces, text: string): ExplainedWord[] {
  const groups: Group[] = [];
  for (const [place, token] of tokens.entries()) {
    const piece = token.id < pieces.vocabSize ? pieces.tokenOf(token.id) : `[unused ${token.id}]`;
    const special = pieces.specialIds.has(token.id);
    const before = groups.at(-1);
    const goesOn = piece.startsWith('##') && !special;
    if (goesOn && before?.special === false) {
      before.text += piece.slice(2);
      before.tokens.push(token);
    } else groups.push({ first: place, tokens: [token], special, text: goesOn ? piece.slice(2) : piece });
  }
  const spaces = spacesBefore(groups, text);
  return groups.map((group, place) => toWord(group, spaces[place]!));
}

function toWord({ first, tokens, special, text }: Group, spaceBefore: boolean): ExplainedWord {
  return {
    ...{ text, spaceBefore, special, first, count: tokens.length },
    probability: Math.exp(tokens.reduce((sum, { logProb }) => sum + logProb, 0)),
    decoder: meanOf(tokens.map(({ decoder }) => decoder)),
    toText: meanOf(tokens.map(({ toText }) => toText)),
    mean: lookMean(tokens.map(({ mean }) => mean)),
    rollout: lookMean(tokens.map((token) => token.rollout)),
  };
}

/** Follows the words through the text: cleaning up takes spaces away and changes nothing else. Where they do not match, a space is there. */
function spacesBefore(groups: readonly Group[], text: string): boolean[] {
  let at = 0;
  return groups.map((group, place) => {
    if (group.special) return true;
    const start = at + text.slice(at).search(/\S|$/);
    if (!text.startsWith(group.text, start)) return place > 0;
    const space = start > at;
    at = start + group.text.length;
    return space;
  });
}
