import type { Explanation } from '../../src/explain/attention-map.js';
import type { EncodedImage } from '../../src/image2text/inputs.js';
import { byId, decimal, el, percent, show, thumbnail } from './dom.js';
import { FRAMES, fromAddress, fromBlob, type Given, startLive } from './inputs.js';
import type { Loaded } from './model.js';
import { problemOf } from './problems.js';
import { connectSettings, ready } from './settings.js';
import { connectTeaching } from './teach.js';
import { lightsOff, showWords } from './words.js';

/** What the page is about now: one image, encoded once. */
interface Current {
  readonly given: Given;
  readonly encoded: EncodedImage;
}

/** One of a live window. */
interface Frame {
  readonly bitmap: ImageBitmap;
  readonly encoded: EncodedImage;
  text?: string;
}

const GREEDY = { strategy: 'greedy' } as const;
let current: Current | undefined;
let waiting: Given | undefined;
let running = new AbortController();
let live: { stop(): void; finish(): Promise<void> } | undefined;
let shownNow: Given | undefined;
/** Was anything shown yet? The first example is, when the first model is there. */
let started = false;

const isVideoModel = (): boolean => (ready()?.info.config.numImageWithEmbedding ?? 0) > 0;
const imageCanvas = byId<HTMLCanvasElement>('image');

function problem(error?: unknown): void {
  const reason = error as { name?: string; code?: string } | undefined;
  if (reason?.name === 'AbortError') return;
  if (reason?.code === 'worker-lost') byId('problem').dispatchEvent(new Event('lost'));
  byId('problem').textContent = error === undefined ? '' : problemOf(error);
  show('problem', error !== undefined);
}

function draw(bitmap: ImageBitmap): void {
  Object.assign(imageCanvas, { width: bitmap.width, height: bitmap.height });
  imageCanvas.getContext('2d')!.drawImage(bitmap, 0, 0);
  byId('drop').classList.add('loaded');
  lightsOff();
}

const spans = (text: string): HTMLElement => el('span', { className: 'piece', textContent: text });

/** What was said about another image goes. */
function clearAnswers(): void {
  for (const id of ['talk', 'bars', 'scores', 'alternatives']) byId(id).replaceChildren();
}

/** Stops what is going on and describes something else; `known` is it, encoded already, and is taken over. */
async function describe(given: Given, known?: EncodedImage): Promise<void> {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  problem();
  shownNow = given;
  draw(given.bitmap);
  showFrames(given);
  const caption = byId('caption');
  caption.setAttribute('aria-busy', 'true');
  clearAnswers();
  byId('about').textContent = '';
  imageCanvas.setAttribute('aria-label', 'The image that was chosen');
  const loaded = ready();
  if (loaded === undefined) {
    waiting = given;
    caption.replaceChildren(el('span', { className: 'waiting', textContent: 'Getting the model ready…' }));
    return;
  }
  caption.replaceChildren(el('span', { className: 'waiting', textContent: 'Looking…' }));
  current?.encoded.dispose();
  current = undefined;
  try {
    const { model } = loaded;
    const began = performance.now();
    const encoded = known ?? (await model.encode(given.input, { signal }));
    current = { given, encoded };
    const encodedAt = performance.now();
    let firstAt = 0;
    caption.replaceChildren();
    const pieces: string[] = [];
    for await (const piece of model.stream(encoded, { ...GREEDY, signal })) {
      firstAt ||= performance.now();
      pieces.push(piece);
      caption.append(spans(piece));
    }
    const ended = performance.now();
    imageCanvas.setAttribute('aria-label', pieces.join(''));
    const explanation: Explanation = await model.explain(encoded, { ...GREEDY, rollout: false, signal });
    const perSecond = ((explanation.tokens.length - 1) * 1000) / (ended - firstAt);
    showTimes(loaded, known ? undefined : encodedAt - began, firstAt - encodedAt, perSecond);
    showWords(explanation, given.bitmap);
    caption.setAttribute('aria-busy', 'false');
    if (!byId('others').hidden) await showAlternatives();
  } catch (error) {
    if (signal.aborted) return;
    caption.replaceChildren();
    caption.setAttribute('aria-busy', 'false');
    problem(error);
  }
}

