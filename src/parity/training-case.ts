import type { Git } from '../model/git.js';
import { plainForward } from '../model/plain-forward.js';
import type { CaseFile } from './case-file.js';
import { needTensor } from './case-file.js';
import type { HostTensor } from './compare.js';
import { compareNumbers, compareTensor, expectationOf } from './compare.js';
import { outputNames } from './forward-case.js';
import type { ForwardInput } from './forward-input.js';
import { pixelTensor, readForwardInput } from './forward-input.js';
import type { ParityRow } from './parity-row.js';
import { notRun } from './parity-row.js';

/** Labels of this value are left out of the loss. */
const IGNORED_LABEL = -100;
/** The original's label smoothing. */
const SMOOTHING = 0.1;

/** Training before its first step: the logits of the plain pass that gradients go through, and the losses they make. */
export async function* runTraining(git: Git, file: CaseFile, caseName: string): AsyncGenerator<ParityRow> {
  const input = readForwardInput(file, git.config);
  const logits = await plainLogits(git, input);
  const labels = needTensor(file, 'labels');
  const losses: Record<string, number> = {
    loss: meanLoss(logits, labels, 0),
    loss_label_smoothing_kl: meanLoss(logits, labels, SMOOTHING),
  };
  const later = new Map<string, number>();
  for (const name of outputNames(file)) {
    const loss = losses[name];
    if (name === 'logits') yield compareTensor(caseName, name, logits, file);
    else if (loss !== undefined) yield* lossRows(caseName, name, loss, file);
    else {
      const group = name.includes('.') ? `${name.slice(0, name.indexOf('.'))}.*` : name;
      later.set(group, (later.get(group) ?? 0) + 1);
    }
  }
  for (const [group, count] of later)
    yield notRun(caseName, group, `${count} tensors of training steps: not part of parity`);
}

async function plainLogits(git: Git, input: ForwardInput): Promise<HostTensor> {
  const pixels = input.pixels && pixelTensor(input.pixels);
  const logits = plainForward(git, pixels, input.ids, input.attentionMask);
  try {
    return { shape: logits.shape, values: await logits.data() };
  } finally {
    logits.dispose();
    pixels?.dispose();
  }
}

/** The loss before the first step; what a file has of later steps needs an optimiser. */
function* lossRows(caseName: string, name: string, loss: number, file: CaseFile): Generator<ParityRow> {
  const expectation = expectationOf(name, file);
  if (expectation === undefined) {
    yield notRun(caseName, name, 'no tolerance');
    return;
  }
  const { values } = expectation.expected;
  const first = { shape: [1], values: [values[0]!] };
  yield compareNumbers(
    caseName,
    values.length > 1 ? `${name}[0]` : name,
    { shape: [1], values: [loss] },
    {
      ...expectation,
      expected: first,
    },
  );
  if (values.length > 1)
    yield notRun(caseName, `${name}[1..${values.length - 1}]`, 'after training steps: not part of parity');
}

/**
 * Mean over the labelled positions, in double: cross-entropy, or with smoothing the original's KL(q || p) with q = 1 - smoothing on the
 * label and the rest spread evenly. logits [B, I + T, V]: text row t predicts label t + 1.
 */
export function meanLoss(logits: HostTensor, labels: HostTensor, smoothing: number): number {
  const [batch, size, vocabulary] = logits.shape as [number, number, number];
  const tokens = labels.shape[1]!;
  const elsewhere = smoothing / (vocabulary - 1);
  const entropy = smoothing === 0 ? 0 : (1 - smoothing) * Math.log(1 - smoothing) + smoothing * Math.log(elsewhere);
  let sum = 0;
  let count = 0;
  for (let b = 0; b < batch; b++) {
    for (let t = 0; t + 1 < tokens; t++) {
      const label = labels.values[b * tokens + t + 1]!;
      if (label === IGNORED_LABEL) continue;
      const start = (b * size + size - tokens + t) * vocabulary;
      const { normalizer, total } = rowSums(logits.values, start, vocabulary);
      const atLabel = logits.values[start + label]! - normalizer;
      sum += entropy - (1 - smoothing) * atLabel - elsewhere * (total - vocabulary * normalizer - atLabel);
      count++;
    }
  }
  return sum / count;
}

/** log Σ exp and Σ of a row. */
function rowSums(values: ArrayLike<number>, start: number, length: number): { normalizer: number; total: number } {
  let max = Number.NEGATIVE_INFINITY;
  let total = 0;
  for (let i = start; i < start + length; i++) {
    max = Math.max(max, values[i]!);
    total += values[i]!;
  }
  let sum = 0;
  for (let i = start; i < start + length; i++) sum += Math.exp(values[i]! - max);
  return { normalizer: max + Math.log(sum), total };
}
