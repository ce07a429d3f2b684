import { ANSWER_METRICS, type AnswerMetric, scoreAnswers } from './answers.js';
import { scoreCaptions } from './captions.js';
import type { Pair } from './formats.js';

export type Metric = 'captions' | AnswerMetric;

/** Names of all metrics, for flags. */
export const METRICS: readonly Metric[] = ['captions', ...(Object.keys(ANSWER_METRICS) as AnswerMetric[])];

/** A pair with its scores, 0 to 1 (CIDEr 0 to 10). */
export interface ScoredPair extends Pair {
  /** By what the items are sorted: CIDEr for captions, else the metric itself. */
  readonly score: number;
  readonly scores: Readonly<Record<string, number>>;
}

/** What `evaluatePairs` found. */
export interface Evaluation {
  readonly metric: Metric;
  readonly count: number;
  /** As papers print them, times 100, by name. */
  readonly scores: Readonly<Record<string, number>>;
  /** Worst first; of equal ones in the order given. */
  readonly items: readonly ScoredPair[];
}

/** Names that papers print. */
const CAPTION_NAMES = {
  bleu1: 'BLEU-1',
  bleu2: 'BLEU-2',
  bleu3: 'BLEU-3',
  bleu4: 'BLEU-4',
  rougeL: 'ROUGE-L',
  cider: 'CIDEr',
} as const;

/** Scores predictions against references. @throws MetricError as the scores do */
export function evaluatePairs(pairs: readonly Pair[], metric: Metric): Evaluation {
  if (metric === 'captions') {
    const found = scoreCaptions(
      pairs.map(({ id, prediction, texts }) => ({ id, candidate: prediction, references: texts })),
    );
    const named = (scores: Readonly<Record<keyof typeof CAPTION_NAMES, number>>, factor: number) =>
      Object.fromEntries(
        (Object.keys(CAPTION_NAMES) as (keyof typeof CAPTION_NAMES)[]).map((key) => [
          CAPTION_NAMES[key],
          factor * scores[key],
        ]),
      );
    const items = pairs.map((pair, i) => ({
      ...pair,
      score: found.perItem[i]!.cider,
      scores: named(found.perItem[i]!, 1),
    }));
    return { metric, count: found.count, scores: named(found, 100), items: worstFirst(items) };
  }
  const found = scoreAnswers(
    pairs.map((pair) => ({ ...pair, answers: pair.texts })),
    metric,
  );
  const means = [...Object.entries(found.perAnswerType), ...Object.entries(found.perQuestionType)];
  const scores = Object.fromEntries([
    [metric, 100 * found.overall],
    ...means.map(([type, mean]) => [`${metric} (${type})`, 100 * mean]),
  ]);
  const items = pairs.map((pair, i) => ({
    ...pair,
    score: found.perItem[i]!.score,
    scores: { [metric]: found.perItem[i]!.score },
  }));
  return { metric, count: found.count, scores, items: worstFirst(items) };
}

const worstFirst = (items: readonly ScoredPair[]): ScoredPair[] => [...items].sort((a, b) => a.score - b.score);

/** How an image is shown: an address, or undefined where there is none. */
export type ImageAddress = (item: ScoredPair) => string | undefined;

/** Most items of a page; a browser shows no more at ease. */
const PAGE_LIMIT = 1000;

/**
 * A self-contained HTML page: scores, and for each item, worst first, the image, what was said and what people said.
 * It loads nothing but the images.
 */
export function evaluationPage(
  { metric, count, scores, items }: Evaluation,
  title: string,
  address: ImageAddress,
): string {
  const rows = Object.entries(scores).map(
    ([name, value]) => `<tr><th>${escapeHtml(name)}</th><td>${value.toFixed(2)}</td></tr>`,
  );
  const shown = items.slice(0, PAGE_LIMIT);
  const cards = shown.map((item) => {
    const source = address(item);
    const image =
      source === undefined
        ? '<div class="none">no image</div>'
        : `<img loading="lazy" alt="${escapeHtml(item.file ?? item.id)}" src="${escapeHtml(source)}">`;
    const question = item.question === undefined ? '' : `<p class="question">${escapeHtml(item.question)}</p>`;
    const detail = Object.entries(item.scores).map(([name, value]) => `${escapeHtml(name)} ${value.toFixed(3)}`);
    return `<article>${image}<div><h2>${escapeHtml(item.file ?? item.id)}</h2>${question}<p class="said">${escapeHtml(item.prediction)}</p>
<ul>${item.texts.map((text) => `<li>${escapeHtml(text)}</li>`).join('')}</ul><p class="scores">${detail.join(' · ')}</p></div></article>`;
  });
  const note = shown.length < count ? `, the worst ${shown.length} shown` : ', worst first';
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data: file: http: https: 'self'; style-src 'unsafe-inline'">
<title>${escapeHtml(title)}</title><style>
body{font:16px/1.5 system-ui,sans-serif;max-width:960px;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
table{border-collapse:collapse;margin:1rem 0}th{text-align:left;font-weight:400;padding:.1rem 2rem .1rem 0}td{text-align:right;font-variant-numeric:tabular-nums}
article{display:flex;gap:1.25rem;border-top:1px solid #ccc;padding:1rem 0;break-inside:avoid}article>div{flex:1;min-width:0;overflow-wrap:anywhere}
img,.none{width:240px;height:200px;flex:none;object-fit:contain;background:#f2f2f2}.none{display:grid;place-items:center;color:#666}
h2{font-size:.9rem;font-weight:400;color:#555;margin:0}.said{font-size:1.2rem;font-weight:600;margin:.25rem 0}.question{margin:.25rem 0}
ul{margin:.25rem 0;padding-left:1.2rem;color:#333}.scores{color:#555;font-size:.85rem;margin:.25rem 0}
@media(max-width:600px){article{flex-direction:column}}
</style></head><body><h1>${escapeHtml(title)}</h1><p>${count} items by ${escapeHtml(metric)}${note}. In each: what the model said, then what people said.</p>
<table>${rows.join('')}</table>
${cards.join('\n')}
</body></html>
`;
}

const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Text for HTML, with what would reorder a line taken out of force. */
const escapeHtml = (text: string): string =>
  text
    .replace(/[&<>"']/g, (char) => ESCAPES[char]!)
    .replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, '\ufffd');
