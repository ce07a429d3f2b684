import { OptionError } from '../errors.js';
import type { VisualInput } from '../image2text/inputs.js';
import type { ClassifyOptions } from '../image2text/scores.js';
import { checkSignal, readOptions, withoutNulls, wrongType } from './option-names.js';
import type { Task } from './text-tasks.js';
import type { ScoredLabel } from './types.js';

const LABEL_OPTIONS = ['topK', 'candidateLabels', 'prompt', 'method', 'trace', 'signal'];
const TOP = 5;

/** Images to the best of given names; `preset` are the names for calls that bring none. */
export const imageClassification =
  (preset: readonly string[] | undefined): Task =>
  async (model, [images, options]) => {
    const given = readOptions(options, LABEL_OPTIONS, 'image-classification');
    const { candidateLabels, topK: _, prompt, method, ...rest } = withoutNulls(given);
    checkSignal(rest);
    const labels = candidateLabels === undefined ? preset : readLabels(candidateLabels);
    if (labels === undefined) {
      const detail = 'GIT has no classes of its own: give the names to choose from';
      throw new OptionError({ path: 'candidate_labels', code: 'missing', detail });
    }
    if (prompt !== undefined && typeof prompt !== 'string') wrongType('prompt', 'a text', prompt);
    if (method !== undefined && method !== 'exact' && method !== 'greedy')
      wrongType('method', 'exact or greedy', method);
    const asked = { ...rest, prompt, method, topK: readTop(given['topK'], labels.length) } as ClassifyOptions;
    const rows: ScoredLabel[][] = [];
    const many: readonly unknown[] = Array.isArray(images) ? images : [images];
    for (const image of many) {
      const found = await model.classify(image as VisualInput, labels, asked);
      rows.push(found.map(({ label, probability }) => ({ label, score: probability })));
    }
    return Array.isArray(images) ? rows : rows[0]!;
  };

/** Names to choose from. */
export function readLabels(value: unknown): readonly string[] {
  if (Array.isArray(value) && value.every((label) => typeof label === 'string')) return value;
  return wrongType('candidate_labels', 'a list of texts', value);
}

/** 0 and null are all, as in transformers.js. */
function readTop(value: unknown, all: number): number {
  if (value === null || value === 0) return all;
  if (value === undefined) return TOP;
  if (typeof value === 'number' && Number.isInteger(value) && value > 0) return value;
  throw new OptionError({
    path: 'top_k',
    code: 'out-of-range',
    detail: `expected a whole number from 0, found ${String(value)}`,
  });
}
