import type { Git } from '../model/git.js';
import { startSession } from '../model/git-session.js';
import { disposeCache } from '../model/kv-cache.js';
import type { CaseFile } from './case-file.js';
import { needTensor, readTensors } from './case-file.js';
import type { HostTensor } from './compare.js';
import { compareTensor } from './compare.js';
import { readIds, toChannelsLast } from './forward-input.js';
import { tiledCache } from './forward-stages.js';
import { pickRows } from './host-tensors.js';
import type { ParityRow } from './parity-row.js';

/**
 * The logits by which each token of generated `sequences` was chosen, [B, steps, V], with those tokens forced on a decoding session.
 * Rows go on after their end token in the reference; that part is left out.
 */
export async function* runGreedyLogits(git: Git, file: CaseFile, caseName: string): AsyncGenerator<ParityRow> {
  const from = file.facts.pixel_values_from;
  const images = from === undefined ? file.tensors : await readTensors(file.folder, from);
  const pixels = toChannelsLast(needTensor({ ...file, tensors: images }, 'pixel_values'), file.name, git.config);
  const sequences = readIds(needTensor(file, 'sequences'), file.name, 'sequences', git.config.vocabSize);
  const scores = needTensor(file, 'scores');
  const ours = await forcedLogits(git, pixels, sequences, scores.shape[1] ?? 0);
  const prompt = sequences[0]!.length - (scores.shape[1] ?? 0);
  const kept = sequences.flatMap((row, b) => {
    const end = row.indexOf(git.config.eosTokenId, prompt);
    const steps = (end < 0 ? row.length - 1 : end) - prompt + 1;
    return Array.from({ length: steps }, (_, t) => [b, t] as const);
  });
  const live = new Map([...file.tensors].map(([name, x]) => [name, name.startsWith('scores') ? pickRows(x, kept) : x]));
  yield compareTensor(caseName, 'scores', pickRows(ours, kept), { ...file, tensors: live });
}

/** The logits of the last `steps` tokens, [B, steps, V], one token a step. */
async function forcedLogits(
  git: Git,
  pixels: HostTensor,
  sequences: readonly (readonly number[])[],
  steps: number,
): Promise<HostTensor> {
  const cache = tiledCache(git, pixels, sequences.length);
  const session = startSession(git, cache);
  const { vocabSize } = git.config;
  const values = new Float32Array(sequences.length * steps * vocabSize);
  try {
    const prompt = sequences[0]!.length - steps;
    for (let t = 0; t < steps; t++) {
      const ids = sequences.map((row) => (t === 0 ? row.slice(0, prompt) : [row[prompt + t - 1]!]));
      for (const [b, logits] of (await session.step(ids)).entries()) values.set(logits, (b * steps + t) * vocabSize);
    }
  } finally {
    session.dispose();
    disposeCache(cache);
  }
  return { shape: [sequences.length, steps, vocabSize], values };
}
