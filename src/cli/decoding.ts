import type { CaptionOptions } from '../node.js';
import { UsageError } from './report.js';
import type { Format } from './results.js';

/** Options that say how words are chosen. */
export interface DecodingFlags {
  readonly decoding?: 'original' | 'greedy' | 'beam' | 'sample';
  readonly beams?: number;
  readonly lengthPenalty?: number;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly seed?: number;
  readonly maxNewTokens?: number;
  readonly minNewTokens?: number;
  readonly minLength?: number;
  readonly numReturnSequences?: number;
  readonly earlyStopping?: 'true' | 'false' | 'never';
  readonly repetitionPenalty?: number;
  /** `--no-repeat-ngram`: commander reads the `no` as a negation, and gives true where the option is not used. */
  readonly repeatNgram?: number | boolean;
}

export type Decoding = NonNullable<DecodingFlags['decoding']>;

const BEAMS: readonly Decoding[] = ['original', 'beam'];
const BEAM: readonly Decoding[] = ['beam'];
const SEVERAL: readonly Decoding[] = ['original', 'beam', 'sample'];
const SAMPLE: readonly Decoding[] = ['sample'];

const STOPPING = { true: true, false: false, never: 'never' } as const;

/** Options that only some ways of decoding have. */
const ONLY_FOR = [
  ['beams', '--beams', BEAMS],
  ['lengthPenalty', '--length-penalty', BEAMS],
  ['earlyStopping', '--early-stopping', BEAM],
  ['numReturnSequences', '--num-return-sequences', SEVERAL],
  ['temperature', '--temperature', SAMPLE],
  ['topK', '--top-k', SAMPLE],
  ['topP', '--top-p', SAMPLE],
  ['seed', '--seed', SAMPLE],
] as const;

/**
 * The library's options of what the command line says.
 *
 * @throws UsageError for an option that this way of decoding does not have.
 */
export function decodingOptions(flags: DecodingFlags, fallback: Decoding = 'original'): CaptionOptions {
  const { decoding = fallback } = flags;
  for (const [key, flag, users] of ONLY_FOR) {
    if (flags[key] === undefined || users.includes(decoding)) continue;
    throw new UsageError(`${flag} is for --decoding ${listed(users)}, this is ${decoding}`);
  }
  const given = {
    strategy: decoding,
    numBeams: flags.beams,
    lengthPenalty: flags.lengthPenalty,
    temperature: flags.temperature,
    topK: flags.topK,
    topP: flags.topP,
    seed: flags.seed,
    maxNewTokens: flags.maxNewTokens,
    minNewTokens: flags.minNewTokens,
    minLength: flags.minLength,
    numReturnSequences: flags.numReturnSequences,
    earlyStopping: flags.earlyStopping && STOPPING[flags.earlyStopping],
    repetitionPenalty: flags.repetitionPenalty,
    noRepeatNgramSize: typeof flags.repeatNgram === 'number' ? flags.repeatNgram : undefined,
  };
  return Object.fromEntries(
    Object.entries(given).filter(([, value]) => value !== undefined),
  ) as unknown as CaptionOptions;
}

const listed = (names: readonly string[]): string => new Intl.ListFormat('en-GB').format(names);

/**
 * More than one text of each image needs a format that has room for them.
 *
 * @throws UsageError
 */
export function checkAlternatives({ numReturnSequences = 1 }: DecodingFlags, format: Format): void {
  if (numReturnSequences === 1 || format === 'json' || format === 'jsonl') return;
  throw new UsageError('--num-return-sequences needs --json or --jsonl, which show the alternatives');
}

/** True where words come one after the other for good; beams change theirs until the end. */
export const canStream = (options: CaptionOptions): boolean =>
  options.strategy === 'greedy' || options.strategy === 'sample';
