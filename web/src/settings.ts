/** Model and engine: choosing, loading with pause and resume, what is kept, isolation, and how fast it is. */
import { byId, el, show } from './dom.js';
import type { Given } from './inputs.js';
import { addressOf, type Backend, type Choice, endWorker, type Loaded, load, PUBLISHED } from './model.js';
import { problemOf } from './problems.js';

let loaded: Loaded | undefined;

/** The model, once it is loaded. */
export const ready = (): Loaded | undefined => loaded;

interface Listeners {
  onLoaded(): void;
  onProblem(error?: unknown): void;
  /** The image that the page is about. */
  about(): Given | undefined;
}

const megabytes = (bytes: number): string =>
  bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;

/** What is kept of checkpoints, in the cache of this name (the library's). */
const CACHE = 'generative-image2text';

export function connectSettings({ onLoaded, onProblem, about }: Listeners): void {
  const settings = byId<HTMLDialogElement>('settings');
  const repo = byId<HTMLInputElement>('repo');
  const progress = byId<HTMLProgressElement>('progress');
  const progressText = byId('progress-text');
  const pause = byId<HTMLButtonElement>('pause');
  let loading: AbortController | undefined;
  let last: Choice | undefined;
  /** Bytes of the checkpoint of the Hub that is in use, all of which should be kept. */
  let downloaded = 0;

  byId('known').append(...['demo', ...Object.keys(PUBLISHED)].map((value) => el('option', { value })));
  byId('open-settings').addEventListener('click', () => {
    settings.showModal();
    void showCache();
  });
  byId('close-settings').addEventListener('click', () => settings.close());
  settings.addEventListener('click', ({ target }) => target === settings && settings.close());

  const weights = byId<HTMLSelectElement>('weights');
  const showSize = (): void => {
    const size = PUBLISHED[repo.value];
    const share = { f32: 1, bf16: 0.5, int8: 0.26 }[weights.value] ?? 1;
    byId('size').textContent =
      repo.value === 'demo'
        ? 'The demo: 7 MB, knows drawn scenes only.'
        : size === undefined
          ? 'Any GIT checkpoint by its name on the Hub, or the address of a folder.'
          : `${megabytes(size)} to download once, some ${megabytes(size * share)} in memory and kept.`;
  };
  repo.addEventListener('input', showSize);
  weights.addEventListener('change', showSize);

  async function start(choice: Choice): Promise<void> {
    loading?.abort();
    const own = new AbortController();
    loading = own;
    last = choice;
    loaded = undefined;
    downloaded = 0;
    onProblem();
    show('progress', true);
    show('pause', typeof choice.source === 'string' && choice.name !== 'demo');
    pause.textContent = 'Pause';
    progressText.textContent = 'Starting…';
    byId('model-name').textContent = choice.name === 'demo' ? 'Demo model' : choice.name.replace(/^.*\//, '');
    try {
      const done = await load(choice, own.signal, (event) => {
        if (event.status !== 'progress_total') return;
        progress.value = event.progress;
        if (typeof choice.source === 'string' && /^[\w.-]+\/[\w.-]+$/.test(choice.source)) downloaded = event.total;
        progressText.textContent = `${megabytes(event.loaded)} of ${megabytes(event.total)}${event.loaded === event.total ? ', getting ready…' : ''}`;
      });
      if (loading !== own) return;
      loaded = done;
      progress.value = 100;
      progressText.textContent = `Ready after ${(done.loadMs / 1000).toFixed(1)} s.`;
      show('pause', false);
      document.documentElement.dataset['model'] = choice.name;
      onLoaded();
    } catch (error) {
      if (loading !== own) return;
      if (own.signal.aborted) {
        progressText.textContent += ' Paused; what has come is kept.';
        pause.textContent = 'Resume';
        return;
      }
      progressText.textContent = problemOf(error);
      if (!settings.open) onProblem(error);
    }
    void showCache();
  }

  const choiceOf = (source: Choice['source'], name: string): Choice => ({
    source,
    name,
    weights: weights.value as Choice['weights'],
    backend: byId<HTMLSelectElement>('backend').value as Backend,
  });
  byId('model-form').addEventListener('submit', (event) => {
    event.preventDefault();
    const name = repo.value.trim() || 'demo';
    void start(choiceOf(addressOf(name), name));
  });
  byId<HTMLInputElement>('model-files').addEventListener('change', ({ target }) => {
    const files = [...((target as HTMLInputElement).files ?? [])];
    if (files.length > 0) void start(choiceOf(files, 'Your files'));
  });
  pause.addEventListener('click', () => {
    if (pause.textContent === 'Pause') loading?.abort();
    else if (last !== undefined) void start(last);
  });

  /** A worker that ended, for want of memory most likely, is started again once. */
  addEventListener('unhandledrejection', ({ reason }) => onProblem(reason));
  byId('problem').addEventListener('lost', () => {
    endWorker();
    if (last !== undefined) void start(last);
  });

  async function showCache(): Promise<void> {
    let bytes = 0;
    let isConverted = false;
    try {
      const cache = await caches.open(CACHE);
      for (const request of await cache.keys()) {
        isConverted ||= request.url.endsWith('/whole');
        const kept = await cache.match(request);
        bytes += Number(kept?.headers.get('content-length') ?? 0) || ((await kept?.blob())?.size ?? 0);
      }
    } catch {
      byId('cache').textContent = 'This browser keeps nothing here.';
      return;
    }
    const kept = bytes === 0 ? 'No downloaded checkpoint.' : `${megabytes(bytes)} of checkpoints.`;
    const hasRoom = bytes >= downloaded || isConverted; // a narrower copy takes less than was downloaded
    byId('cache').textContent = !hasRoom ? `${kept} There was no room for all of the last one.` : kept;
    byId<HTMLButtonElement>('clear').disabled = bytes === 0;
  }
  byId('clear').addEventListener('click', async () => {
    await caches.delete(CACHE);
    downloaded = 0;
    await showCache();
  });

  byId('bench').addEventListener('click', () => measure(about()).catch(onProblem));
  byId('copy').addEventListener('click', () => navigator.clipboard.writeText(byId('bench-result').textContent ?? ''));

  byId('isolation').textContent = crossOriginIsolated
    ? `This page is isolated: the simd engine uses up to ${Math.min(navigator.hardwareConcurrency, 8)} threads.`
    : 'This page is not isolated, so the simd engine has one thread. It has more after a reload where the browser allows service workers.';
  void startServiceWorker().then((reloads) => {
    if (!reloads) void start(choiceOf(addressOf('demo'), 'demo'));
  });
}

/** Longest that the first visit waits for the service worker, ms. */
const LONGEST_WAIT = 2000;

/**
 * Offline use and, where the host sends no headers for it, isolation: the first visit is loaded once more for that, before the model is. Resolves
 * to whether the page is being loaded again.
 */
async function startServiceWorker(): Promise<boolean> {
  if (!('serviceWorker' in navigator) || (import.meta as { env?: { DEV: boolean } }).env?.DEV) return false;
  try {
    const { serviceWorker } = navigator;
    const controlled = new Promise((resolve) =>
      serviceWorker.addEventListener('controllerchange', resolve, { once: true }),
    );
    const first = serviceWorker.controller === null;
    const registration = await serviceWorker.register('./sw.js');
    if (first) await Promise.race([controlled, new Promise((resolve) => setTimeout(resolve, LONGEST_WAIT))]);
    if (!crossOriginIsolated && serviceWorker.controller !== null && sessionStorage.getItem('reloaded') === null) {
      sessionStorage.setItem('reloaded', 'yes');
      location.reload();
      return true;
    }
    serviceWorker.addEventListener('message', ({ data }) => {
      if (data === 'kept') document.documentElement.dataset['offline'] = 'ready';
    });
    void serviceWorker.ready.then(() => (serviceWorker.controller ?? registration.active)?.postMessage('keep'));
  } catch {
    // A frame without storage, or a browser in private mode: the page works, online and with one thread.
  }
  return false;
}

/** Five captions of the image that is shown, and what they took. */
async function measure(given: Given | undefined): Promise<void> {
  if (loaded === undefined || given === undefined) throw new Error('Give an image first.');
  const { model, info, choice, threads } = loaded;
  const button = byId<HTMLButtonElement>('bench');
  button.disabled = true;
  try {
    const runs: { encode: number; first: number; tokens: number; write: number }[] = [];
    for (let n = 0; n < 5; n++) {
      const began = performance.now();
      const encoded = await model.encode(given.input);
      const encode = performance.now() - began;
      const asked = performance.now();
      let first = 0;
      const { tokens } = await model.caption(encoded, {
        strategy: 'greedy',
        onToken: () => {
          first ||= performance.now() - asked;
        },
      });
      runs.push({ encode, first, tokens: tokens.length, write: performance.now() - asked });
      encoded.dispose();
    }
    const middle = (values: number[]): number => Number([...values].sort((a, b) => a - b)[2]!.toFixed(1));
    const result = {
      model: choice.name,
      weights: choice.weights,
      engine: info.backend,
      threads,
      isolated: crossOriginIsolated,
      runs: runs.length,
      encodeMs: middle(runs.map(({ encode }) => encode)),
      firstTokenMs: middle(runs.map(({ first }) => first)),
      tokensPerSecond: middle(runs.map(({ tokens, first, write }) => ((tokens - 1) * 1000) / (write - first))),
      browser: navigator.userAgent,
      cores: navigator.hardwareConcurrency,
    };
    byId('bench-result').textContent = JSON.stringify(result, undefined, 2);
    show('bench-result', true);
    show('copy', true);
  } finally {
    button.disabled = false;
  }
}
