import { percent } from '../legend.js';
import { fitted, toPng } from '../overlay.js';
import type { ExplainedImage, ExplainedWord, Explanation } from '../types.js';
import { framesAcross, pageData, toBase64 } from './page-data.js';
import { PAGE_SCRIPT } from './page-script.js';
import { PAGE_STYLE } from './page-style.js';
import { HOW_TO_READ } from './page-words.js';

export interface PageOptions {
  /** Language of the text, as in HTML's `lang`. Default `en`. */
  readonly lang?: string | undefined;
  /** Longest side of the embedded images; larger ones are shrunk. Default 768 pixels, 384 for the frames of a video. */
  readonly maxSide?: number | undefined;
}

/**
 * One HTML page that holds everything: the image, the text, every look. Hovering over a word, focusing or touching it lights the image.
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
<title>${escapeHtml(text)}</title>
<style>${PAGE_STYLE}</style>
</head>
<body>
<main>
<article>
<h1>Where the model looked</h1>
<div class="images${video ? ' video' : ''}">
${shots}
</div>
<p class="caption">${prompt === '' ? '' : `<span class="prompt">${escapeHtml(prompt)}</span> `}${words.map(wordHtml).join('')}</p>
<p class="hint">Point at a word, or walk through them with the arrow keys; Escape shows the plain image. The line below a word is its probability.${cropped ? ' The dim part of the image was cut away before the model saw it.' : ''}</p>
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
<canvas class="heat" width="${grid.columns * patch}" height="${grid.rows * patch}" style="${place}" aria-hidden="true"></canvas>
</div>`;
}

const numbersHtml = `<section aria-live="polite">
<p class="said"><b id="said"></b><span id="sure"></span></p>
<div class="bar"><i id="bar-image" style="background:var(--image)"></i><i id="bar-token" style="background:var(--token)"></i><i id="bar-text" style="background:var(--text)"></i></div>
<dl>
<dt style="--dot:var(--image)">image</dt><dd id="share-image"></dd>
<dt style="--dot:var(--token)">class token</dt><dd id="share-token"></dd>
<dt style="--dot:var(--text)">words before</dt><dd id="share-text"></dd>
<dt>brightest patch</dt><dd id="peak"></dd>
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
<small></small>${numbers(heads)
    .map((head) => `<small>${head + 1}</small>`)
    .join('')}
${numbers(layers).map(row).join('\n')}
</div>
<div class="scale"><span>0</span><div class="ramp" aria-hidden="true"><canvas id="ramp" width="256" height="1"></canvas><i id="tick"></i></div><span id="top"></span></div>
<fieldset class="choice"><legend>Scale</legend><label><input type="radio" name="scale" value="word" checked>own scale</label><label><input type="radio" name="scale" value="shared">one scale for all words</label></fieldset>
<fieldset class="choice"><legend>Drawing</legend><label><input type="radio" name="filling" value="smooth" checked>smooth</label><label><input type="radio" name="filling" value="patches">patches as they are</label></fieldset>
</section>`;
}
