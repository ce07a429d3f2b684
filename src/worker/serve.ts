/** The worker's side: one model, whose methods are called by messages. */
import type { ModelFiles } from '../checkpoint/byte-source.js';
import { DisposedError, OptionError } from '../errors.js';
import { type Image2Text, partsOf } from '../image2text/image2text.js';
import type { EncodedImage, ImageInput, VideoSource, VisualInput } from '../image2text/inputs.js';
import { isPageImage, readPixels } from '../image2text/inputs.js';
import type { TrainingOptions, TrainingPair } from '../training/index.js';
import {
  isMessage,
  LISTENERS,
  type MessageEndpoint,
  type NamedBlob,
  type Outcome,
  type PackedInput,
  type PackedPair,
  packError,
  packResult,
  type Reply,
  type Request,
  unpackError,
  type WorkerCall,
} from './messages.js';

type Training = Pick<
  typeof import('../training/index.js'),
  'disposeAdapter' | 'loadAdapter' | 'memoryFolder' | 'saveAdapter' | 'train'
>;

/** Imports `generative-image2text/training`. */
export type TrainerImport = () => Promise<Training>;

/** How a worker serves. */
export interface ServeOptions {
  /** Where messages come from. Default: the worker's own scope. */
  readonly port?: MessageEndpoint | undefined;
  /** Loads a model by what the page gave: a name, an address, or the files that the user chose. */
  load(model: string | ModelFiles, options: object): Promise<Image2Text>;
  /** Makes a checkpoint of files. */
  fromFiles(files: Iterable<File>): ModelFiles;
  /** The name of the backend that is in use. */
  backendName(): string;
  /** Fetches the trainer when it is wanted. Default: this worker does not train. */
  readonly training?: TrainerImport | undefined;
}

interface Running {
  readonly abort: AbortController;
  readonly answers: Map<number, (answer: Outcome) => void>;
}

