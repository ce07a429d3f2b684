/**
 * What the page and the worker say to each other. Everything in it can be cloned; functions, handles and errors travel as their descriptions.
 */
import {
  BackendError,
  ConfigError,
  DisposedError,
  HubError,
  Image2TextError,
  ImageError,
  MetricError,
  OptionError,
  SafetensorsError,
  TokenizerError,
  TorchFileError,
  WeightError,
} from '../errors.js';
import type { Method } from '../image2text/method-options.js';
import type { TrainingPair } from '../training/data.js';

/** What a `Worker`, a worker's own scope and a `MessagePort`, Node's too, have in common. */
export interface MessageEndpoint {
  postMessage(message: unknown, transfer?: Transferable[]): void;
  addEventListener(type: 'message', listener: (event: { readonly data: unknown }) => void): void;
  /** A port waits for it. */
  start?(): void;
}

/** What can be asked for: the model's methods that a worker serves, loading and freeing. */
export type WorkerCall = Exclude<Method, 'generate'> | 'load' | 'dispose' | 'release' | 'train' | 'useAdapter';

/** From the page. */
export type Request =
  | { readonly image2text: 'call'; readonly id: number; readonly name: WorkerCall; readonly args: readonly unknown[] }
  | { readonly image2text: 'abort'; readonly id: number }
  | { readonly image2text: 'answer'; readonly id: number; readonly event: number; readonly answer: Outcome };

/** From the worker. */
export type Reply =
  /** `lock` is the name of a lock that the worker holds as long as it lives. */
  | { readonly image2text: 'ready'; readonly lock: string | undefined }
  | { readonly image2text: 'result'; readonly id: number; readonly outcome: Outcome }
  | { readonly image2text: 'piece'; readonly id: number; readonly text: string }
  /** A listener among the options is called; the answer is awaited. */
  | {
      readonly image2text: 'event';
      readonly id: number;
      readonly event: number;
      readonly listener: string;
      readonly data: unknown;
    };

export type Outcome = { readonly value: unknown } | { readonly error: PackedError };

/** Images and videos as they travel, so that handles are told from values. */
export type PackedInput =
  | { readonly kind: 'image'; readonly value: unknown }
  | { readonly kind: 'encoded'; readonly handle: number }
  | { readonly kind: 'video'; readonly value: unknown }
  | { readonly kind: 'frames'; readonly frames: readonly PackedInput[] }
  | { readonly kind: 'list'; readonly inputs: readonly PackedInput[] };

/** A pair to learn as it travels. */
export type PackedPair = Omit<TrainingPair, 'image'> & { readonly image: PackedInput };

/** A file as it travels: Node's ports make plain blobs of files. */
export interface NamedBlob {
  readonly name: string;
  readonly contents: Blob;
}

/** Listeners that may be among the options of a call. */
export const LISTENERS: readonly string[] = ['onProgress', 'onToken', 'onEvent'];

/** Is it a message of this protocol? Others on the same port are the application's. */
export const isMessage = (data: unknown): data is Request | Reply =>
  typeof data === 'object' && data !== null && 'image2text' in data;

/** An error with its class, facts and cause, as plain data. */
export interface PackedError {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
  /** The fields of an error of this library. */
  readonly facts: Readonly<Record<string, unknown>> | undefined;
  readonly cause: PackedError | undefined;
}

const CLASSES: Readonly<Record<string, new (facts: never) => Image2TextError>> = {
  Image2TextError,
  ConfigError,
  SafetensorsError,
  TorchFileError,
  TokenizerError,
  ImageError,
  MetricError,
  HubError,
  OptionError,
  DisposedError,
  BackendError,
  WeightError,
};

/** Causes of causes that travel. */
const DEEPEST_CAUSE = 4;

/** What was thrown, whatever it is, as data. */
export function packError(thrown: unknown, depth = 0): PackedError {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  const { name, message, stack, cause } = error;
  const own = error instanceof Image2TextError;
  const facts = own
    ? Object.fromEntries(
        ['file', 'path', 'offset', 'code', 'detail', 'unsupported', 'faults', 'report']
          .map((key) => [key, (error as unknown as Record<string, unknown>)[key]] as const)
          .filter(([, value]) => value !== undefined),
      )
    : undefined;
  const packedCause = cause === undefined || depth >= DEEPEST_CAUSE ? undefined : packError(cause, depth + 1);
  return { name, message, stack, facts, cause: packedCause };
}

/** The same error of the same class again; one of no class of ours keeps its name. */
export function unpackError({ name, message, stack, facts, cause }: PackedError): Error {
  const inner = cause === undefined ? undefined : unpackError(cause);
  const Class = facts === undefined ? undefined : (CLASSES[name] ?? Image2TextError);
  if (Class !== undefined) {
    const error = new Class({ ...facts, cause: inner } as never);
    return Object.assign(error, stack === undefined ? {} : { stack });
  }
  if (name === 'AbortError' || name === 'TimeoutError') return new DOMException(message, name);
  const error = new Error(message, inner === undefined ? undefined : { cause: inner });
  return Object.assign(error, { name }, stack === undefined ? {} : { stack });
}

/** Results of `onError: 'collect'` have errors among them. */
interface PackedResult {
  readonly collected: PackedError;
}

export const packResult = (value: unknown): unknown =>
  Array.isArray(value)
    ? value.map((item: unknown) =>
        item instanceof Error ? ({ collected: packError(item) } satisfies PackedResult) : item,
      )
    : value;

export const unpackResult = (value: unknown): unknown =>
  Array.isArray(value)
    ? value.map((item: unknown) =>
        typeof item === 'object' && item !== null && 'collected' in item
          ? unpackError((item as PackedResult).collected)
          : item,
      )
    : value;
