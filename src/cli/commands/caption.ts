import type { Caption, CaptionOptions, Image2Text } from '../../node.js';
import type { Input } from '../inputs.js';
import { expandInputs } from '../inputs.js';
import type { ModelFlags } from '../model.js';
import { withModel } from '../model.js';
import { startProgress } from '../progress.js';
import { EXIT, print, report } from '../terminal.js';

export interface CaptionFlags extends ModelFlags {
  readonly decoding: 'original' | 'greedy' | 'beam' | 'sample';
  readonly beams?: number;
  readonly maxNewTokens?: number;
  readonly lengthPenalty?: number;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly seed?: number;
  readonly repetitionPenalty?: number;
  readonly repeatNgram?: number | boolean;
  readonly prompt?: string;
  readonly batch: number;
  readonly preprocessing: 'huggingface' | 'original';
  readonly ignoreOrientation?: boolean;
  readonly maxMegapixels?: number;
  readonly json?: boolean;
  readonly jsonl?: boolean;
}

/** `image2text caption`. One picture that fails is reported and the others are done; the exit code is then 1. */
export async function captionCommand(
  names: readonly string[],
  flags: CaptionFlags,
  signal: AbortSignal,
): Promise<number> {
  const inputs = await expandInputs(names);
  const options = { ...captionOptions(flags), signal };
  const loadOptions = {
    route: flags.preprocessing,
    exifOrientation: flags.ignoreOrientation !== true,
    maxPixels: flags.maxMegapixels === undefined ? undefined : flags.maxMegapixels * 1e6,
  };
  return withModel(flags, signal, loadOptions, async (model) => {
    const progress = await startProgress(inputs.length);
    const done: unknown[] = [];
    let code: number = EXIT.done;
    for (let n = 0; n < inputs.length; n += flags.batch) {
      for (const result of await captionBatch(model, inputs.slice(n, n + flags.batch), options, signal)) {
        progress.advance();
        if ('error' in result) {
          code = progress.aside(() => report(result.error));
          continue;
        }
        const line = describe(result.name, result.caption);
        if (flags.json === true) done.push(line);
        else
          await print(
            flags.jsonl === true
              ? JSON.stringify(line)
              : inputs.length === 1
                ? line.text
                : `${result.name}\t${line.text}`,
          );
      }
    }
    progress.stop();
    if (flags.json === true) await print(JSON.stringify(inputs.length === 1 ? (done[0] ?? null) : done, undefined, 2));
    return code;
  });
}

type Result = { readonly name: string } & ({ readonly caption: Caption } | { readonly error: unknown });

/** Captions of several pictures at once; where one of them fails, each alone. */
async function captionBatch(
  model: Image2Text,
  inputs: readonly Input[],
  options: CaptionOptions,
  signal: AbortSignal,
): Promise<Result[]> {
  try {
    const pictures = await Promise.all(inputs.map((input) => input.read()));
    const captions = await model.caption(pictures, { ...options, batchSize: inputs.length });
    return inputs.map(({ name }, n) => ({ name, caption: captions[n]! }));
  } catch (error) {
    signal.throwIfAborted();
    if (inputs.length === 1) return [{ name: inputs[0]!.name, error }];
    const results: Result[] = [];
    for (const input of inputs) results.push(...(await captionBatch(model, [input], options, signal)));
    return results;
  }
}

function captionOptions(flags: CaptionFlags): CaptionOptions {
  const beams = flags.decoding === 'original' || flags.decoding === 'beam';
  const given = {
    strategy: flags.decoding,
    prompt: flags.prompt,
    maxNewTokens: flags.maxNewTokens,
    repetitionPenalty: flags.repetitionPenalty,
    noRepeatNgramSize: typeof flags.repeatNgram === 'number' ? flags.repeatNgram : undefined,
    numBeams: beams ? flags.beams : undefined,
    lengthPenalty: beams ? flags.lengthPenalty : undefined,
    ...(flags.decoding === 'sample' && {
      temperature: flags.temperature,
      topK: flags.topK,
      topP: flags.topP,
      seed: flags.seed,
    }),
  };
  return Object.fromEntries(
    Object.entries(given).filter(([, value]) => value !== undefined),
  ) as unknown as CaptionOptions;
}

const describe = (file: string, { text, score, confidence, finish, tokens }: Caption) => ({
  file,
  text,
  score,
  confidence,
  finish,
  tokens,
});
