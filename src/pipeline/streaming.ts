import type { CaptionOptions } from '../image2text/captions.js';
import type { TokenStreamer } from '../image2text/method-options.js';
import { contradiction, wrongType } from './option-names.js';

type Streamer = TokenStreamer & { abort?(reason: unknown): void };

/**
 * Runs `write` with a streamer that is told of the end exactly once, also where the text was interrupted, and of a failure by its `abort`, if it
 * has one, as transformers.js does.
 *
 * @throws OptionError for several texts at once; what `write` throws.
 */
export async function withStreamer<T>(
  options: CaptionOptions,
  texts: number,
  write: (options: CaptionOptions) => Promise<T>,
): Promise<T> {
  const streamer: Streamer | undefined = options.streamer;
  if (streamer === undefined) return write(options);
  if (typeof streamer !== 'object' || typeof streamer.put !== 'function' || typeof streamer.end !== 'function')
    wrongType('streamer', 'an object with put and end', streamer);
  if (texts !== 1) contradiction('streamer', `it takes one text at a time, here would be ${texts}`);
  let ended = false;
  const end = (): void => {
    if (!ended) streamer.end();
    ended = true;
  };
  try {
    const result = await write({ ...options, streamer: { put: (ids) => streamer.put(ids), end } });
    end();
    return result;
  } catch (error) {
    streamer.abort?.(error);
    throw error;
  }
}
