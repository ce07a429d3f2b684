/** The page's side: a model in a worker, called as if it were here. It needs no tensors: a page that imports this alone loads a few kilobytes. */
import { BackendError, OptionError } from '../errors.js';
import type { Explanation } from '../explain/attention-map.js';
import type { Answer, AnswerOptions, Caption, CaptionOptions, CaptionStreamOptions } from '../image2text/captions.js';
import type { ExplainOptions } from '../image2text/image2text.js';
import type { EncodedImage, VideoInput, VisualInput } from '../image2text/inputs.js';
import { isPageImage, isVideoInput, readPixels } from '../image2text/inputs.js';
import type {
  ClassifyOptions,
  ClassScore,
  Embedding,
  EmbedOptions,
  ScoreTextsOptions,
  TextScore,
} from '../image2text/scores.js';
import type { GitConfig } from '../model/git-config.js';
import type { BrowserLoadOptions } from '../platform/browser.js';
import type { TrainingPair } from '../training/data.js';
import type { TrainingOptions } from '../training/options.js';
import {
  isMessage,
  LISTENERS,
  type MessageEndpoint,
  type NamedBlob,
  type Outcome,
  type PackedInput,
  type PackedPair,
  packError,
  type Reply,
  type Request,
  unpackError,
  unpackResult,
  type WorkerCall,
} from './messages.js';

/** Options that can travel: listeners `onToken` and `onProgress` and the signal do, tensors of a trace do not. */
type Travels<Options> = Options extends unknown
  ? Omit<Options, 'trace' | 'streamer'> & {
      /** Gives the image's memory away instead of copying it: `ImageBitmap`, `VideoFrame`, bytes and `ImageData` are empty afterwards. */
      readonly transfer?: boolean | undefined;
    }
  : never;

/** Images and videos that can travel: all but tensors. What a page shows is read when the call is made. */
export type WorkerInput = Exclude<VisualInput, { readonly dataId: object }>;

/** A pair to learn whose image can travel. */
export type WorkerTrainingPair = Omit<TrainingPair, 'image'> & { readonly image: WorkerInput };

/** Options of `train` that can travel: a page has no folder to write into. Without `lora` its defaults are meant. */
export type WorkerTrainingOptions = Omit<
  TrainingOptions,
  'folder' | 'featureFolder' | 'saveEvery' | 'resume' | 'validation' | 'trainVision' | 'visionLearningRate'
> & { readonly validation?: Iterable<WorkerTrainingPair> | undefined };

/** What a loaded model says of itself. */
export interface WorkerModelInfo {
  readonly config: GitConfig;
  readonly warnings: readonly string[];
  /** The tfjs backend that it runs on. */
  readonly backend: string;
}

/**
 * A model in a worker: the methods of `Image2Text`, with the same options, results and errors, by their classes and codes. Besides, every call
 * throws BackendError `worker-failed` where the worker's script cannot be loaded or has thrown, and `worker-lost` where the worker has ended.
 */
export interface WorkerModel {
  /** Loads a checkpoint, in place of the one that is there: a name on the Hub, a folder's address (relative to the page), or files that the user chose. */
  load(
    model: string | URL | Iterable<File>,
    options?: Omit<BrowserLoadOptions, 'upload' | 'convertHeic' | 'openImage' | 'openVideo' | 'prepareImage'>,
  ): Promise<WorkerModelInfo>;
  caption(
    inputs: readonly WorkerInput[],
    options: Travels<CaptionOptions> & { readonly onError: 'collect' },
  ): Promise<(Caption | Error)[]>;
  caption(inputs: readonly WorkerInput[], options?: Travels<CaptionOptions>): Promise<Caption[]>;
  caption(input: WorkerInput, options?: Travels<CaptionOptions>): Promise<Caption>;
  answer(input: WorkerInput, question: string, options?: Travels<AnswerOptions>): Promise<Answer>;
  answer(input: WorkerInput, questions: readonly string[], options?: Travels<AnswerOptions>): Promise<Answer[]>;
  /** The encoded image stays in the worker; the handle stands for it in calls of this model, until `dispose()`. */
  encode(
    input: WorkerInput,
    options?: { readonly signal?: AbortSignal | undefined; readonly transfer?: boolean | undefined },
  ): Promise<EncodedImage>;
  classify(input: WorkerInput, labels: readonly string[], options?: Travels<ClassifyOptions>): Promise<ClassScore[]>;
  score(input: WorkerInput, texts: readonly string[], options?: Travels<ScoreTextsOptions>): Promise<TextScore[]>;
  embed(input: WorkerInput, options?: Travels<EmbedOptions>): Promise<Embedding>;
  explain(input: WorkerInput, options?: Travels<ExplainOptions>): Promise<Explanation>;
  stream(input: WorkerInput, options?: Travels<CaptionStreamOptions>): AsyncGenerator<string, void, void>;
  /**
   * Trains on pairs of images and texts by LoRA (docs/training.md) and gives the adapter as the two files that PEFT has, for `useAdapter` and for
   * downloads. The model stays as it is and can be used meanwhile; `onEvent` receives what happens.
   */
  train(pairs: Iterable<WorkerTrainingPair>, options?: WorkerTrainingOptions): Promise<File[]>;
  /**
   * Changes what is said from the next call on: with the adapter in these files (of `train` or of PEFT), or, with `undefined`, as the checkpoint
   * does. Images that were encoded before have to be encoded again.
   */
  useAdapter(files: Iterable<File> | undefined): Promise<void>;
  /** Frees the model; calls in flight fail with a DisposedError. The worker stays, and can load another one. */
  dispose(): Promise<void>;
}

