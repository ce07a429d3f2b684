/** Teaching: a name and up to ten photos make a LoRA adapter, which can be tried, downloaded and loaded again. */
import type { WorkerInput, WorkerTrainingOptions, WorkerTrainingPair } from '../../src/worker/client.js';
import { byId, el, show, thumbnail } from './dom.js';
import { startLive } from './inputs.js';
import type { Loaded } from './model.js';
import { problemOf } from './problems.js';
import { ready } from './settings.js';

/** Most photos of a thing. */
const PHOTOS = 10;
/** Photos in a round of everything, repeated where there are fewer. */
const PHOTOS_A_ROUND = 40;
/** Updates that teach the demo a thing, in some ten seconds; a model of git-base's size takes seconds for each. */
const STEPS = { demo: 240, other: 80 };
/** How it is taught: as examples/few-shot-lora. */
const LESSON = {
  lora: { rank: 8, alpha: 16, targets: ['query', 'value', 'visual_projection.0'] },
  batchSize: 8,
  learningRate: 3e-3,
  labelSmoothing: 0,
  schedule: 'cosine',
  weightDecay: 0,
} as const satisfies WorkerTrainingOptions;

/** The files of an adapter, as PEFT names them. */
const ADAPTER = ['adapter_config.json', 'adapter_model.safetensors'] as const;

interface Photo {
  readonly bitmap: ImageBitmap;
  readonly input: WorkerInput;
}

interface Listeners {
  /** What the model says has changed. */
  onChanged(): void;
  onProblem(error?: unknown): void;
  /** The image that the page shows. */
  shown(): Photo | undefined;
  /** Images that the model knows, to rehearse so that it does not forget. */
  known(): Promise<readonly Blob[]>;
}

export interface Teaching {
  /** Adds photos that were dropped or pasted. */
  add(files: Iterable<File>): void;
  /** A model was loaded: it has learned nothing yet. */
  forget(): void;
}