function showTimes(loaded: Loaded, encode: number | undefined, first: number, perSecond: number): void {
  const parts = [
    ['Model ready in', `${(loaded.loadMs / 1000).toFixed(1)} s`],
    ...(encode === undefined ? [] : [['Image encoded in', `${Math.round(encode)} ms`] as const]),
    ['First word after', `${Math.round(first)} ms`],
    ['Then', `${Math.round(perSecond)} tokens/s`],
    [
      'On',
      `${loaded.info.backend}${loaded.choice.backend === 'simd' ? `, ${loaded.threads} thread${loaded.threads === 1 ? '' : 's'}` : ''}`,
    ],
  ] as const;
  byId('times').replaceChildren(
    ...parts.map(([name, value]) => el('span', {}, `${name} `, el('b', { textContent: value }))),
  );
}

/** Frames of a video: each can be described alone. */
function showFrames({ frames }: Given): void {
  if (live !== undefined) return;
  byId('strip').replaceChildren(
    ...(frames ?? []).map((frame, n) =>
      el(
        'li',
        {},
        frameButton(`Frame ${n + 1}`, frame, () => describe({ bitmap: frame, input: frame, frames })),
      ),
    ),
  );
}

function frameButton(label: string, bitmap: ImageBitmap, onClick: () => unknown): HTMLButtonElement {
  const button = el('button', { type: 'button', title: label, 'aria-label': label }, thumbnail(bitmap));
  button.addEventListener('click', onClick);
  return button;
}

/** Marks the example that is shown, if it is one. */
function markExample(example?: Element): void {
  for (const marked of byId('examples').querySelectorAll('[aria-current]')) marked.removeAttribute('aria-current');
  example?.setAttribute('aria-current', 'true');
}

async function give(open: () => Promise<Given>, example?: Element): Promise<void> {
  live?.stop();
  try {
    const given = await open();
    markExample(example);
    await describe(given);
  } catch (error) {
    problem(error);
  }
}

const giveBlob = (blob: Blob): Promise<void> => give(() => fromBlob(blob, isVideoModel()));

/**
 * Captions what comes and keeps the last six frames, each encoded once, to go back to. A video model is given all of them, so that it can say what
 * moves; others the last one.
 */
async function goLive(kind: 'camera' | 'screen'): Promise<void> {
  live?.stop();
  problem();
  byId('strip').replaceChildren();
  const video = byId<HTMLVideoElement>('video');
  let source: Awaited<ReturnType<typeof startLive>>;
  try {
    source = await startLive(kind, video);
  } catch (error) {
    problem(error);
    return;
  }
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const kept: Frame[] = [];
  let by: Loaded | undefined;
  let going = true;
  /** All frames stay to be chosen from; what was encoded of them goes, but for the one that is wanted. */
  const stop = (wanted?: EncodedImage): void => {
    if (!going) return;
    going = false;
    live = undefined;
    source.stop();
    for (const id of ['video', 'stop-live']) show(id, false);
    for (const { encoded } of kept) if (encoded !== wanted) encoded.dispose();
  };
  const said = (): Frame[] => kept.filter(({ text }) => text !== undefined).slice(-FRAMES);
  const stopAt = ({ bitmap, encoded }: Frame): Promise<void> => {
    const known = going ? encoded : undefined;
    stop(known);
    return describe({ bitmap, input: bitmap, frames: said().map(({ bitmap }) => bitmap) }, known);
  };
  /** Stops at what the caption is about: the last frame, or for a video model all of them. */
  const finish = async (): Promise<void> => {
    if (!going) return;
    const last = said().at(-1);
    if (last === undefined) return stop();
    if (!isVideoModel()) return stopAt(last);
    stop();
    const frames = said().map(({ bitmap }) => bitmap);
    await describe({ bitmap: last.bitmap, input: { frames }, frames });
  };
  live = { stop, finish };
  void source.ended.then(finish);
  current?.encoded.dispose();
  current = undefined;
  clearAnswers();
  markExample();
  for (const id of ['video', 'stop-live']) show(id, true);
  byId('drop').classList.add('loaded');
  byId('caption').setAttribute('aria-busy', 'false'); // each caption comes whole
  byId('about').textContent = 'Live. Choose a frame below to stop at it.';
  while (going && !signal.aborted) {
    const loaded = ready();
    if (loaded === undefined || video.videoWidth === 0) {
      await new Promise((resolve) => setTimeout(resolve, 200));
      continue;
    }
    if (loaded !== by) {
      byId('strip').replaceChildren(); // another model has encoded them
      for (const { encoded } of kept.splice(0)) encoded.dispose();
      by = loaded;
    }
    try {
      const bitmap = await createImageBitmap(video);
      const encoded = await loaded.model.encode(bitmap, { signal });
      if (!going) {
        encoded.dispose();
        break;
      }
      const frame: Frame = { bitmap, encoded };
      kept.push(frame);
      const about = isVideoModel() ? { frames: kept.slice(-FRAMES).map(({ encoded }) => encoded) } : encoded;
      let text = '';
      for await (const piece of loaded.model.stream(about, { ...GREEDY, signal })) text += piece;
      if (!going) break;
      frame.text = text;
      byId('caption').replaceChildren(text);
      if (kept.length > FRAMES) {
        const old = kept.shift()!; // not before: it could be chosen until now
        old.encoded.dispose();
        old.bitmap.close();
      }
      byId('strip').replaceChildren(
        ...kept.map((frame) =>
          el(
            'li',
            {},
            frameButton(frame.text ?? '', frame.bitmap, () => stopAt(frame)),
          ),
        ),
      );
    } catch (error) {
      if (!signal.aborted) problem(error);
      stop();
    }
  }
  stop();
}

