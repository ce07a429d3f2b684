/** OpenAI's chat completions, as far as a model that writes about images has them. */
import { randomUUID } from 'node:crypto';
import type { Caption, CaptionOptions } from 'generative-image2text';
import { samplingOf, stopsOf } from './ollama.js';
import { HttpError, parseObject, toHttpError } from './requests.js';
import { type Ask, ask, askStreaming, openImages, type Received, type Service, streamed } from './service.js';
import type { Written } from './writing.js';

type Body = Readonly<Record<string, unknown>>;

/** `POST /v1/chat/completions`: the last message asks, about the images that were sent last. */
export async function completions(service: Service, received: Received): Promise<Response> {
  const body = parseObject(received.body);
  refuseUnsupported(body);
  const model = typeof body['model'] === 'string' && body['model'] !== '' ? body['model'] : service.host.name;
  const { prompt, images } = contentOf(body['messages']);
  const image = await openImages(service, images, received);
  const given: Ask = { image, prompt, ...optionsOf(body) };
  const id = `chatcmpl-${randomUUID()}`;
  const created = Math.floor(Date.now() / 1000);
  if (body['stream'] !== true) {
    const written = await ask(service, given, received.signal);
    const choices = [written.caption, ...written.caption.alternatives].map((caption, index) => ({
      index,
      message: { role: 'assistant', content: cut(caption.text, given.stops), refusal: null },
      logprobs: body['logprobs'] === true ? { content: caption.tokens.map(tokenOf), refusal: null } : null,
      finish_reason: finishOf(caption),
    }));
    return Response.json({ id, object: 'chat.completion', created, model, choices, usage: usageOf(written) });
  }
  const { include_usage: withUsage } = Object(body['stream_options'] ?? {}) as Body;
  const chunk = (choices: readonly object[], usage?: object): string =>
    `data: ${JSON.stringify({
      ...{ id, object: 'chat.completion.chunk', created, model, choices },
      ...(withUsage === true ? { usage: usage ?? null } : {}),
    })}\n\n`;
  async function* lines(): AsyncGenerator<string, void, void> {
    let first = true;
    const delta = (content: string): string => {
      const role = first ? { role: 'assistant' } : {};
      first = false;
      return chunk([{ index: 0, delta: { ...role, content }, logprobs: null, finish_reason: null }]);
    };
    for await (const event of askStreaming(service, given, received.signal)) {
      if ('piece' in event) {
        yield delta(event.piece);
        continue;
      }
      if (first) yield delta('');
      yield chunk([{ index: 0, delta: {}, logprobs: null, finish_reason: finishOf(event.written.caption) }]);
      if (withUsage === true) yield chunk([], usageOf(event.written));
    }
    yield 'data: [DONE]\n\n';
  }
  return streamed(
    'text/event-stream; charset=utf-8',
    lines(),
    (error) => `data: ${JSON.stringify(failure(toHttpError(error)))}\n\n`,
  );
}

const cut = (text: string, stops: readonly string[]): string =>
  stops.reduce((left, stop) => (left.includes(stop) ? left.slice(0, left.indexOf(stop)) : left), text);

const finishOf = ({ finish }: Caption): string => (finish === 'length' ? 'length' : 'stop');

const usageOf = ({ caption, promptTokens }: Written) => {
  const completion = [caption, ...caption.alternatives].reduce((sum, { tokens }) => sum + tokens.length, 0);
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completion,
    total_tokens: promptTokens + completion,
  };
};

const tokenOf = ({ piece, logProb }: Caption['tokens'][number]) => ({
  token: piece,
  logprob: logProb,
  bytes: [...new TextEncoder().encode(piece)],
  top_logprobs: [],
});

interface Content {
  readonly prompt: string;
  readonly images: readonly (readonly [source: unknown, path: string])[];
}

function contentOf(messages: unknown): Content {
  if (!Array.isArray(messages) || messages.length === 0)
    throw new HttpError(400, 'wrong-type', 'messages: expected a list with at least one message');
  const parts = messages.map((message: unknown, n) => {
    const { role, content } = Object(message) as Body;
    const list = Array.isArray(content) ? content : [{ type: 'text', text: content ?? '' }];
    return { role, n, list: list.map((part) => Object(part) as Body) };
  });
  const asked = parts.findLast(({ role }) => role === 'user');
  const shown = parts.findLast(({ list }) => list.some(({ type }) => type === 'image_url'));
  const texts = (asked?.list ?? []).flatMap(({ type, text }) =>
    type === 'text' && typeof text === 'string' ? [text] : [],
  );
  const images = (shown?.list ?? []).flatMap((part, at) => {
    if (part['type'] !== 'image_url') return [];
    const image = part['image_url'];
    const source = typeof image === 'string' ? image : (Object(image) as Body)['url'];
    const path = `messages[${shown!.n}].content[${at}].image_url`;
    if (typeof source === 'string' && !/^(data|https?):/i.test(source))
      throw new HttpError(400, 'not-an-address', `${path}: expected a data: URL or an http address`);
    return [[source, path] as const];
  });
  return { prompt: texts.join('\n'), images };
}

/** What would be ignored although it changes what a client gets. */
function refuseUnsupported(body: Body): void {
  const refuse = (name: string, what: string): never => {
    throw new HttpError(400, 'unsupported', `${name}: ${what}`);
  };
  const isSet = (name: string): boolean => {
    const value = body[name];
    return (
      value !== undefined &&
      value !== null &&
      value !== false &&
      value !== 0 &&
      !(Array.isArray(value) && value.length === 0)
    );
  };
  if (isSet('tools') || isSet('functions')) refuse('tools', 'this model calls no tools');
  for (const name of ['frequency_penalty', 'presence_penalty', 'logit_bias', 'top_logprobs'])
    if (isSet(name) && Object.keys(Object(body[name])).length + (typeof body[name] === 'object' ? 0 : 1) > 0)
      refuse(name, 'this server does not do that');
  const { type } = Object(body['response_format'] ?? { type: 'text' }) as Body;
  if (type !== 'text') refuse('response_format', 'this model writes plain text');
  if (body['stream'] === true && isSet('n') && body['n'] !== 1) refuse('n', 'a stream is of one text');
  if (body['stream'] === true && isSet('logprobs')) refuse('logprobs', 'a stream does not have them');
}

function optionsOf(body: Body): Pick<Ask, 'options' | 'stops'> {
  const length = body['max_completion_tokens'] ?? body['max_tokens'];
  const { n, stop } = body;
  const options = {
    ...samplingOf(body),
    ...(length === undefined || length === null ? {} : { maxNewTokens: length }),
    ...(n === undefined || n === null || n === 1 ? {} : { numReturnSequences: n }),
  } as CaptionOptions;
  return { options, stops: stopsOf(stop) };
}

const modelOf = ({ host }: Service) => ({
  id: host.name,
  object: 'model',
  created: Math.floor(host.loadedAt.getTime() / 1000),
  owned_by: 'generative-image2text',
});

/** `GET /v1/models`. */
export const models = (service: Service): Response => Response.json({ object: 'list', data: [modelOf(service)] });

/** `GET /v1/models/{id}`. */
export function modelNamed(service: Service, id: string): Response {
  if (id === service.host.name) return Response.json(modelOf(service));
  throw new HttpError(404, 'model_not_found', 'there is no model of this name here');
}

export function failure({ status, code, message }: HttpError): object {
  const type = status === 401 ? 'authentication_error' : status < 500 ? 'invalid_request_error' : 'server_error';
  return { error: { message, type, param: null, code } };
}
