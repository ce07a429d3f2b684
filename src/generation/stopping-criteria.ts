/** What ends a row besides its end token and its length, as Hugging Face transformers has it (`generation/stopping_criteria.py`). */
import type { CheckedOptions, Strategy } from './options.js';
import type { VocabularyFacts } from './session.js';

/** Is the row over with the last of `ids` (prompt included)? */
export type StopsRow = (ids: readonly number[]) => boolean;

/** All criteria of one row in one. */
export function stopsRow(
  _options: CheckedOptions<Strategy>,
  _vocabulary: VocabularyFacts,
  _promptLength: number,
): StopsRow {
  return () => false;
}