interface Pending {
  readonly listeners: Readonly<Record<string, (data: unknown) => unknown>>;
  readonly onPiece: ((text: string) => void) | undefined;
  settle(outcome: Outcome | { readonly thrown: unknown }): void;
}

/** Images that a model in a worker has encoded. */
const encodedBy = new WeakMap<EncodedImage, { readonly owner: object; readonly handle: number }>();

/**
 * Connects to a worker that serves a model (`generative-image2text/worker`):
 *
 * ```js
 * const model = connectWorker(new Worker(new URL('generative-image2text/worker', import.meta.url), { type: 'module' }));
 * await model.load('microsoft/git-base-coco');
 * const { text } = await model.caption(file);
 * ```
 */
export function connectWorker(port: MessageEndpoint): WorkerModel {
  const pending = new Map<number, Pending>();
  let nextId = 1;
  let lost: BackendError | undefined;
  const post = (request: Request, transfer: Transferable[] = []): void => port.postMessage(request, transfer);

  const lose = (code: 'worker-failed' | 'worker-lost', detail: string): void => {
    lost ??= new BackendError({ path: 'worker', code, detail });
    for (const call of [...pending.values()]) call.settle({ thrown: lost });
  };
  watchEnd(port, lose);

  port.addEventListener('message', ({ data }) => {
    if (!isMessage(data)) return;
    const reply = data as Reply;
    if (reply.image2text === 'ready') {
      if (reply.lock !== undefined) watchLock(reply.lock, () => lose('worker-lost', 'it has ended: start another one'));
      return;
    }
    const call = pending.get(reply.id);
    if (reply.image2text === 'result') call?.settle(reply.outcome);
    else if (reply.image2text === 'piece') call?.onPiece?.(reply.text);
    else if (reply.image2text === 'event') void receive(reply, call);
  });
  port.start?.();

  /** Calls a listener and sends what it returned or threw. */
  async function receive({ id, event, listener, data }: Reply & { image2text: 'event' }, call: Pending | undefined) {
    let answer: Outcome;
    try {
      const value = await call?.listeners[listener]?.(data);
      answer = { value: typeof value === 'boolean' ? value : undefined };
    } catch (error) {
      answer = { error: packError(error) };
    }
    post({ image2text: 'answer', id, event, answer });
  }

  /** Starts a call and returns its id and its end. */
  function start(
    name: WorkerCall,
    args: readonly unknown[],
    given: object | undefined,
    transfer: Transferable[],
    onPiece?: (text: string) => void,
  ): { readonly id: number; readonly ended: Promise<unknown> } {
    const { signal, listeners, options } = splitOptions(given);
    signal?.throwIfAborted();
    if (lost !== undefined) throw lost;
    const id = nextId++;
    const ended = new Promise<unknown>((resolve, reject) => {
      const onAbort = (): void => {
        post({ image2text: 'abort', id });
        pending.get(id)?.settle({ thrown: signal?.reason });
      };
      const settle: Pending['settle'] = (outcome) => {
        pending.delete(id);
        signal?.removeEventListener('abort', onAbort);
        if ('thrown' in outcome) reject(outcome.thrown);
        else if ('error' in outcome) reject(unpackError(outcome.error));
        else resolve(unpackResult(outcome.value));
      };
      pending.set(id, { listeners, onPiece, settle });
      signal?.addEventListener('abort', onAbort);
      try {
        post({ image2text: 'call', id, name, args: [...args, options] }, transfer);
      } catch (cause) {
        const detail = `an argument cannot be sent to the worker: ${(cause as Error).message}`;
        settle({ thrown: new OptionError({ path: name, code: 'wrong-type', detail, cause }) });
      }
    });
    return { id, ended };
  }

  const owner = {};
  /** Starts a call about an image. */
  const about = async (name: WorkerCall, input: unknown, more: readonly unknown[], options: object | undefined) => {
    const { packed, transfer } = packInput(input, owner, (options as { transfer?: boolean } | undefined)?.transfer);
    return start(name, [packed, ...more], options, transfer).ended;
  };

  async function* stream(input: WorkerInput, options?: object): AsyncGenerator<string, void, void> {
    const { packed, transfer } = packInput(input, owner, (options as { transfer?: boolean } | undefined)?.transfer);
    const pieces: string[] = [];
    let wake = (): void => undefined;
    let over = false;
    const onPiece = (text: string): void => {
      pieces.push(text);
      wake();
    };
    const { id, ended } = start('stream', [packed], options, transfer, onPiece);
    const end = ended.finally(() => {
      over = true;
      wake();
    });
    end.catch(() => undefined); // thrown below
    try {
      while (!over || pieces.length > 0) {
        if (pieces.length > 0) yield pieces.shift()!;
        else
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
      }
      await end;
    } finally {
      if (!over) {
        post({ image2text: 'abort', id });
        pending.get(id)?.settle({ value: undefined });
      }
    }
  }

  return {
    load: async (model, options) => {
      const source =
        typeof model === 'string' || model instanceof URL ? absolute(String(model)) : [...(model as Iterable<File>)];
      return (await start('load', [source], options, []).ended) as WorkerModelInfo;
    },
    caption: ((input: unknown, options?: object) => about('caption', input, [], options)) as WorkerModel['caption'],
    answer: ((input: unknown, questions: unknown, options?: object) =>
      about('answer', input, [questions], options)) as WorkerModel['answer'],
    async encode(input, options) {
      const handle = (await about('encode', input, [], options)) as number;
      let ended = false;
      const encoded: EncodedImage = {
        source: input,
        dispose() {
          if (ended || lost !== undefined) return;
          ended = true;
          start('release', [handle], undefined, []).ended.catch(() => undefined); // lost: nothing is held any more
        },
      };
      encodedBy.set(encoded, { owner, handle });
      return encoded;
    },
    classify: (input, labels, options) => about('classify', input, [labels], options) as Promise<ClassScore[]>,
    score: (input, texts, options) => about('score', input, [texts], options) as Promise<TextScore[]>,
    embed: (input, options) => about('embed', input, [], options) as Promise<Embedding>,
    explain: (input, options) => about('explain', input, [], options) as Promise<Explanation>,
    stream,
    async train(pairs, { validation, ...options } = {}) {
      const packed = [pairs, validation].map((list) => list && [...list].map((pair) => packPair(pair, owner)));
      const files = await start('train', packed, options, []).ended;
      return Object.entries(files as Record<string, Uint8Array<ArrayBuffer>>).map(
        ([name, bytes]) => new File([bytes], name),
      );
    },
    async useAdapter(files) {
      const named = files && [...files].map((file): NamedBlob => ({ name: file.name, contents: file }));
      await start('useAdapter', [named], undefined, []).ended;
    },
    async dispose() {
      if (lost === undefined) await start('dispose', [], undefined, []).ended;
    },
  };
}

