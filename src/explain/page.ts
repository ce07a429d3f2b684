import type { ExplainedImage, ExplainedWord, Explanation, View } from './attention-map.js';
import { attentionOf, attentionSpread, EVEN_SPREAD } from './attention-map.js';
import { fitted, largest, PAINT, percent, toPng } from './overlay.js';
import { PAGE_SCRIPT, PAGE_STYLE } from './page-assets.js';

export interface PageOptions {
  /** What the page calls the image or video: its file's name. Default: nothing. */
  readonly file?: string | undefined;
  /** What it calls the model. Default: nothing. */
  readonly model?: string | undefined;
  /** Language of the text, as in HTML's `lang`. Default `en`. */
  readonly lang?: string | undefined;
  /** Longest side of the embedded images; larger ones are shrunk. Default 768 pixels, 384 for the frames of a video. */
  readonly maxSide?: number | undefined;
}

/**
 * One HTML page that holds everything: the image, the text, every attention map. Hovering over a word, focusing or touching it lights the image.
 * It makes no request (its own Content-Security-Policy forbids any), and the same explanation gives the same bytes.
 */
export function renderPage(explanation: Explanation, options: PageOptions = {}): string {
  const { images, text, prompt, words } = explanation;
  const video = images.length > 1;
  const maxSide = options.maxSide ?? (video ? 384 : 768);
  const data = JSON.stringify(pageData(explanation)).replaceAll('<', '\\u003c');
  const shots = images.map((image, frame) => imageHtml(image, explanation, frame, maxSide)).join('\n');
  const cropped = images.some(isCropped);
  return `<!doctype html>
<html lang="${escapeHtml(options.lang ?? 'en')}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>${escapeHtml([text, options.file].filter(Boolean).join(' · '))}</title>
<style>${PAGE_STYLE}</style>
</head>
<body>
<main>
<article>
<h1>Where attention went</h1>
${sourceHtml(options)}<div class="images${video ? ' video' : ''}">
${shots}
</div>
<p class="caption">${prompt === '' ? '' : `<span class="prompt">${escapeHtml(prompt)}</span> `}${words.map(wordHtml).join('')}</p>
<p class="hint">Point at a word, or use the arrow keys; Escape shows the plain image. The line below a word is its probability.${cropped ? ' The dim part of the image was cut away before the model saw it.' : ''}</p>
</article>
<aside>
${numbersHtml}
${viewsHtml(explanation)}
</aside>
${HOW_TO_READ}
</main>
<script type="application/json" id="data">${data}</script>
<script>${PAGE_SCRIPT}</script>
</body>
</html>
`;
}