async function showAlternatives(): Promise<void> {
  const loaded = ready();
  const about = current;
  if (loaded === undefined || about === undefined) return;
  const options = { strategy: 'beam', numBeams: 4, numReturnSequences: 4, signal: running.signal } as const;
  const { alternatives, ...best } = await loaded.model.caption(about.encoded, options);
  byId('alternatives').replaceChildren(
    ...[best, ...alternatives].map(({ text, confidence }) =>
      el('li', {}, text, el('small', { textContent: `${percent(confidence)} sure a word` })),
    ),
  );
}

/** Runs what a form of the page asks for about the image; of a live window about where it is, at which it stops. */
function onForm(id: string, run: (loaded: Loaded, encoded: EncodedImage) => Promise<void>): void {
  byId<HTMLFormElement>(id).addEventListener('submit', async (event) => {
    event.preventDefault();
    problem();
    await live?.finish();
    const loaded = ready();
    if (loaded === undefined || current === undefined) return problem(new Error('Give an image first.'));
    try {
      await run(loaded, current.encoded);
    } catch (error) {
      problem(error);
    }
  });
}

function bar(label: string, share: number, shown: string): HTMLElement {
  const line = el('i');
  line.style.setProperty('--share', share.toFixed(3));
  return el('li', {}, el('span', { textContent: label }), el('span', { textContent: shown }), line);
}

onForm('ask-form', async ({ model }, encoded) => {
  const field = byId<HTMLInputElement>('question');
  const question = field.value.trim();
  if (question === '') return;
  field.value = '';
  const answer = el('li', { className: 'a', textContent: '…' });
  byId('talk').append(el('li', { className: 'q', textContent: question }), answer);
  const { text, confidence } = await model.answer(encoded, question, { ...GREEDY, signal: running.signal });
  answer.replaceChildren(text === '' ? '(nothing)' : text, el('small', { textContent: `${percent(confidence)} sure` }));
});

onForm('names-form', async ({ model }, encoded) => {
  const names = byId<HTMLInputElement>('labels')
    .value.split(',')
    .map((name) => name.trim())
    .filter(Boolean);
  const ranked = await model.classify(encoded, names, { topK: names.length, signal: running.signal });
  byId('bars').replaceChildren(
    ...ranked.map(({ label, probability }) => bar(label, probability, percent(probability))),
  );
});

onForm('texts-form', async ({ model }, encoded) => {
  const texts = byId<HTMLTextAreaElement>('lines')
    .value.split('\n')
    .map((line) => line.trim())
    .filter(Boolean);
  const scores = await model.score(encoded, texts, { signal: running.signal });
  const best = [...scores].sort((a, b) => b.logProb - a.logProb);
  byId('scores').replaceChildren(
    ...best.map(({ text, confidence, logProb }) =>
      bar(text, confidence, `${percent(confidence)} a word, log p ${decimal(logProb)}`),
    ),
  );
});