/** Serves a model to `connectWorker`, until the worker ends. Calls run at once and fail alone. */
export function serve({ port = globalThis as unknown as MessageEndpoint, ...host }: ServeOptions): void {
  if (typeof port.addEventListener !== 'function') {
    const detail = 'this is no web worker: start one from generative-image2text/worker, or give a port';
    throw new OptionError({ path: 'port', code: 'wrong-type', detail });
  }
  const running = new Map<number, Running>();
  const handles = new Map<number, EncodedImage>();
  let model: Image2Text | undefined;
  let nextEvent = 0;
  const post = (reply: Reply): void => port.postMessage(reply);

  const trainer: TrainerImport = () => {
    if (host.training !== undefined) return host.training();
    const detail =
      'this worker has no trainer: give serveModel, as its second argument, a function that imports generative-image2text/training';
    throw new OptionError({ path: 'training', code: 'missing', detail });
  };

  /** Runs of training that are going on: they hold the model's tensors. */
  const lessons = new Map<AbortController, Promise<unknown>>();

  async function free(): Promise<void> {
    for (const lesson of lessons.keys())
      lesson.abort(new DisposedError({ code: 'model-disposed', detail: 'this model was disposed' }));
    await Promise.allSettled(lessons.values());
    handles.clear(); // the model frees what it encoded
    model?.dispose();
    model = undefined;
  }

  /** The options as the library takes them: the signal, and listeners that ask the page. */
  const optionsOf = (given: unknown, id: number, { abort, answers }: Running): object => {
    const options: Record<string, unknown> = { ...(given as object | undefined), signal: abort.signal };
    for (const listener of LISTENERS) {
      if (options[listener] !== true) continue;
      options[listener] = (data: unknown) =>
        new Promise((resolve, reject) => {
          const event = nextEvent++;
          answers.set(event, (answer) =>
            'error' in answer ? reject(unpackError(answer.error)) : resolve(answer.value),
          );
          post({ image2text: 'event', id, event, listener, data });
        });
    }
    return options;
  };

  const inputOf = (packed: PackedInput): VisualInput | VisualInput[] => {
    if (packed.kind === 'image') return imageOf(packed.value);
    if (packed.kind === 'video') return { video: packed.value as VideoSource };
    if (packed.kind === 'frames') return { frames: packed.frames.map(inputOf) as ImageInput[] };
    if (packed.kind === 'list') return packed.inputs.map((input) => inputOf(input) as VisualInput);
    const encoded = handles.get(packed.handle);
    if (encoded !== undefined) return encoded;
    throw new DisposedError({ code: 'image-disposed', detail: 'this encoded image was disposed' });
  };

  /** Pairs with their images, as the trainer takes them. */
  const pairsOf = (pairs: readonly PackedPair[]): TrainingPair[] =>
    pairs.map(({ image, ...pair }) => ({ ...pair, image: inputOf(image) as VisualInput }));

  /** Trains an adapter; resolves to its files by their names. */
  async function train(
    own: Image2Text,
    [pairs, validation]: readonly (readonly PackedPair[] | undefined)[],
    { onEvent, ...options }: TrainingOptions,
    abort: AbortController,
  ): Promise<Record<string, Uint8Array>> {
    const { disposeAdapter, memoryFolder, saveAdapter, train } = await trainer();
    abort.signal.throwIfAborted();
    // Nobody waits for what the page's listener says, but what it throws ends the run.
    const listen = onEvent as undefined | ((event: unknown) => Promise<unknown>);
    const { adapter } = await train(own, pairsOf(pairs!), {
      lora: {},
      ...options,
      ...(validation === undefined ? {} : { validation: pairsOf(validation) }),
      ...(listen === undefined ? {} : { onEvent: (event) => void listen(event).catch((error) => abort.abort(error)) }),
    });
    try {
      const { files } = partsOf(own);
      const folder = memoryFolder();
      await saveAdapter(adapter!, folder, files?.repository ?? files?.label);
      return Object.fromEntries(folder.files);
    } finally {
      disposeAdapter(adapter!);
    }
  }

  async function useAdapter(own: Image2Text, files: readonly NamedBlob[] | undefined): Promise<void> {
    if (files === undefined) return own.useAdapter(undefined);
    const { disposeAdapter, loadAdapter } = await trainer();
    const named = files.map(({ name, contents }) => new File([contents], name));
    const adapter = await loadAdapter(host.fromFiles(named), own);
    try {
      own.useAdapter(adapter);
    } finally {
      disposeAdapter(adapter);
    }
  }

  async function load(given: unknown, options: object): Promise<object> {
    await free(); // first, so that two models are never in memory
    const source = typeof given === 'string' ? given : host.fromFiles(given as Iterable<File>);
    const loaded = await host.load(source, options);
    model = loaded;
    const { config, warnings } = loaded;
    return { config, warnings, backend: host.backendName() };
  }

  async function run(name: WorkerCall, args: readonly unknown[], id: number, call: Running): Promise<unknown> {
    if (name === 'dispose') return free();
    if (name === 'release') {
      handles.get(args[0] as number)?.dispose();
      handles.delete(args[0] as number);
      return undefined;
    }
    const options = optionsOf(args.at(-1), id, call);
    if (name === 'load') return load(args[0], options);
    if (model === undefined)
      throw new DisposedError({ code: 'no-model', detail: 'the worker has no model: call load() first' });
    if (name === 'useAdapter') return useAdapter(model, args[0] as readonly NamedBlob[] | undefined);
    if (name === 'train') {
      const lesson = train(model, args.slice(0, 2) as never, options, call.abort);
      lessons.set(call.abort, lesson);
      return lesson.finally(() => lessons.delete(call.abort));
    }
    const input = inputOf(args[0] as PackedInput);
    if (name === 'encode') {
      handles.set(id, await model.encode(input as VisualInput, options));
      return id;
    }
    if (name === 'stream') {
      for await (const text of model.stream(input as VisualInput, options)) post({ image2text: 'piece', id, text });
      return undefined;
    }
    const method = model[name] as (...given: unknown[]) => Promise<unknown>;
    return packResult(await method(input, ...args.slice(1, -1), options));
  }

  async function answer(request: Request & { readonly image2text: 'call' }): Promise<void> {
    const { id, name, args } = request;
    const call: Running = { abort: new AbortController(), answers: new Map() };
    running.set(id, call);
    let outcome: Outcome;
    try {
      outcome = { value: await run(name, args, id, call) };
    } catch (error) {
      outcome = { error: packError(error) };
    }
    running.delete(id);
    post({ image2text: 'result', id, outcome });
  }

  port.addEventListener('message', ({ data }) => {
    if (!isMessage(data)) return;
    const request = data as Request;
    const call = running.get(request.id);
    if (request.image2text === 'call') void answer(request);
    else if (request.image2text === 'abort') {
      call?.abort.abort();
      handles.get(request.id)?.dispose(); // it was done before it was stopped: nobody knows the handle
      handles.delete(request.id);
      for (const stop of call?.answers.values() ?? []) stop({ value: false }); // nobody is there to answer
    } else if (request.image2text === 'answer') {
      call?.answers.get(request.event)?.(request.answer);
      call?.answers.delete(request.event);
    }
  });
  port.start?.();
  void holdLock().then((lock) => post({ image2text: 'ready', lock }));
}

/** What is given up with the message is read at once, so that bitmaps and frames of a camera are closed early. */
function imageOf(value: unknown): ImageInput {
  if (!isPageImage(value) || !('close' in value)) return value as ImageInput;
  try {
    return readPixels(value);
  } finally {
    value.close();
  }
}

/** Takes a lock that the browser frees when this worker ends, however it does: so the page learns of it. */
async function holdLock(): Promise<string | undefined> {
  const { locks } = (globalThis as { navigator?: { locks?: LockManager } }).navigator ?? {};
  if (locks === undefined || typeof (globalThis as { importScripts?: unknown }).importScripts !== 'function')
    return undefined;
  const name = `generative-image2text ${crypto.randomUUID()}`;
  return new Promise((resolve) => {
    const held = locks.request(name, () => {
      resolve(name);
      return new Promise(() => undefined);
    });
    held.catch(() => resolve(undefined)); // a frame without storage has no locks
  });
}