/** Makes text harmless inside HTML text and quoted attributes. */
export const escapeHtml = (text: string): string =>
  text.replace(/[&<>"'\u0000-\u0008\u000b-\u001f\u007f]/g, (c) => `&#${c === '\u0000' ? 0xfffd : c.charCodeAt(0)};`);

/** The names of the file and the model, as far as they are known. */
function sourceHtml({ file, model }: PageOptions): string {
  const names = [file, model].filter((name) => name !== undefined && name !== '');
  return names.length === 0
    ? ''
    : `<p class="source">${names.map((name) => `<span>${escapeHtml(name!)}</span>`).join('')}</p>\n`;
}

function wordHtml({ text, spaceBefore, special, probability }: ExplainedWord, place: number): string {
  const shown = special ? text.replace(/^\[SEP\]$/, 'end') : text;
  const sure = probability > 0.9995 ? 'over 99.9 %' : percent(probability);
  return (
    (spaceBefore && place > 0 ? ' ' : '') +
    `<button type="button" class="word${special ? ' special' : ''}" aria-pressed="false" aria-label="${escapeHtml(`${shown}, probability ${sure}`)}" ` +
    `data-text="${escapeHtml(shown)}" data-sure="${sure} sure" ` +
    `style="--sure:${probability.toFixed(3)}">${escapeHtml(shown)}</button>`
  );
}

const inside = (part: number): number => Math.min(1, Math.max(0, part));

/** What is seen of an image, cut to its sides: fractions from the left, top, right and bottom. */
function insets({ image: { width, height }, seen }: ExplainedImage): [number, number, number, number] {
  return [
    inside(seen.top / height),
    inside(1 - (seen.left + seen.width) / width),
    inside(1 - (seen.top + seen.height) / height),
    inside(seen.left / width),
  ];
}

/** Rounding of the resized size leaves slivers that nobody needs to be told of. */
const isCropped = (image: ExplainedImage): boolean => insets(image).some((inset) => inset > 0.01);

function imageHtml(explained: ExplainedImage, { grid, text }: Explanation, frame: number, maxSide: number): string {
  const { image } = fitted(explained, maxSide);
  const { width, height } = explained.image;
  const source = `data:image/png;base64,${toBase64(toPng(image))}`;
  const share = (part: number, side: number) => `${((100 * part) / side).toFixed(4)}%`;
  const { left, top, width: across, height: down } = explained.seen;
  const place = `left:${share(left, width)};top:${share(top, height)};width:${share(across, width)};height:${share(down, height)}`;
  const cut = isCropped(explained)
    ? ` style="clip-path:inset(${insets(explained)
        .map((inset) => `${(100 * inset).toFixed(4)}%`)
        .join(' ')})"`
    : '';
  const patch = Math.max(8, Math.min(32, Math.floor(448 / Math.max(grid.rows, grid.columns)))); // pixels of the canvas
  const alt = grid.frames > 1 ? `Frame ${frame + 1}: ${text}` : text;
  const size = `aspect-ratio:${width}/${height};width:min(100%,calc(74vh*${(width / height).toFixed(4)}))`;
  return `<div class="image" style="${size}">
${cut === '' ? '' : `<div class="rest"></div>`}<img class="shot"${cut} alt="${escapeHtml(alt)}" src="${source}">
<canvas class="veil" width="${grid.columns * patch}" height="${grid.rows * patch}" style="${place}" aria-hidden="true"></canvas>
</div>`;
}

const numbersHtml = `<section aria-live="polite">
<p class="said"><b id="said"></b><span id="sure"></span></p>
<p class="nowhere" id="nowhere" hidden>no place in particular: attention is spread over the whole image</p>
<div class="bar"><i id="bar-image" style="background:var(--image)"></i><i id="bar-token" style="background:var(--token)"></i><i id="bar-text" style="background:var(--text)"></i></div>
<dl>
<dt style="--dot:var(--image)">image</dt><dd id="share-image"></dd>
<dt style="--dot:var(--token)">class token</dt><dd id="share-token"></dd>
<dt style="--dot:var(--text)">words before</dt><dd id="share-text"></dd>
<dt>largest patch</dt><dd id="peak"></dd>
<dt class="even">each, if shared evenly</dt><dd id="even"></dd>
</dl>
</section>`;

function viewsHtml({ grid, layers, heads }: Explanation): string {
  const numbers = (count: number): number[] => Array.from({ length: count }, (_, n) => n);
  const across = framesAcross(grid.frames);
  const [right, down] = [grid.columns * across, grid.rows * Math.ceil(grid.frames / across)];
  const pixels = Math.max(2, Math.floor(64 / Math.max(right, down)));
  const canvas = `<canvas width="${right * pixels}" height="${down * pixels}" aria-hidden="true"></canvas>`;
  const row = (layer: number): string =>
    `<button type="button" class="layer" data-view="${2 + layer}" aria-label="layer ${layer + 1}, mean of its heads">${layer + 1}</button>` +
    numbers(heads)
      .map((head) => {
        const label = `layer ${layer + 1}, head ${head + 1}`;
        const view = 2 + layers + layer * heads + head;
        return `<button type="button" data-view="${view}" title="${label}" aria-label="${label}">${canvas}</button>`;
      })
      .join('');
  return `<section>
<h2>Attention</h2>
<div class="views"><button type="button" data-view="0">Mean</button><button type="button" data-view="1">Rollout</button></div>
<div class="heads" role="group" aria-label="layers and heads" style="grid-template-columns:auto repeat(${heads},minmax(0,1fr))">
<small></small><small class="axis" style="grid-column:2/-1">head</small>
<small class="axis">layer</small>${numbers(heads)
    .map((head) => `<small>${head + 1}</small>`)
    .join('')}
${numbers(layers).map(row).join('\n')}
</div>
<div class="scale"><span>0</span><div class="ramp" aria-hidden="true"><canvas id="ramp" width="256" height="1"></canvas><i id="tick"></i></div><span id="top"></span></div>
<fieldset class="choice"><legend>Scale</legend><label><input type="radio" name="scale" value="word" checked>own scale</label><label><input type="radio" name="scale" value="shared">one scale for all words</label></fieldset>
<fieldset class="choice"><legend>Drawing</legend><label><input type="radio" name="filling" value="smooth" checked>smooth</label><label><input type="radio" name="filling" value="patches">patches as they are</label></fieldset>
</section>`;
}

/** One word's attention maps: bytes of all views behind each other, each view [frames, rows, columns] in 255ths of its largest patch. */
export interface PageWord {
  readonly patches: string;
  /** For each view: its largest patch, the class token's share, the text's, and how evenly the patches share theirs. */
  readonly shares: readonly (readonly [peak: number, classToken: number, text: number, spread: number])[];
}

/** All that the page's script needs. */
export interface PageData {
  readonly grid: readonly [frames: number, rows: number, columns: number];
  /** How many frames stand side by side in a small drawing. */
  readonly across: number;
  readonly paint: typeof PAINT;
  readonly evenSpread: number;
  readonly words: readonly PageWord[];
  /** The word that is shown first. */
  readonly start: number;
  /** Which words count for the shared scale. */
  readonly scaled: readonly number[];
}

/** Every view in the order of the page: mean, rollout, the layers, the heads of each layer. */
export function allViews({ layers, heads }: Pick<Explanation, 'layers' | 'heads'>): View[] {
  const each = <T>(count: number, of: (n: number) => T): T[] => Array.from({ length: count }, (_, n) => of(n));
  return [
    'mean',
    'rollout',
    ...each(layers, (layer) => ({ layer })),
    ...each(layers * heads, (n) => ({ layer: Math.floor(n / heads), head: n % heads })),
  ];
}

export function pageData(explanation: Explanation): PageData {
  const { grid, words } = explanation;
  const views = allViews(explanation);
  const places = words.map((_, place) => place);
  return {
    grid: [grid.frames, grid.rows, grid.columns],
    ...{ across: framesAcross(grid.frames), paint: PAINT, evenSpread: EVEN_SPREAD },
    words: words.map((word) => {
      const maps = views.map((view) => attentionOf(word, view, explanation));
      return {
        patches: toBase64(quantized(maps.map(({ patches }) => patches))),
        shares: maps.map(
          (map) =>
            [...[round(largest(map.patches)), round(map.classToken), round(map.text)], round(attentionSpread(map))] as [
              number,
              number,
              number,
              number,
            ],
        ),
      };
    }),
    start: mostFocused(explanation),
    scaled: places.filter((place) => !words[place]!.special),
  };
}

/** Frames of a small drawing as near to a square as can be. */
export const framesAcross = (frames: number): number => Math.ceil(Math.sqrt(frames));

/** Each list in 255ths of its own largest value: never more than 0.2 % of it away. */
function quantized(lists: readonly Float32Array[]): Uint8Array {
  const bytes = new Uint8Array(lists.reduce((sum, list) => sum + list.length, 0));
  let at = 0;
  for (const list of lists) {
    const most = largest(list);
    for (const share of list) bytes[at++] = most > 0 ? Math.round((share / most) * 255) : 0;
  }
  return bytes;
}

/** The word that looked at one place of the image most: a page should open with something to see. */
function mostFocused({ words }: Explanation): number {
  let [best, most] = [0, -1];
  for (const [place, { special, mean }] of words.entries()) {
    const peak = special ? -1 : largest(mean.patches);
    if (peak > most) [best, most] = [place, peak];
  }
  return best;
}

const round = (value: number): number => Number(value.toFixed(5));

export function toBase64(bytes: Uint8Array): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}

/** What a reader of the page should know, and no more than that. */
export const HOW_TO_READ = `<details>
<summary>How to read this</summary>
<p>Before it writes a word, the model attends to patches of the image, to one class token that stands for no place, and to the words
before. The numbers say how its attention was shared out among them, and together they are 100 %. The image is darkened where little of the
patches' part went. With its own scale a word's largest patch is not darkened at all, so the image shows where; with one scale for all
words it also shows how much. The small triangle below the scale is what every patch would get if the image's part were shared out evenly.
Where the patches' shares are nearly that even (an entropy of ${EVEN_SPREAD * 100} % of the largest possible or more), the page says “no place in particular”.</p>
<p><b>Mean</b> is the plain mean over all layers and heads of the decoder, which are also shown one by one: a row is a layer, a column a
head, a number on the left the mean of a layer. <b>Rollout</b> (Abnar and Zuidema, 2020) follows attention further down, through the decoder
and the vision tower to the patches that went in. There the same few patches often feed all words, so that its maps resemble each other.</p>
<p>Attention says what the model read from. It is no proof of why it chose a word: later layers can read what earlier ones have carried
elsewhere, and some patches of plain background are used to keep other things.</p>
</details>`;