/** Tabs as the ARIA practices have them: arrows move between them. */
const tabs = [...document.querySelectorAll<HTMLButtonElement>('[role="tab"]')];
for (const [n, tab] of tabs.entries()) {
  const choose = (): void => {
    for (const other of tabs) {
      const chosen = other === tab;
      other.setAttribute('aria-selected', `${chosen}`);
      other.tabIndex = chosen ? 0 : -1;
      byId(other.getAttribute('aria-controls')!).hidden = !chosen;
    }
    if (tab.id === 'tab-others') showAlternatives().catch(problem);
  };
  tab.addEventListener('click', choose);
  tab.addEventListener('keydown', ({ key }) => {
    const step = key === 'ArrowRight' ? 1 : key === 'ArrowLeft' ? -1 : 0;
    if (step === 0) return;
    const next = tabs[(n + step + tabs.length) % tabs.length]!;
    next.focus();
    next.click();
  });
}

byId<HTMLInputElement>('file').addEventListener('change', ({ target }) => {
  const input = target as HTMLInputElement;
  const [file] = input.files ?? [];
  if (file !== undefined) void giveBlob(file);
  input.value = '';
});
byId('camera').addEventListener('click', () => goLive('camera'));
byId('screen').addEventListener('click', () => goLive('screen'));
byId('stop-live').addEventListener('click', () => live?.finish());
byId('link').addEventListener('click', ({ currentTarget }) => {
  const opens = byId('link-form').classList.contains('hidden');
  show('link-form', opens);
  (currentTarget as HTMLElement).setAttribute('aria-expanded', `${opens}`);
  if (opens) byId('address').focus();
});
byId('link-form').addEventListener('submit', (event) => {
  event.preventDefault();
  void give(() => fromAddress(byId<HTMLInputElement>('address').value, isVideoModel()));
});
addEventListener('paste', ({ clipboardData }) => {
  const files = [...(clipboardData?.files ?? [])];
  if (files.length > 0 && document.activeElement?.closest('#teach')) teaching.add(files);
  else if (files.length > 0) void giveBlob(files[0]!);
});
const drop = byId('drop');
addEventListener('dragover', (event) => {
  event.preventDefault();
  drop.classList.add('over');
});
addEventListener('dragleave', () => drop.classList.remove('over'));
addEventListener('drop', (event) => {
  event.preventDefault();
  drop.classList.remove('over');
  const files = [...(event.dataTransfer?.files ?? [])];
  if (files.length > 0 && (event.target as Element).closest?.('#teach')) teaching.add(files);
  else if (files.length > 0) void giveBlob(files[0]!);
});

/** Samples that show what the demo can do: things, their colors, printed words, and movement. */
const EXAMPLES = [
  ['black-shirt-press.jpg', 'A shirt'],
  ['red-book-short.png', 'A book'],
  ['white-sign-tower.png', 'A sign'],
  ['pink-phone-thanks.png', 'A phone'],
  ['brown-bottle-bank.png', 'A bottle'],
  ['blue-mug-juice.png', 'A mug'],
  ['video-2.gif', 'Something that moves'],
] as const;
byId('examples').replaceChildren(
  ...EXAMPLES.map(([name, label]) => {
    const moves = name.endsWith('.gif');
    const image = el('img', { src: `./examples/${name}`, alt: '', width: 68, height: 68, decoding: 'async' });
    const button = el(
      'button',
      { type: 'button', className: moves ? 'moves' : '', 'aria-label': `Example: ${label}`, title: label },
      image,
    );
    button.addEventListener('click', () => give(() => fromAddress(`./examples/${name}`, isVideoModel()), button));
    return el('li', {}, button);
  }),
);
byId<HTMLTextAreaElement>('lines').value =
  'a black shirt that says press\na blue mug with the word juice on it\na white sign';

const teaching = connectTeaching({
  onChanged: () => shownNow && void describe(shownNow),
  onProblem: problem,
  shown: () => shownNow,
  known: () => Promise.all(EXAMPLES.map(([name]) => fetch(`./examples/${name}`).then((response) => response.blob()))),
});

connectSettings({
  onLoaded() {
    teaching.forget();
    current = undefined; // its worker, or its weights, are gone
    const next = waiting ?? shownNow;
    waiting = undefined;
    if (next !== undefined) void describe(next);
    else if (!started) byId('examples').querySelector('button')?.click();
    started = true;
  },
  onProblem: problem,
  about: () => shownNow,
});
byId('caption').replaceChildren(el('span', { className: 'waiting', textContent: 'Getting the model ready…' }));
