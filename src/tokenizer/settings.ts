/** The tokens that BERT gives a role. */
export const ROLES = ['unk', 'sep', 'pad', 'cls', 'mask'] as const;
export type Role = (typeof ROLES)[number];

/** A token beside the word pieces: found whole in a text, before anything else. */
export interface AddedToken {
  readonly content: string;
  /** Left out by `decode` with `skipSpecialTokens`. */
  readonly special: boolean;
  /** Its id; the next free one where absent. */
  readonly id?: number | undefined;
}

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
}
