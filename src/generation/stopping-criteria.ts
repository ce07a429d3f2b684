/** What ends a row besides its end token and its length, as Hugging Face transformers has it (`generation/stopping_criteria.py`). */
import type { CheckedOptions, Strategy } from './options.js';
import type { StoppingCriterion, VocabularyFacts } from './session.js';

/** Is the row over with the last of `ids`? */
export type StopsRow = (ids: readonly number[]) => boolean;

/** All criteria of one row in one. */
export function stopsRow(
  { stopStrings: strings = [], stoppingCriteria = [] }: CheckedOptions<Strategy>,
  { textOf }: VocabularyFacts,
  promptLength: number,
): StopsRow {
  const criteria = [...stoppingCriteria];
  if (strings.length > 0 && textOf !== undefined) criteria.push(stopStrings(strings, textOf));
  return (ids) => criteria.some((isOver) => isOver(ids, promptLength));
}

/**
 * Over where one of `strings` ends within the text of the last token: `stop` with `st` + `op`, with `un` + `stop` and with `st` + `opped`, not
 * with a token that follows them. The prompt counts as text before the new tokens. Texts are those of the tokens one after the other, without the
 * clean-up that decoding does: a full stop is ` .` behind a word.
 */
export function stopStrings(strings: readonly string[], textOf: (id: number) => string): StoppingCriterion {
  const longest = strings.reduce((most, string) => Math.max(most, string.length), 0);
  return (ids) => {
    const last = textOf(ids[ids.length - 1]!);
    let before = '';
    for (let at = ids.length - 2; at >= 0 && before.length < longest - 1; at--) before = textOf(ids[at]!) + before;
    return strings.some((string) => {
      const reach = Math.min(before.length, string.length - 1); // further back it would end before the last token
      return (before.slice(before.length - reach) + last).includes(string);
    });
  };
}
