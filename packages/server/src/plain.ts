/** Our own API: an image and options in, the library's results out. */
import type { Caption, CaptionOptions, ImageInput } from 'generative-image2text';
import { parseValue } from './command-line.js';
import { type Declared, generationOptions } from './options.js';
import { HttpError, parseObject, toHttpError } from './requests.js';
import { checkSize, checkText, countTokens, openImages, type Received, type Service, streamed } from './service.js';
import { mergeOptions, streamText, type Written, writeText } from './writing.js';

type Fields = Readonly<Record<string, unknown>>;

/** Options that can be sent: those whose value is no function. */
export const SENT_OPTIONS: Readonly<Record<string, Declared>> = Object.fromEntries(
  Object.entries(generationOptions as Readonly<Record<string, Declared>>).filter(
    ([name, { type }]) => !['function', 'signal', 'object'].includes(type) && !/Processors|Criteria/.test(name),
  ),
);

/** What each of our own operations takes beside the image. */
export const OPERATIONS = {
  caption: { fields: { prompt: 'text' }, help: 'Says what is in an image.', generates: true },
  answer: { fields: { question: 'text' }, help: 'Answers a question about an image.', generates: true },
  classify: {
    fields: { labels: 'texts', topK: 'integer', prompt: 'text' },
    help: 'Which of the given labels fits best.',
    generates: false,
  },
  score: {
    fields: { texts: 'texts', prompt: 'text' },
    help: 'How likely each text is as the caption.',
    generates: false,
  },
} as const;
export type Operation = keyof typeof OPERATIONS;

interface Form {
  readonly image: ImageInput;
  readonly fields: Fields;
}

const QUOTED = "send the image's bytes, a form with the file as image, or JSON with image in base64";

/** The image and the fields of a request: raw bytes with fields in the address, a form, or JSON. */
async function formOf(service: Service, received: Received): Promise<Form> {
  const { request, body } = received;
  const type = (request.headers.get('content-type') ?? '').split(';')[0]!.trim().toLowerCase();
  const query = group(new URL(request.url).searchParams);
  if (type === 'application/json') {
    const { image, ...fields } = parseObject(body);
    return { image: await openImages(service, [[image, 'image']], received), fields: { ...query, ...fields } };
  }
  if (type === 'multipart/form-data') {
    const form = await new Response(body, { headers: { 'content-type': request.headers.get('content-type')! } })
      .formData()
      .catch(() => {
        throw new HttpError(400, 'broken-form', 'the form is not as multipart/form-data should be');
      });
    const file = form.get('image');
    const image =
      typeof file === 'string'
        ? await openImages(service, [[file, 'image']], received)
        : file === null
          ? undefined
          : new Uint8Array(await file.arrayBuffer());
    if (image === undefined) throw new HttpError(400, 'image-missing', QUOTED);
    const texts = [...form].filter(
      (entry): entry is [string, string] => typeof entry[1] === 'string' && entry[0] !== 'image',
    );
    return { image, fields: { ...query, ...group(texts) } };
  }
  if (body.length === 0) throw new HttpError(400, 'image-missing', QUOTED);
  return { image: body, fields: query };
}

/** Texts of an address or form; a name that comes more than once is a list. */
function group(entries: Iterable<readonly [string, string]>): Fields {
  const fields = new Map<string, string | string[]>();
  for (const [name, value] of entries) {
    const before = fields.get(name);
    fields.set(name, before === undefined ? value : [...(Array.isArray(before) ? before : [before]), value]);
  }
  return Object.fromEntries(fields);
}