export function connectTeaching({ onChanged, onProblem, shown, known }: Listeners): Teaching {
  const photos: Photo[] = [];
  const use = byId<HTMLInputElement>('use-learned');
  const thing = byId<HTMLInputElement>('thing');
  const stepsField = byId<HTMLInputElement>('teach-steps');
  let adapter: readonly File[] = [];
  let lesson: AbortController | undefined;
  let camera: { stop(): void } | undefined;
  const urls: string[] = [];

  function showPhotos(): void {
    byId('shots').replaceChildren(
      ...photos.map((photo, n) => {
        const remove = el('button', { type: 'button', 'aria-label': `Remove photo ${n + 1}`, title: 'Remove' }, '✕');
        remove.addEventListener('click', () => {
          photos.splice(photos.indexOf(photo), 1);
          showPhotos();
        });
        return el('li', {}, thumbnail(photo.bitmap), remove);
      }),
    );
    byId('shots-count').textContent = `${photos.length} of ${PHOTOS}`;
    for (const id of ['shot-files', 'shot-this', 'shot-camera', 'shot-take'])
      byId<HTMLButtonElement>(id).disabled = photos.length >= PHOTOS;
    if (photos.length >= PHOTOS) stopCamera();
  }

  function addPhoto(photo: Photo): void {
    if (photos.length < PHOTOS) photos.push(photo);
    showPhotos();
  }

  async function add(files: Iterable<File>): Promise<void> {
    onProblem();
    for (const file of files) {
      if (photos.length >= PHOTOS) return;
      try {
        addPhoto({ bitmap: await createImageBitmap(file), input: file });
      } catch {
        onProblem(Object.assign(new Error(), { code: 'not-an-image' }));
      }
    }
  }

  function stopCamera(): void {
    camera?.stop();
    camera = undefined;
    show('shot-live', false);
  }

  byId('shot-files').addEventListener('change', ({ target }) => {
    const input = target as HTMLInputElement;
    void add([...(input.files ?? [])]).finally(() => {
      input.value = '';
    });
  });
  byId('shot-this').addEventListener('click', () => {
    const photo = shown();
    if (photo === undefined) onProblem(new Error('Give an image first.'));
    else addPhoto(photo);
  });
  byId('shot-camera').addEventListener('click', async () => {
    if (camera !== undefined) return stopCamera();
    onProblem();
    try {
      camera = await startLive('camera', byId<HTMLVideoElement>('shot-video'));
      show('shot-live', true);
    } catch (error) {
      onProblem(error);
    }
  });
  byId('shot-take').addEventListener('click', async () => {
    const bitmap = await createImageBitmap(byId<HTMLVideoElement>('shot-video'));
    addPhoto({ bitmap, input: bitmap });
  });

  /** The photos, and known images with what the model says of them now. */
  async function pairsOf({ model, choice }: Loaded, text: string, signal: AbortSignal): Promise<WorkerTrainingPair[]> {
    const blobs = await without(await known(), photos);
    const images = (await Promise.all(blobs.map((blob) => recolored(blob, choice.name === 'demo')))).flat();
    const said = await model.caption(images, { strategy: 'greedy', signal });
    const fresh = photos.map(({ input }) => ({ image: input, text }));
    const repeated = Math.ceil(PHOTOS_A_ROUND / photos.length);
    return [
      ...Array.from({ length: repeated }, () => fresh).flat(),
      ...images.map((image, n) => ({ image, text: said[n]!.text })),
    ].filter(({ text }) => text !== '');
  }

  async function teach(loaded: Loaded, text: string): Promise<void> {
    const own = new AbortController();
    const { signal } = own;
    lesson = own;
    onProblem();
    const losses: number[] = [];
    const steps = Number(stepsField.value);
    const status = byId('lesson-text');
    show('lesson', true);
    show('learned', false);
    busy(true);
    drawLoss(losses, steps);
    status.textContent = 'Looking at the photos…';
    try {
      if (use.checked) await useLearned(loaded, false);
      const began = performance.now();
      const files = await loaded.model.train(await pairsOf(loaded, text, signal), {
        ...LESSON,
        steps,
        signal,
        onEvent: (event) => {
          if (event.type !== 'step') return;
          losses.push(event.loss);
          drawLoss(losses, steps);
          const left = ((performance.now() - began) / losses.length) * (steps - losses.length);
          status.textContent = `Step ${event.step} of ${steps}, loss ${event.loss.toFixed(2)}, ${timeLeft(left / 1000)}`;
        },
      });
      status.textContent = `Learned in ${((performance.now() - began) / 1000).toFixed(0)} s: loss ${losses[0]!.toFixed(2)} at first, ${losses.at(-1)!.toFixed(3)} in the end.`;
      await learned(loaded, files, `“${text}”`);
    } catch (error) {
      status.textContent = signal.aborted ? 'Stopped. Nothing was learned.' : problemOf(error);
    } finally {
      if (lesson === own) lesson = undefined;
      busy(false);
    }
  }

  function busy(is: boolean): void {
    byId<HTMLButtonElement>('teach-start').disabled = is;
    byId<HTMLInputElement>('adapter-files').disabled = is;
    show('teach-stop', is);
  }

  /** Uses an adapter, and offers it for download. */
  async function learned(loaded: Loaded, files: readonly File[], name: string): Promise<void> {
    await loaded.model.useAdapter(files);
    adapter = files;
    for (const url of urls.splice(0)) URL.revokeObjectURL(url);
    byId('downloads').replaceChildren(
      ...files.map((file) => {
        const url = URL.createObjectURL(file);
        urls.push(url);
        const size = `${Math.max(1, Math.round(file.size / 1000))} kB`;
        return el('a', { className: 'button', href: url, download: file.name }, file.name, el('small', {}, size));
      }),
    );
    byId('learned-name').textContent = name;
    use.checked = true;
    show('learned', true);
    onChanged();
  }

  async function useLearned({ model }: Loaded, on: boolean): Promise<void> {
    await model.useAdapter(on ? adapter : undefined);
    use.checked = on;
  }

  use.addEventListener('change', async () => {
    const loaded = ready();
    if (loaded === undefined) return;
    try {
      await useLearned(loaded, use.checked);
      onChanged();
    } catch (error) {
      onProblem(error);
    }
  });
  byId('adapter-files').addEventListener('change', async ({ target }) => {
    const input = target as HTMLInputElement;
    const files = [...(input.files ?? [])];
    input.value = '';
    const loaded = ready();
    if (files.length === 0 || loaded === undefined) return;
    onProblem();
    try {
      if (!ADAPTER.every((name) => files.some((file) => file.name === name)))
        throw new Error(`An adapter has two files, ${ADAPTER.join(' and ')}: choose both at once.`);
      await learned(loaded, files, 'the adapter that you gave');
    } catch (error) {
      onProblem(error);
    }
  });
  byId('teach-form').addEventListener('submit', (event) => {
    event.preventDefault();
    const loaded = ready();
    const text = thing.value.trim();
    if (loaded === undefined || text === '' || lesson !== undefined) return;
    if (photos.length === 0) return onProblem(new Error('Add a few photos of it first.'));
    stopCamera();
    void teach(loaded, text);
  });
  byId('teach-stop').addEventListener('click', () => lesson?.abort());
  showPhotos();

  return {
    add: (files) => void add(files),
    forget() {
      lesson?.abort();
      adapter = [];
      stepsField.value = String(ready()?.choice.name === 'demo' ? STEPS.demo : STEPS.other);
      use.checked = false;
      show('learned', false);
    },
  };
}