/** The signal and the listeners stay here; the worker is told which listeners there are. */
function splitOptions(given: object | undefined): {
  readonly signal: AbortSignal | undefined;
  readonly listeners: Record<string, (data: unknown) => unknown>;
  readonly options: object;
} {
  const { signal, transfer: _, ...rest } = (given ?? {}) as Record<string, unknown>;
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw new OptionError({ path: 'signal', code: 'wrong-type', detail: 'expected an AbortSignal' });
  const listeners: Record<string, (data: unknown) => unknown> = {};
  const options: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(rest)) {
    if (typeof value === 'function' && LISTENERS.includes(name)) {
      listeners[name] = value as (data: unknown) => unknown;
      options[name] = true;
    } else if (typeof value === 'function' || name === 'streamer') {
      const detail = 'a function cannot be sent to a worker; onToken, onProgress and onEvent can be given';
      throw new OptionError({ path: name, code: 'unsupported-option', detail, unsupported: true });
    } else options[name] = value;
  }
  return { signal: signal as AbortSignal | undefined, listeners, options };
}

/** A path or relative address as the page means it: the worker's own base is another one. */
function absolute(address: string): string {
  const base = (globalThis as { document?: { baseURI: string } }).document?.baseURI;
  return base !== undefined && /^(?:\.{0,2}\/|\.{1,2}$)/.test(address) ? new URL(address, base).href : address;
}

