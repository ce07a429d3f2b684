import type { Tensor, Tensor3D } from '@tensorflow/tfjs-core';
import { concat, dispose } from '@tensorflow/tfjs-core';
import { textMask } from '../layers/mask.js';
import { tidyTree } from '../layers/tidy.js';
import type { Git } from '../model/git.js';
import { decodeText, vocabularyLogits } from '../model/git.js';
import type { ImageCache, TextCache } from '../model/kv-cache.js';
import { disposeCache } from '../model/kv-cache.js';
import type { CaseFile } from './case-file.js';
import type { HostTensor } from './compare.js';
import { compareTensor } from './compare.js';
import { outputNames } from './forward-case.js';
import type { ForwardInput } from './forward-input.js';
import { readForwardInput } from './forward-input.js';
import { readBack, tiledCache } from './forward-stages.js';
import type { ParityRow } from './parity-row.js';
import { notRun } from './parity-row.js';

/** How many tokens the first step gets; the others get one each. */
const PREFILL = 2;

/** Decoding with a growing cache, and the same tokens at once: `logits.stepwise`, `logits.full` (text rows only), `past.*` at the end. */
export async function* runStepwise(git: Git, file: CaseFile, caseName: string): AsyncGenerator<ParityRow> {
  const input = readForwardInput(file, git.config);
  const tokens = input.ids[0]!.length;
  const steps = [Math.min(PREFILL, tokens), ...new Array<number>(Math.max(0, tokens - PREFILL)).fill(1)];
  const stepwise = await decodeInSteps(git, input, steps);
  const full = await decodeInSteps(git, input, [tokens]);
  const ours = new Map([
    ...stepwise,
    ['logits.stepwise', stepwise.get('logits')!],
    ['logits.full', full.get('logits')!],
  ]);
  for (const name of outputNames(file)) {
    const found = ours.get(name);
    yield found === undefined
      ? notRun(caseName, name, 'decoding in steps has no stage of this name')
      : compareTensor(caseName, name, found, file);
  }
}

/** Logits of every text position, [B, T, V], and the text cache, when the text is given in pieces of these lengths. */
async function decodeInSteps(
  git: Git,
  input: ForwardInput,
  steps: readonly number[],
): Promise<Map<string, HostTensor>> {
  const image = input.pixels && tiledCache(git, input.pixels, input.ids.length);
  const pieces: Tensor3D[] = [];
  let past: TextCache = [];
  try {
    let start = 0;
    for (const length of steps) {
      const step = decodeStep(git, input, [start, start + length], image, past);
      disposeCache(past);
      past = step.text;
      pieces.push(step.logits);
      start += length;
    }
    const results = new Map<string, Tensor>([['logits', concat(pieces, 1)]]);
    for (const [layer, { key, value }] of past.entries()) {
      results.set(`past.${layer}.key`, key).set(`past.${layer}.value`, value);
    }
    past = [];
    return await readBack(results);
  } finally {
    dispose(pieces);
    disposeCache(past);
    if (image !== undefined) disposeCache(image);
  }
}

function decodeStep(
  git: Git,
  input: ForwardInput,
  [start, end]: readonly [number, number],
  image: ImageCache | undefined,
  past: TextCache,
): { readonly logits: Tensor3D; readonly text: TextCache } {
  return tidyTree(() => {
    const cut = (rows: readonly (readonly number[])[], from: number) => rows.map((row) => row.slice(from, end));
    const mask = textMask(end - start, start, input.attentionMask && cut(input.attentionMask, 0));
    const ids = cut(input.ids, start);
    const positions = input.positions && cut(input.positions, start);
    const { hidden, text } = decodeText(git, { ids, mask, ...(positions && { positions }) }, image, past);
    return { logits: vocabularyLogits(git, hidden), text };
  });
}