/** An example that is a photo of the new thing is not to be called what it was. */
async function without(known: readonly Blob[], photos: readonly Photo[]): Promise<Blob[]> {
  const textOf = async (blob: Blob): Promise<string> => String(new Uint8Array(await blob.arrayBuffer()));
  const taken = new Set(
    await Promise.all(photos.flatMap(({ input }) => (input instanceof Blob ? [textOf(input)] : []))),
  );
  const texts = await Promise.all(known.map(textOf));
  return known.filter((_, n) => !taken.has(texts[n]!));
}

/** Orders of red, green and blue: the image itself, and others that the model has words for too. */
const ORDERS = [
  [0, 1, 2],
  [1, 2, 0],
  [2, 0, 1],
  [0, 2, 1],
  [1, 0, 2],
  [2, 1, 0],
] as const;

/** An image in other colors too where there is time for that: more to rehearse. */
async function recolored(blob: Blob, all: boolean): Promise<ImageData[]> {
  const bitmap = await createImageBitmap(blob);
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext('2d')!;
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  return ORDERS.slice(0, all ? undefined : 1).map((order) => {
    const image = new ImageData(data.slice(), width, height);
    for (let i = 0; i < data.length; i += 4) for (let c = 0; c < 3; c++) image.data[i + c] = data[i + order[c]!]!;
    return image;
  });
}

const timeLeft = (seconds: number): string =>
  seconds < 90 ? `some ${Math.ceil(seconds)} s left` : `some ${Math.ceil(seconds / 60)} minutes left`;

/** The loss of each step so far, as a line from 0 at the bottom to the highest at the top. */
function drawLoss(losses: readonly number[], steps: number): void {
  const highest = Math.max(...losses, 1e-9);
  const points = losses.map(
    (loss, n) => `${((300 * (n + 1)) / steps).toFixed(1)},${(96 - 92 * (loss / highest)).toFixed(1)}`,
  );
  byId('loss-line').setAttribute('points', points.join(' '));
  const [first, last] = [losses[0], losses.at(-1)];
  const words =
    first === undefined
      ? 'Loss: no step yet'
      : `Loss: ${first.toFixed(2)} at first, ${last!.toFixed(2)} after ${losses.length} of ${steps} steps`;
  byId('loss').setAttribute('aria-label', words);
}