/** An image or video, or a list of them, as it travels, and what is given away with it. */
function packInput(
  input: unknown,
  owner: object,
  give = false,
): { readonly packed: PackedInput; readonly transfer: Transferable[] } {
  const transfer = new Set<Transferable>();
  const image = (value: unknown): unknown => {
    if (typeof value === 'string' || value instanceof URL) return absoluteImage(String(value));
    if (isTensor(value)) {
      const detail = 'a tensor cannot be sent to a worker: give its samples, or run the model where the tensor is';
      throw new OptionError({ path: 'image', code: 'wrong-type', detail });
    }
    if (isPageImage(value)) {
      if ('close' in value) {
        if (give) transfer.add(value as ImageBitmap);
        return value;
      }
      const { data, width, height } = readPixels(value); // as it is now: a video goes on
      transfer.add(data.buffer as ArrayBuffer);
      return { data, width, height };
    }
    if (give) for (const buffer of buffersOf(value)) transfer.add(buffer);
    if (typeof ImageData !== 'undefined' && value instanceof ImageData)
      return { data: value.data, width: value.width, height: value.height };
    return value;
  };
  const one = (value: unknown): PackedInput => {
    const held = typeof value === 'object' && value !== null ? encodedBy.get(value as EncodedImage) : undefined;
    if (held !== undefined) {
      if (held.owner === owner) return { kind: 'encoded', handle: held.handle };
      throw new OptionError({ path: 'image', code: 'other-model', detail: 'another model encoded this image' });
    }
    if (!isVideoInput(value)) return { kind: 'image', value: image(value) };
    const given = value as VideoInput;
    if ('video' in given) return { kind: 'video', value: image(given.video) };
    return { kind: 'frames', frames: given.frames.map(one) };
  };
  const packed: PackedInput = Array.isArray(input) ? { kind: 'list', inputs: input.map(one) } : one(input);
  return { packed, transfer: [...transfer] };
}

function packPair({ image, ...pair }: WorkerTrainingPair, owner: object): PackedPair {
  const { packed } = packInput(image, owner);
  if (packed.kind !== 'encoded') return { ...pair, image: packed };
  const detail = 'what is encoded cannot be learned from: give the image itself';
  throw new OptionError({ path: 'image', code: 'wrong-type', detail });
}

const absoluteImage = (address: string): string => {
  const base = (globalThis as { document?: { baseURI: string } }).document?.baseURI;
  return base === undefined || /^[a-z][a-z+.-]*:/i.test(address) ? address : new URL(address, base).href;
};

const isTensor = (value: unknown): boolean => typeof value === 'object' && value !== null && 'dataId' in value;

function* buffersOf(value: unknown): Iterable<ArrayBuffer> {
  if (value instanceof ArrayBuffer) yield value;
  else if (ArrayBuffer.isView(value)) {
    if (value.buffer instanceof ArrayBuffer) yield value.buffer;
  } else if (typeof value === 'object' && value !== null && 'data' in value) yield* buffersOf(value.data);
}

/** What a worker or a port says when it cannot go on. */
function watchEnd(port: MessageEndpoint, lose: (code: 'worker-failed' | 'worker-lost', detail: string) => void): void {
  const events = port as unknown as { addEventListener(type: string, listener: (event: unknown) => void): void };
  events.addEventListener('error', (event) => {
    const { message } = event as { message?: string };
    lose('worker-failed', message || "the worker's script cannot be loaded");
  });
  events.addEventListener('messageerror', () => lose('worker-failed', 'a message of the worker cannot be read'));
  events.addEventListener('close', () => lose('worker-lost', 'the port to it was closed'));
}

/** Calls back when the browser gives us the lock that the worker held as long as it lived. */
function watchLock(name: string, onFree: () => void): void {
  const { locks } = (globalThis as { navigator?: { locks?: LockManager } }).navigator ?? {};
  void locks?.request(name, () => onFree()).catch(() => undefined);
}
