/** A caption as words that light up the image where the decoder's attention went. */
import type { ExplainedWord, Explanation } from '../../src/explain/attention-map.js';
import { byId, el, percent } from './dom.js';

/** Below this the word would have been as likely without the image: e^0.7 is a factor of 2. */
const SEEN = 0.7;

/** What is drawn: pixels as the page has them, and where the patches lie on them. */
export interface Shown {
  readonly width: number;
  readonly height: number;
}

const light = (): HTMLCanvasElement => byId<HTMLCanvasElement>('light');

/** Darkens the image except where the word's attention went, of the frame that got most of it. */
function drawLight(explanation: Explanation, { mean }: ExplainedWord, { width, height }: Shown): void {
  const { grid, images } = explanation;
  const { rows, columns } = grid;
  const sums = images.map((_, f) => mean.patches.slice(f * rows * columns, (f + 1) * rows * columns));
  const frame = sums.reduce((best, patches, f) => (Math.max(...patches) > Math.max(...sums[best]!) ? f : best), 0);
  const patches = sums[frame]!;
  const most = Math.max(...patches);
  const small = new OffscreenCanvas(columns, rows);
  const pixels = new ImageData(columns, rows);
  patches.forEach((share, i) => {
    pixels.data[4 * i + 3] = Math.round(205 * (1 - share / most) ** 0.8);
  });
  small.getContext('2d')!.putImageData(pixels, 0, 0);
  const canvas = light();
  Object.assign(canvas, { width, height });
  const context = canvas.getContext('2d')!;
  const { image, seen } = images[frame]!;
  const [x, y] = [width / image.width, height / image.height];
  context.fillStyle = 'rgb(0 0 0 / 0.8)';
  context.fillRect(0, 0, width, height); // outside of what the model saw
  const area = [seen.left * x, seen.top * y, seen.width * x, seen.height * y] as const;
  context.clearRect(...area);
  context.imageSmoothingQuality = 'high';
  context.drawImage(small, ...area);
  canvas.classList.add('on');
}

export const lightsOff = (): void => light().classList.remove('on');

/** Shows the words; each can be pointed at, tabbed to and read aloud with what is known of it. */
export function showWords(explanation: Explanation, shown: Shown): void {
  const caption = byId('caption');
  const words = explanation.words.filter(({ special }) => !special);
  caption.replaceChildren(
    ...words.flatMap((word, n) => {
      const guess = word.evidence < SEEN;
      const button = el('button', {
        type: 'button',
        className: `word${guess ? ' guess' : ''}`,
        textContent: word.text,
      });
      button.style.setProperty('--sure', word.probability.toFixed(2));
      const facts = `${percent(word.probability)} sure, ${guess ? 'likely from the words before alone' : `${times(word.evidence)} likelier with the image`}`;
      button.setAttribute('aria-label', `${word.text}: ${facts}`);
      const on = (): void => {
        drawLight(explanation, word, shown);
        button.classList.add('lit');
        byId('about').textContent = `“${word.text}”: ${facts}.`;
      };
      const off = (): void => {
        lightsOff();
        button.classList.remove('lit');
        byId('about').textContent = summary(explanation);
      };
      button.addEventListener('pointerenter', on);
      button.addEventListener('focus', on);
      button.addEventListener('click', on);
      button.addEventListener('pointerleave', off);
      button.addEventListener('blur', off);
      return n > 0 && word.spaceBefore ? [' ', button] : [button];
    }),
  );
  byId('about').textContent = summary(explanation);
}

const times = (evidence: number): string => {
  const factor = Math.exp(evidence);
  return factor < 10 ? `${factor.toFixed(1)}×` : `${Math.round(Math.min(factor, 1e6)).toLocaleString('en')}×`;
};

/** The confidence of a caption as the library has it: of its tokens, the end among them. */
function summary({ tokens }: Explanation): string {
  const sure = Math.exp(tokens.reduce((sum, { logProb }) => sum + logProb, 0) / tokens.length);
  return `Confidence ${percent(sure)}. Point at a word to see where the model looked.`;
}
