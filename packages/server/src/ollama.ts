/** Ollama's API (docs/api.md of ollama/ollama), as far as a model that writes about images has it. */
import type { CaptionOptions } from 'generative-image2text';
import type { ModelHost } from './host.js';
import { HttpError, parseObject, toHttpError } from './requests.js';
import {
  type Ask,
  ask,
  askStreaming,
  checkText,
  nanoseconds,
  openImages,
  type Received,
  type Service,
  streamed,
} from './service.js';
import type { Written } from './writing.js';

type Body = Readonly<Record<string, unknown>>;

const NDJSON = 'application/x-ndjson';

/** The version of Ollama's API that is spoken; clients compare it. */
export const OLLAMA_VERSION = '0.6.4';

const field = (body: Body, name: string): string => {
  const value = body[name] ?? '';
  if (typeof value !== 'string') throw new HttpError(400, 'wrong-type', `${name}: expected a text`);
  return value;
};

/** `POST /api/generate`. */
export async function generate(service: Service, received: Received): Promise<Response> {
  const body = parseObject(received.body);
  refuseUnsupported(body);
  const model = field(body, 'model') || service.host.name;
  const images = listOf(body['images'], 'images');
  const prompt = field(body, 'prompt');
  if (images.length === 0 && prompt.trim() === '') return Response.json({ ...head(model), response: '', ...LOADED });
  const image = await openImages(
    service,
    images.map((one, n) => [one, `images[${n}]`] as const),
    received,
  );
  const given = { image, prompt, raw: body['raw'] === true, ...optionsOf(body) };
  return answer(service, received, given, body, model, (response) => ({ response }));
}

/** `POST /api/chat`: the last message asks, about the images that were sent last. */
export async function chat(service: Service, received: Received): Promise<Response> {
  const body = parseObject(received.body);
  refuseUnsupported(body);
  const model = field(body, 'model') || service.host.name;
  const messages = listOf(body['messages'], 'messages').map((one) => Object(one) as Body);
  const message = (content: string) => ({ message: { role: 'assistant', content } });
  if (messages.length === 0) return Response.json({ ...head(model), ...message(''), ...LOADED });
  const asked = messages.findLastIndex(({ role }) => role === 'user');
  const shown = messages.findLastIndex(({ images }) => Array.isArray(images) && images.length > 0);
  const sources = listOf(messages[shown]?.['images'], 'images');
  const image = await openImages(
    service,
    sources.map((one, n) => [one, `messages[${shown}].images[${n}]`] as const),
    received,
  );
  const prompt = checkText(messages[asked]?.['content'] ?? '', `messages[${asked}].content`, service);
  return answer(service, received, { image, prompt, ...optionsOf(body) }, body, model, message);
}

async function answer(
  service: Service,
  { signal }: Received,
  given: Ask,
  body: Body,
  model: string,
  say: (text: string) => object,
): Promise<Response> {
  const start = performance.now();
  if (body['stream'] === false) {
    const written = await ask(service, given, signal);
    return Response.json({ ...head(model), ...say(textOf(written, given)), ...statistics(written, start) });
  }
  async function* lines(): AsyncGenerator<string, void, void> {
    for await (const event of askStreaming(service, given, signal)) {
      const rest =
        'piece' in event ? { ...say(event.piece), done: false } : { ...say(''), ...statistics(event.written, start) };
      yield `${JSON.stringify({ ...head(model), ...rest })}\n`;
    }
  }
  return streamed(NDJSON, lines(), (error) => `${JSON.stringify({ error: toHttpError(error).message })}\n`);
}

const textOf = ({ caption: { text } }: Written, { stops }: Ask): string =>
  stops.reduce((cut, stop) => (cut.includes(stop) ? cut.slice(0, cut.indexOf(stop)) : cut), text);

const head = (model: string) => ({ model, created_at: new Date().toISOString() });
const LOADED = { done: true, done_reason: 'load' };

