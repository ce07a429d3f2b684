import { Image2TextError, OptionError } from '../errors.js';
import { generationOptions } from '../generation/options.js';
import { IMAGE_OPTIONS } from '../image/image-options.js';
import type { OptionTable } from '../options.js';

/** Exit codes of the command. */
export const EXIT = { done: 0, failed: 1, usage: 2, unsupported: 3, interrupted: 130 } as const;

/** A mistake in the command line, with more lines where there is more to list. */
export class UsageError extends Error {
  constructor(
    message: string,
    readonly more: readonly string[] = [],
  ) {
    super(message);
  }
}

/** Most lines of a list that are shown. */
const MOST_LINES = 40;

const listed = ({ message, more }: UsageError): string[] => [
  message,
  ...more.slice(0, MOST_LINES).map((line) => `  ${line}`),
  ...(more.length > MOST_LINES ? [`  and ${more.length - MOST_LINES} more`] : []),
];

/** True for what no other image would do better: a wrong option, a full disk, Ctrl-C. */
export const isUsage = (error: unknown): boolean => error instanceof UsageError || error instanceof OptionError;

/** What to say about a failure, a line each, and the exit code. */
export function explainError(error: unknown): { readonly code: number; readonly lines: readonly string[] } {
  if (error instanceof OptionError) return { code: EXIT.usage, lines: [optionMessage(error)] };
  if (error instanceof UsageError) return { code: EXIT.usage, lines: listed(error) };
  if (error instanceof Image2TextError) return { code: EXIT.failed, lines: [error.message] };
  if (!(error instanceof Error)) return internal(new Error(String(error)));
  if (error.name === 'AbortError') return { code: EXIT.interrupted, lines: [] };
  if ((error as NodeJS.ErrnoException).syscall !== undefined) return { code: EXIT.failed, lines: [error.message] };
  return internal(error);
}

/** A mistake of our own is to be reported; where it happened is shown on request only. */
function internal(error: Error): ReturnType<typeof explainError> {
  const what = `internal error, please report it: ${error.name}: ${error.message.split('\n')[0]}`;
  const where =
    process.env['IMAGE2TEXT_STACK'] === undefined
      ? ['set IMAGE2TEXT_STACK=1 to see where']
      : (error.stack ?? '').split('\n').slice(1);
  return { code: EXIT.failed, lines: [what, ...where] };
}

/** Options of the library whose flag is not in their declaration. */
const FLAGS: Readonly<Record<string, string>> = {
  as: '--as',
  image: '--image',
  maxShardBytes: '--max-shard-size',
  dtype: '--dtype',
  batchSize: '--batch',
  labels: '--labels',
  cacheDir: '--cache-dir',
  revision: '--revision',
  maxLength: '--max-new-tokens',
};

const flagOf = (option: string): string | undefined =>
  (({ ...generationOptions, ...IMAGE_OPTIONS }) as OptionTable)[option]?.flag ?? FLAGS[option];

/** The message with the flags of the command in place of the library's names. */
function optionMessage({ path = '', code, detail, message }: OptionError): string {
  const flag = flagOf(path.replace(/\[.*$/, ''));
  if (flag === undefined) return message;
  const inFlags = detail.replace(/\b[a-z]+(?:[A-Z][a-z]*)+\b/g, (name) => flagOf(name) ?? name);
  return `${flag}: ${code}: ${inFlags}`;
}
