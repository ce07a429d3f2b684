import type { CaptionOptions } from 'generative-image2text';
import { EXIT, helpOf, parseCommandLine, UsageError } from './command-line.js';
import { loadHost } from './host.js';
import { Metrics } from './metrics.js';
import { generationOptions, imageOptions, modelOptions, type ServeOptions, serverOptions } from './options.js';
import { startServer } from './server.js';

/** Where a command writes, and what stops it. */
export interface Terminal {
  stdout(line: string): void;
  stderr(line: string): void;
  readonly signal: AbortSignal;
}

const MODEL = [[modelOptions, 'serve'], [imageOptions]] as const;

const HELP = (): string => `Usage: image2text serve --model <name> [options]

Serves a model over HTTP, as Ollama and OpenAI speak it, and by an API of its own that GET /docs describes.

Server:
${helpOf([[serverOptions, 'serve']])}

Model and images:
${helpOf(MODEL)}

How words are chosen, where a request does not say:
${helpOf([[generationOptions]])}

Examples:
  image2text serve --model demo
  image2text serve --model microsoft/git-base-textcaps --weights int8 --port 8080 --strategy greedy
  curl -T photo.jpg -H 'Content-Type: image/jpeg' -X POST http://127.0.0.1:11434/caption`;

/** `image2text serve`. Resolves to the exit code, when it was stopped. */
export async function serve(args: readonly string[], { stdout, stderr, signal }: Terminal): Promise<number> {
  const { options, names, help } = parseCommandLine(args, [[serverOptions, 'serve'], ...MODEL, [generationOptions]]);
  if (help) {
    stdout(HELP());
    return EXIT.done;
  }
  if (names.length > 0) throw new UsageError(`${names[0]}: serve takes options only`);
  const [server, model, images, generation] = options as [ServeOptions, { model?: string }, object, CaptionOptions];
  if (model.model === undefined) throw new UsageError('name a model: --model demo, a name on the Hub or a folder');
  const token = server.token ?? process.env['IMAGE2TEXT_TOKEN'];
  const metrics = new Metrics();
  const host = await loadHost(
    { ...model, ...images },
    () => metrics.count('image2text_mended_images_total', 'Images whose damage was mended.'),
    signal,
  );
  const log = (line: string): void => (line.startsWith('{') ? stdout(line) : stderr(`image2text: ${line}`));
  const settings: ServeOptions = { ...server, ...(token === undefined ? {} : { token }) };
  const { url, stop } = await startServer(host, { options: settings, generation, log, metrics }).catch(
    (error: unknown) => {
      host.model.dispose();
      throw error;
    },
  );
  stderr(`image2text: ${host.name} on ${url}`);
  if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
  stderr('image2text: stopping; requests that run are finished first, a second signal ends them');
  await stop();
  return EXIT.done;
}
