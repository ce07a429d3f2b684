import type { Answer, Caption, CaptionOptions, TokenEvent } from 'generative-image2text';
import { takersOf } from 'generative-image2text/options';
import type { ModelHost, TextTask } from './host.js';
import { generationOptions } from './options.js';

/** A text and what it took. Times are in milliseconds. */
export interface Written {
  readonly caption: Caption | Answer;
  /** Tokens that the model was given: those of the image and of the text. */
  readonly promptTokens: number;
  /** From the call to the first token, where that could be seen: texts that are computed in a batch come whole. */
  readonly firstTokenMs: number | undefined;
  readonly totalMs: number;
}

/** Pieces of the text as they come, whose concatenation is the text, and last the whole. */
export type StreamEvent = { readonly piece: string } | { readonly written: Written };

/** True where words come one after the other for good; beams change theirs until the end. */
export const canStream = (host: ModelHost, { strategy = host.strategy }: CaptionOptions): boolean =>
  strategy === 'greedy' || strategy === 'sample';

/** The server's own options with those of a request, which win; what the request's strategy does not take is left out. */
export function mergeOptions(host: ModelHost, own: CaptionOptions, given: CaptionOptions): CaptionOptions {
  const strategy = given.strategy ?? own.strategy ?? host.strategy;
  const taken = Object.entries(own).filter(([name]) => {
    const declaration = generationOptions[name as keyof typeof generationOptions];
    const replaced = name === 'maxNewTokens' || name === 'maxLength' ? ['maxNewTokens', 'maxLength'] : [name];
    return takersOf(declaration as never).includes(strategy) && !replaced.some((one) => one in given);
  });
  return { ...Object.fromEntries(taken), ...given, strategy } as CaptionOptions;
}

/** The text of a task, in turn with all others. */
export async function writeText(host: ModelHost, task: TextTask, signal: AbortSignal): Promise<Written> {
  const start = performance.now();
  const caption = await call(host, task, { ...task.options, signal });
  const totalMs = performance.now() - start;
  return { caption, promptTokens: promptTokensOf(host, task), firstTokenMs: undefined, totalMs };
}

function call({ model }: ModelHost, { image, prompt, question }: TextTask, options: CaptionOptions): Promise<Caption> {
  if (question !== undefined) {
    const { prompt: _, onError: __, ...rest } = options;
    return model.answer(image, question, rest);
  }
  const { onError: _, ...rest } = options;
  return model.caption(image as Blob, prompt === undefined ? rest : { ...rest, prompt });
}

const textIds = ({ model: { tokenizer } }: ModelHost, { prompt, question }: TextTask): readonly number[] =>
  tokenizer.encode(question ?? prompt ?? '', { addSpecialTokens: false });

const promptTokensOf = (host: ModelHost, task: TextTask): number => host.imageTokens + 1 + textIds(host, task).length;

/**
 * The same as it is written. The model waits for whoever reads; leaving the loop stops it at its next step. With a beam search the text
 * comes in one piece.
 */
export async function* streamText(
  host: ModelHost,
  task: TextTask,
  signal: AbortSignal,
): AsyncGenerator<StreamEvent, void, void> {
  if (!canStream(host, task.options)) {
    const written = await writeText(host, task, signal);
    if (written.caption.text !== '') yield { piece: written.caption.text };
    yield { written };
    return;
  }
  const start = performance.now();
  let firstTokenMs: number | undefined;
  const left = new AbortController();
  const either = AbortSignal.any([signal, left.signal]);
  const pieces = rendezvous<string>(either);
  const detokenizer = host.model.tokenizer.detokenizer({ skipSpecialTokens: true });
  for (const id of textIds(host, task)) if (task.prompt !== undefined) detokenizer.push(id);
  let first = true;
  const put = async (text: string): Promise<void> => {
    const piece = first ? text.trimStart() : text;
    first &&= piece === '';
    if (piece !== '') await pieces.put(piece);
  };
  const onToken = async ({ id }: TokenEvent): Promise<void> => {
    firstTokenMs ??= performance.now() - start;
    await put(detokenizer.push(id));
  };
  const done = call(host, task, { ...task.options, onToken, signal: either } as CaptionOptions)
    .then(async (caption) => {
      await put(detokenizer.flush());
      return caption;
    })
    .finally(() => pieces.end());
  done.catch(() => undefined); // is thrown below, by whoever still reads
  try {
    for (let piece = await pieces.take(); piece !== undefined; piece = await pieces.take()) yield { piece };
    const caption = await done;
    const totalMs = performance.now() - start;
    yield { written: { caption, promptTokens: promptTokensOf(host, task), firstTokenMs, totalMs } };
  } finally {
    left.abort();
  }
}

