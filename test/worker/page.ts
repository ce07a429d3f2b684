/** The script of the test page: what a page imports to have a model in a worker, and images in all the ways that it has them. */
import { connectWorker, type WorkerInput } from '../../src/browser.js';

const open = async (name: string): Promise<Blob> => (await fetch(`/examples/${name}`)).blob();

function drawn(bitmap: ImageBitmap): HTMLCanvasElement {
  const canvas = Object.assign(document.createElement('canvas'), { width: bitmap.width, height: bitmap.height });
  canvas.getContext('2d')!.drawImage(bitmap, 0, 0);
  return canvas;
}

async function element(blob: Blob): Promise<HTMLImageElement> {
  const image = new Image();
  image.src = URL.createObjectURL(blob);
  await image.decode();
  return image;
}

/** The same image in every form, each made anew: some are given away. */
const FORMS: Readonly<Record<string, (blob: Blob, name: string) => WorkerInput | Promise<WorkerInput>>> = {
  blob: (blob) => blob,
  bytes: (blob) => blob.arrayBuffer(),
  address: (_, name) => `examples/${name}`,
  bitmap: (blob) => createImageBitmap(blob),
  frame: async (blob) => new VideoFrame(await createImageBitmap(blob), { timestamp: 0 }),
  image: element,
  canvas: async (blob) => drawn(await createImageBitmap(blob)),
  imageData: async (blob) => {
    const canvas = drawn(await createImageBitmap(blob));
    return canvas.getContext('2d')!.getImageData(0, 0, canvas.width, canvas.height);
  },
};

/** Whether nothing is left of what was given away. */
const isEmpty = (input: unknown): boolean => {
  if (input instanceof ArrayBuffer) return input.byteLength === 0;
  if (input instanceof ImageData) return input.data.length === 0;
  return (input as { width?: number; displayWidth?: number }).width === 0 || (input as VideoFrame).format === null;
};

const start = (script = '/worker.js') => {
  const worker = new Worker(script, { type: 'module' });
  return { worker, model: connectWorker(worker) };
};

const tasks: Readonly<Record<string, (given: any) => Promise<unknown>>> = {
  async forms({ name }) {
    const { worker, model } = start();
    const { backend } = await model.load('./weights/demo');
    const blob = await open(name);
    const texts: Record<string, string> = {};
    const emptied: string[] = [];
    for (const transfer of [false, true]) {
      for (const [form, make] of Object.entries(FORMS)) {
        const input = await make(blob, name);
        const { text } = await model.caption(input, { strategy: 'greedy', transfer });
        texts[`${form}${transfer ? ' given' : ''}`] = text;
        if (transfer && typeof input === 'object' && isEmpty(input)) emptied.push(form);
        if (!transfer && typeof input === 'object' && !(input instanceof Blob) && isEmpty(input))
          emptied.push(`!${form}`);
      }
    }
    const pieces: string[] = [];
    for await (const piece of model.stream(blob)) pieces.push(piece);
    worker.terminate();
    return { backend, texts, emptied, pieces };
  },
  /** What calls say when their worker is ended from outside, and when its script is not there. */
  async lost({ name }) {
    const { worker, model } = start();
    await model.load('./weights/demo');
    const blob = await open(name);
    const ends = [model.caption(blob), model.stream(blob).next(), model.encode(blob)].map((call) =>
      call.then(
        () => 'done',
        (error) => `${error.name} ${error.code}`,
      ),
    );
    worker.terminate();
    const absent = start('/not-there.js').model.load('./weights/demo');
    ends.push(
      absent.then(
        () => 'done',
        (error) => `${error.name} ${error.code}`,
      ),
    );
    return Promise.all(ends);
  },
};

Object.assign(globalThis, { ask: (name: string, given: object) => tasks[name]!(given) });
