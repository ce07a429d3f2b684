import type { CaptionOptions, ImageInput, VisualInput } from 'generative-image2text';
import { frames, OptionError } from 'generative-image2text';
import type { CheckedFor } from 'generative-image2text/options';
import type { ModelHost, TextTask } from './host.js';
import type { Metrics } from './metrics.js';
import type { serverOptions } from './options.js';
import { type Admission, HttpError, imageOf, type Ticket } from './requests.js';
import {
  mergeOptions,
  type StreamEvent,
  streamText,
  taskOfPrompt,
  untilStop,
  type Written,
  writeText,
} from './writing.js';

export type ServerSettings = CheckedFor<typeof serverOptions, 'serve'>;

/** What every API works with. */
export interface Service {
  readonly host: ModelHost;
  readonly settings: ServerSettings;
  /** What the server does where a request does not say. */
  readonly generation: CaptionOptions;
  readonly admission: Admission;
  readonly metrics: Metrics;
}

/** A request whose body was read. */
export interface Received {
  readonly request: Request;
  readonly body: Uint8Array<ArrayBuffer>;
  readonly ticket: Ticket;
  /** Fires when the client leaves, its time is over, or the server stops. */
  readonly signal: AbortSignal;
}

/** Images of a request in base64: one, or the frames of a video where the model takes them. */
export async function openImages(
  { host, settings: { fetch, maxBody } }: Service,
  sources: readonly (readonly [source: unknown, path: string])[],
  { ticket, signal }: Received,
): Promise<ImageInput> {
  if (sources.length === 0) throw new HttpError(400, 'image-missing', 'this model writes about images: send one');
  const most = Math.max(1, host.model.config.numImageWithEmbedding);
  if (sources.length > most) {
    const what = most === 1 ? 'one image at a time' : `at most ${most} images, the frames of a video`;
    throw new HttpError(400, 'too-many-images', `this model takes ${what}, ${sources.length} were sent`);
  }
  const opened: Uint8Array[] = [];
  for (const [source, path] of sources) opened.push(await imageOf(source, path, { fetch, maxBody, ticket }, signal));
  return opened.length === 1 ? opened[0]! : (frames(opened) as VisualInput as ImageInput);
}

/** @throws HttpError 400 for a text that is none or too long. */
export function checkText(text: unknown, path: string, { settings: { maxPrompt } }: Service): string {
  if (typeof text !== 'string') throw new HttpError(400, 'wrong-type', `${path}: expected a text`);
  if (text.length <= maxPrompt) return text;
  throw new HttpError(400, 'text-too-long', `${path}: ${text.length} characters, at most ${maxPrompt}`);
}

/** What a chat API says about one image. */
export interface Ask {
  readonly image: ImageInput;
  readonly prompt: string;
  readonly raw?: boolean;
  readonly options: CaptionOptions;
  readonly stops: readonly string[];
}

function taskOf(service: Service, { image, prompt, raw, options, stops }: Ask): TextTask {
  const { host, settings, generation } = service;
  const stopping = stops.length === 0 ? options : { ...options, stopStrings: stops };
  const merged = checkSize(mergeOptions(host, generation, stopping as CaptionOptions), settings.maxBeams);
  return { image, ...taskOfPrompt(checkText(prompt, 'prompt', service), settings.prompts, raw), options: merged };
}

/** Beams cost memory each; what one request may take is the server's to say. */
export function checkSize(options: CaptionOptions, maxBeams: number): CaptionOptions {
  for (const name of ['numBeams', 'numReturnSequences', 'perNode'] as const) {
    const value = (options as Readonly<Record<string, unknown>>)[name];
    if (typeof value !== 'number' || value <= maxBeams) continue;
    throw new OptionError({ path: name, code: 'out-of-range', detail: `at most ${maxBeams} here, found ${value}` });
  }
  return options;
}

/** The whole text. */
export async function ask(service: Service, given: Ask, signal: AbortSignal): Promise<Written> {
  return countTokens(service, await writeText(service.host, taskOf(service, given), signal));
}

/** The text as it is written. */
export async function* askStreaming(
  service: Service,
  given: Ask,
  signal: AbortSignal,
): AsyncGenerator<StreamEvent, void, void> {
  const events = streamText(service.host, taskOf(service, given), signal);
  for await (const event of service.admission.streaming(untilStop(events, given.stops), signal)) {
    if ('written' in event) countTokens(service, event.written);
    yield event;
  }
}

export function countTokens({ metrics }: Service, written: Written): Written {
  metrics.count('image2text_texts_total', 'Texts written.');
  metrics.count('image2text_tokens_total', 'Tokens written.', written.caption.tokens.length);
  return written;
}

const NANOSECONDS = 1e6;
export const nanoseconds = (milliseconds: number): number => Math.round(milliseconds * NANOSECONDS);

const ENCODER = new TextEncoder();

/**
 * An answer that is sent as it comes. What fails before the first piece fails as any request; later, `failed` says it in the stream. A client
 * that reads slowly holds the model back, and one that leaves ends it.
 */
export async function streamed(
  type: string,
  lines: AsyncGenerator<string, void, void>,
  failed: (error: unknown) => string,
): Promise<Response> {
  const first = await lines.next();
  let pending: IteratorResult<string, void> | undefined = first;
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { done, value } = pending ?? (await lines.next());
          pending = undefined;
          if (done === true) controller.close();
          else controller.enqueue(ENCODER.encode(value as string));
        } catch (error) {
          controller.enqueue(ENCODER.encode(failed(error)));
          controller.close();
        }
      },
      async cancel() {
        await lines.return();
      },
    },
    { highWaterMark: 0 },
  );
  return new Response(body, {
    headers: { 'content-type': type, 'cache-control': 'no-store', 'x-accel-buffering': 'no' },
  });
}
