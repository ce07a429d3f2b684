import { asObject, describe, failAt, type JsonObject, listOf, objectOf, stringOf } from './json-fields.js';

/** The tokens around a sequence. */
export interface SequenceTokens {
  readonly cls?: string;
  readonly sep?: string;
}

/**
 * Reads which tokens the `post_processor` of a tokenizer.json puts before and after one sequence; {} where there is
 * none.
 *
 * @throws TokenizerError for ids that contradict the vocabulary, and (`unsupported`) for anything but `[CLS] sequence
 *   [SEP]`
 */
export function readSequenceTokens(root: JsonObject, ids: ReadonlyMap<string, number>): SequenceTokens {
  const at = objectOf(root, 'post_processor');
  if (at === undefined) return {};
  const type = stringOf(at, 'type');
  if (type === 'BertProcessing') return { cls: pairOf(at, 'cls', ids), sep: pairOf(at, 'sep', ids) };
  if (type === 'TemplateProcessing') return templateOf(at, ids);
  return failAt(at, 'type', 'unsupported-part', `must be "TemplateProcessing", not ${describe(type ?? null)}`, true);
}

/** `["[SEP]", 102]` */
function pairOf(at: JsonObject, key: string, ids: ReadonlyMap<string, number>): string {
  const [token, id] = listOf(at, key) ?? [];
  if (typeof token !== 'string') return failAt(at, key, 'wrong-type', 'must be a token and its id');
  checkId(at, key, token, id, ids);
  return token;
}

/** `"single": [{ "SpecialToken": { "id": "[CLS]" } }, { "Sequence": … }, { "SpecialToken": { "id": "[SEP]" } }]` */
function templateOf(at: JsonObject, ids: ReadonlyMap<string, number>): SequenceTokens {
  const pieces = (listOf(at, 'single') ?? []).map((value, i) => asObject(value, at.file, `${at.path}.single[${i}]`));
  const [cls, sequence, sep] = pieces;
  if (pieces.length !== 3 || objectOf(sequence!, 'Sequence') === undefined) {
    failAt(at, 'single', 'unsupported-part', 'must be a token, the sequence and a token', true);
  }
  const known = objectOf(at, 'special_tokens');
  const nameOf = (piece: JsonObject): string => {
    const token = objectOf(piece, 'SpecialToken');
    const name = token && stringOf(token, 'id');
    if (name === undefined) return failAt(piece, undefined, 'unsupported-part', 'must be a special token', true);
    const entry = known && objectOf(known, name);
    const list = (entry && listOf(entry, 'ids')) ?? [ids.get(name)];
    if (list.length !== 1) failAt(piece, undefined, 'unsupported-part', 'must stand for one id', true);
    checkId(piece, undefined, name, list[0], ids);
    return name;
  };
  return { cls: nameOf(cls!), sep: nameOf(sep!) };
}

function checkId(
  at: JsonObject,
  key: string | undefined,
  token: string,
  id: unknown,
  ids: ReadonlyMap<string, number>,
): void {
  if (id !== ids.get(token)) {
    const expected = ids.get(token) ?? 'none';
    failAt(
      at,
      key,
      'token-conflict',
      `${describe(token)} has id ${describe(id ?? null)}, in the vocabulary ${expected}`,
    );
  }
}
