/** How `encode` works. */
export interface EncodeOptions {
  /** Puts [CLS] before and [SEP] after. Default true. */
  readonly addSpecialTokens?: boolean | undefined;
  /**
   * Cuts the text's tokens from the right until all ids, [CLS] and [SEP] included, are at most this many. Default: no
   * limit.
   */
  readonly maxLength?: number | undefined;
}

/** How `encodeBatch` works. */
export interface EncodeBatchOptions extends EncodeOptions {
  /**
   * To which length rows are filled with [PAD] on the right: that of the longest row (default), `maxLength`, or none.
   */
  readonly padding?: 'longest' | 'max-length' | 'none' | undefined;
}

/** Rows of ids; `attentionMask` is 1 for a token and 0 for padding. Both [B, T] (ragged with padding 'none'). */
export interface EncodedBatch {
  readonly inputIds: number[][];
  readonly attentionMask: number[][];
}

/** How ids become text. */
export interface DecodeOptions {
  /** Leaves out [CLS], [SEP], [PAD], [UNK], [MASK] and other special tokens. Default false. */
  readonly skipSpecialTokens?: boolean | undefined;
  /** Takes away the spaces before punctuation and contractions. Default: what the checkpoint says, else true. */
  readonly cleanUpTokenizationSpaces?: boolean | undefined;
}

/** Ids become text one by one: all pieces joined, that of `flush` included, are what `decode` gives for all ids. */
export interface Detokenizer {
  /**
   * The text that became certain with this id. It may be empty: a space or an apostrophe waits for what follows. A
   * piece never ends inside a character.
   *
   * @throws TokenizerError for an id that the vocabulary does not have
   */
  push(id: number): string;
  /** The rest of the text. Nothing may be pushed after it. */
  flush(): string;
}

/** Text to token ids and back. Every method is total over strings and takes time in proportion to their length. */
export interface Tokenizer {
  /**
   * @throws OptionError where `maxLength` is no whole number or has no room for [CLS] and [SEP], or the text is no
   *   string
   */
  encode(text: string, options?: EncodeOptions): number[];
  /** @throws OptionError as `encode`, and where padding 'max-length' comes without `maxLength` */
  encodeBatch(texts: readonly string[], options?: EncodeBatchOptions): EncodedBatch;
  /** @throws TokenizerError for an id that the vocabulary does not have */
  decode(ids: Iterable<number>, options?: DecodeOptions): string;
  /** `decode` for a stream of ids. */
  detokenizer(options?: DecodeOptions): Detokenizer;
  /** @throws TokenizerError for an id that the vocabulary does not have */
  tokenOf(id: number): string;
  idOf(token: string): number | undefined;
  /** Number of ids, added tokens included. */
  readonly vocabSize: number;
  readonly clsId: number;
  readonly sepId: number;
  readonly padId: number;
  readonly unkId: number;
  readonly maskId: number | undefined;
  /** All ids that `skipSpecialTokens` leaves out. */
  readonly specialIds: ReadonlySet<number>;
  /** The longest input that the checkpoint was made for, where it says so; nothing is cut to it unless asked. */
  readonly modelMaxLength: number | undefined;
}