/** One value at a time from a writer that waits until it was taken. */
function rendezvous<T>(signal: AbortSignal) {
  let ended = false;
  let held: { readonly value: T; readonly taken: () => void } | undefined;
  let wake = (): void => {};
  const end = (): void => {
    ended = true;
    held?.taken();
    wake();
  };
  signal.addEventListener('abort', end, { once: true });
  return {
    end,
    put(value: T): Promise<void> {
      if (ended) return Promise.resolve();
      return new Promise((taken) => {
        held = { value, taken };
        wake();
      });
    },
    async take(): Promise<T | undefined> {
      if (held === undefined && !ended) await new Promise<void>((resolve) => (wake = resolve));
      const now = held;
      held = undefined;
      now?.taken();
      return now?.value;
    },
  };
}

/** Requests to say what is in an image, which a captioner does without being asked. */
const DESCRIBE =
  /^\W*(please\W+)?((can|could|would) you\W+)?(please\W+)?(describe|caption|summari[sz]e|give|write|generate|create|provide|tell me (about|what))\b|^\W*(what('s| is| do you see| can you see| does))\b.{0,12}\b(in|on|of|this|see|show)\b.{0,12}\b(image|picture|photo|photograph|screenshot|it|here)?\W*$/i;

/** What a prompt is about. `raw`: as the start of the text, whatever the mode. */
export function taskOfPrompt(prompt: string, mode: string, raw = false): Pick<TextTask, 'prompt' | 'question'> {
  const text = prompt.trim();
  if (text === '') return {};
  if (raw || mode === 'continue') return { prompt: text };
  if (mode === 'caption' || (mode === 'auto' && DESCRIBE.test(text))) return {};
  return { question: text };
}

/** The text up to the first of the stop texts. */
export function cutAtStop(
  text: string,
  stops: readonly string[],
): { readonly text: string; readonly stopped: boolean } {
  const at = Math.min(...stops.map((stop) => text.indexOf(stop)).filter((at) => at >= 0));
  return Number.isFinite(at) ? { text: text.slice(0, at), stopped: true } : { text, stopped: false };
}

/** Pieces up to the first of the stop texts: what may be the beginning of one is held back until that is known. */
export async function* untilStop(
  events: AsyncGenerator<StreamEvent, void, void>,
  stops: readonly string[],
): AsyncGenerator<StreamEvent, void, void> {
  let seen = '';
  let given = 0;
  let stopped = false;
  const held = Math.max(0, ...stops.map(({ length }) => length - 1));
  for await (const event of events) {
    if ('piece' in event) {
      if (stopped) continue;
      seen += event.piece;
      const cut = cutAtStop(seen, stops);
      stopped = cut.stopped;
      const until = stopped ? cut.text.length : Math.max(given, seen.length - held);
      if (until > given) yield { piece: seen.slice(given, until) };
      given = until;
      continue;
    }
    if (!stopped && given < seen.length) yield { piece: seen.slice(given) };
    const { text } = cutAtStop(event.written.caption.text, stops);
    yield { written: { ...event.written, caption: { ...event.written.caption, text } } };
  }
}