/** One of our own operations. */
export async function operate(operation: Operation, service: Service, received: Received): Promise<Response> {
  const { image, fields } = await formOf(service, received);
  const own: Readonly<Record<string, string>> = OPERATIONS[operation].fields;
  const { generates } = OPERATIONS[operation];
  const options: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    if (Object.hasOwn(own, name)) continue;
    if (generates && Object.hasOwn(SENT_OPTIONS, name)) {
      options[name] = typeof value === 'string' ? parseValue(value, SENT_OPTIONS[name]!) : value;
      continue;
    }
    const known = [...Object.keys(own), ...(generates ? Object.keys(SENT_OPTIONS) : [])].join(', ');
    throw new HttpError(
      400,
      'unknown-field',
      `${JSON.stringify(name.slice(0, 60))}: /${operation} takes image, ${known}`,
    );
  }
  const text = (name: string): string | undefined =>
    fields[name] === undefined ? undefined : checkText(fields[name], name, service);
  if (operation === 'classify' || operation === 'score')
    return compare(operation, service, received, image, fields, text);
  const question = operation === 'answer' ? text('question') : undefined;
  if (operation === 'answer' && (question ?? '').trim() === '')
    throw new HttpError(400, 'question-missing', 'question: ask something');
  const merged = checkSize(
    mergeOptions(service.host, service.generation, options as CaptionOptions),
    service.settings.maxBeams,
  );
  const task = { image, options: merged, ...(question === undefined ? { prompt: text('prompt') } : { question }) };
  const { host, admission } = service;
  const { signal, request } = received;
  if (!wantsEvents(request)) return Response.json(resultOf(countTokens(service, await writeText(host, task, signal))));
  async function* lines(): AsyncGenerator<string, void, void> {
    for await (const event of admission.streaming(streamText(host, task, signal), signal)) {
      if ('piece' in event) yield sse('piece', { text: event.piece });
      else yield sse('done', resultOf(countTokens(service, event.written)));
    }
  }
  return streamed('text/event-stream; charset=utf-8', lines(), (error) => sse('error', failure(toHttpError(error))));
}

async function compare(
  operation: 'classify' | 'score',
  service: Service,
  { request, signal }: Received,
  image: ImageInput,
  fields: Fields,
  text: (name: string) => string | undefined,
): Promise<Response> {
  const { host, settings } = service;
  const name = operation === 'classify' ? 'labels' : 'texts';
  const texts = textsOf(fields[name], name, service);
  const prompt = text('prompt');
  const scope = { signal, ...(prompt === undefined ? {} : { prompt }) };
  if (texts.length > settings.maxTexts)
    throw new HttpError(400, 'too-many-texts', `${name}: ${texts.length}, at most ${settings.maxTexts}`);
  const topK = fields['topK'] === undefined ? {} : { topK: Number(fields['topK']) };
  const results =
    operation === 'classify'
      ? { labels: await host.model.classify(image, texts, { ...scope, ...topK }) }
      : { texts: await host.model.score(image, texts, scope) };
  if (!wantsEvents(request)) return Response.json(results);
  async function* lines(): AsyncGenerator<string, void, void> {
    yield sse('done', results);
  }
  return streamed('text/event-stream; charset=utf-8', lines(), String);
}

/** A list in JSON or repeated fields, or one text with a label on each line, or with commas between them. */
function textsOf(value: unknown, name: string, service: Service): string[] {
  const list = typeof value === 'string' ? value.split(/\r?\n|,/).map((one) => one.trim()) : value;
  if (!Array.isArray(list)) throw new HttpError(400, 'wrong-type', `${name}: expected a list of texts`);
  return list.filter((one) => one !== '').map((one, n) => checkText(one, `${name}[${n}]`, service));
}

const wantsEvents = (request: Request): boolean => /\btext\/event-stream\b/i.test(request.headers.get('accept') ?? '');

const sse = (event: string, data: object): string => `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;

const captionOf = ({ text, score, logProb, confidence, finish, tokens }: Caption): object => ({
  ...{ text, score, logProb, confidence, finish, tokens },
});

const resultOf = ({ caption }: Written): object => ({
  ...('question' in caption ? { question: caption.question } : {}),
  ...captionOf(caption),
  ...(caption.alternatives.length === 0 ? {} : { alternatives: caption.alternatives.map(captionOf) }),
});

export const failure = ({ code, message }: HttpError): object => ({ error: { code, message } });
