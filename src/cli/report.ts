import { Image2TextError, OptionError } from '../errors.js';

/** Exit codes of the command. */
export const EXIT = { done: 0, failed: 1, usage: 2, unsupported: 3, interrupted: 130 } as const;

/** A mistake in the command line. */
export class UsageError extends Error {}

/** True for what no other image would do better: a wrong option, a full disk, Ctrl-C. */
export const isUsage = (error: unknown): boolean => error instanceof UsageError || error instanceof OptionError;

/** What to say about a failure, a line each, and the exit code. */
export function explainError(error: unknown): { readonly code: number; readonly lines: readonly string[] } {
  if (error instanceof OptionError) return { code: EXIT.usage, lines: [optionMessage(error)] };
  if (error instanceof UsageError) return { code: EXIT.usage, lines: [error.message] };
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

/** Options whose name on the command line is not the library's. */
const FLAGS: Readonly<Record<string, string>> = {
  numBeams: '--beams',
  as: '--as',
  image: '--image',
  maxShardBytes: '--max-shard-size',
  dtype: '--dtype',
  noRepeatNgramSize: '--no-repeat-ngram',
  batchSize: '--batch',
  strategy: '--decoding',
  topK: '--top-k',
  topP: '--top-p',
  maxNewTokens: '--max-new-tokens',
  minNewTokens: '--min-new-tokens',
  minLength: '--min-length',
  numReturnSequences: '--num-return-sequences',
  earlyStopping: '--early-stopping',
  lengthPenalty: '--length-penalty',
  repetitionPenalty: '--repetition-penalty',
  keepRatio: '--keep-ratio',
  temperature: '--temperature',
  seed: '--seed',
  labels: '--labels',
};

function optionMessage({ path: place = '', code, detail, message }: OptionError): string {
  const flag = FLAGS[place];
  return flag === undefined ? message : `${flag}: ${code}: ${detail}`;
}