/** Times of a part that was not seen on its own (a batch comes whole) are left out, as Ollama leaves out what it has not. */
function statistics({ caption, promptTokens, firstTokenMs, totalMs }: Written, start: number): object {
  return {
    done: true,
    done_reason: caption.finish === 'length' ? 'length' : 'stop',
    total_duration: nanoseconds(performance.now() - start),
    load_duration: 0,
    prompt_eval_count: promptTokens,
    ...(firstTokenMs === undefined ? {} : { prompt_eval_duration: nanoseconds(firstTokenMs) }),
    eval_count: caption.tokens.length,
    eval_duration: nanoseconds(totalMs - (firstTokenMs ?? 0)),
  };
}

function listOf(value: unknown, path: string): readonly unknown[] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value)) return value;
  throw new HttpError(400, 'wrong-type', `${path}: expected a list`);
}

/** What would be ignored although it changes what a client gets. */
function refuseUnsupported(body: Body): void {
  for (const [name, what] of [
    ['format', 'this model writes plain text, not JSON'],
    ['tools', 'this model calls no tools'],
    ['suffix', 'this model writes no text before another'],
  ] as const) {
    const value = body[name];
    if (value === undefined || value === null || value === '' || (Array.isArray(value) && value.length === 0)) continue;
    throw new HttpError(400, 'unsupported', `${name}: ${what}`);
  }
}

/** Ollama's options in the library's. Those of memory and hardware (num_ctx, num_gpu, …) have no meaning here. */
function optionsOf(body: Body): Pick<Ask, 'options' | 'stops'> {
  const given = Object(body['options'] ?? {}) as Body;
  const { num_predict, repeat_penalty, stop } = given;
  const length = typeof num_predict === 'number' && num_predict > 0 ? { maxNewTokens: num_predict } : {};
  const penalty = repeat_penalty === undefined ? {} : { repetitionPenalty: repeat_penalty };
  const options = { ...samplingOf(given), ...length, ...penalty } as CaptionOptions;
  return { options, stops: stopsOf(stop) };
}

/** A temperature says how to search: 0 takes the likeliest words, above it they are drawn. Without one the server's own strategy is used. */
export function samplingOf(given: Body): object {
  const { temperature, top_k: topK, top_p: topP, min_p: minP, seed } = given;
  if (temperature === undefined || temperature === null) return {};
  if (temperature === 0) return { strategy: 'greedy' };
  const own = { temperature, topK, topP, minP, seed };
  return {
    strategy: 'sample',
    ...Object.fromEntries(Object.entries(own).filter(([, value]) => value !== undefined && value !== null)),
  };
}

export function stopsOf(stop: unknown): readonly string[] {
  const list = stop === undefined || stop === null ? [] : Array.isArray(stop) ? stop : [stop];
  if (list.length <= 16 && list.every((one) => typeof one === 'string' && one !== '')) return list as string[];
  throw new HttpError(400, 'wrong-type', 'stop: expected a text or up to 16 of them');
}

const details = ({ parameters, weights }: ModelHost) => ({
  parent_model: '',
  format: 'safetensors',
  family: 'git',
  families: ['git'],
  parameter_size: `${(parameters / 1e6).toFixed(1)}M`,
  quantization_level: weights.toUpperCase(),
});

/** `GET /api/tags`: the one model there is. */
export const tags = ({ host }: Service): Response =>
  Response.json({
    models: [
      {
        name: `${host.name}:latest`,
        model: `${host.name}:latest`,
        modified_at: host.loadedAt.toISOString(),
        size: host.identity.size,
        digest: host.identity.digest,
        details: details(host),
      },
    ],
  });

/** `POST /api/show`. */
export function show(service: Service, { body }: Received): Response {
  parseObject(body);
  const { host } = service;
  const { config } = host.model;
  return Response.json({
    license: '',
    modelfile: '',
    parameters: `strategy ${service.generation.strategy ?? host.strategy}`,
    template: '{{ .Prompt }}',
    modified_at: host.loadedAt.toISOString(),
    details: details(host),
    model_info: {
      'general.architecture': 'git',
      'general.parameter_count': host.parameters,
      'git.vision.image_size': config.vision.imageSize,
      'git.vision.patch_size': config.vision.patchSize,
      'git.embedding_length': config.hiddenSize,
      'git.vocab_size': config.vocabSize,
    },
    capabilities: ['completion', 'vision'],
  });
}

export const failure = ({ message }: HttpError): object => ({ error: message });
