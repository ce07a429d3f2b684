import type { Git } from '../model/git.js';
import type { CaseFile } from './case-file.js';
import { compareTensor } from './compare.js';
import type { ForwardInput } from './forward-input.js';
import { INPUT_NAMES, readForwardInput } from './forward-input.js';
import type { Stages } from './forward-stages.js';
import { forwardStages } from './forward-stages.js';
import type { ParityRow } from './parity-row.js';
import { notRun } from './parity-row.js';

/** A forward pass: every tensor of the file that is not an input, against the stage of that name. */
export async function* runForward(git: Git, file: CaseFile, caseName: string): AsyncGenerator<ParityRow> {
  const input = readForwardInput(file, git.config);
  const names = outputNames(file);
  const wantsAttention = names.some(isAttention);
  const stages = await forwardStages(git, input, false);
  const attentions = wantsAttention ? await forwardStages(git, input, true) : stages;
  for (const name of names) yield stageRow(caseName, name, isAttention(name) ? attentions : stages, input, file, git);
}

const isAttention = (name: string): boolean => name.includes('.attention.');

/** Names of what a case expects, without its inputs; a tensor and its float64 run are one. */
export function outputNames(file: CaseFile): string[] {
  const names = [...file.tensors.keys()].map((name) => name.replace(/\.f64$/, ''));
  return [...new Set(names)].filter((name) => !INPUT_NAMES.has(name)).sort();
}

function stageRow(
  caseName: string,
  name: string,
  stages: Stages,
  input: ForwardInput,
  file: CaseFile,
  git: Git,
): ParityRow {
  const stage = stages.get(name);
  if (stage === undefined) return notRun(caseName, name, 'the model has no stage of this name');
  const ours = stage();
  if (name === 'attention_allowed') {
    return compareTensor(caseName, name, ours, { ...file, facts: { ...file.facts, suggested_atol: { [name]: 0 } } });
  }
  if (name.startsWith('past.') && isCutByReference(name, input, file, git)) {
    return notRun(
      caseName,
      name,
      'transformers 4.40 cuts the cache at the configured number of image tokens: wrong here',
    );
  }
  return compareTensor(caseName, name, ours, file);
}

/** transformers 4.40 takes the configured number of image tokens off the cache, whatever the image's size or number of frames. */
function isCutByReference(name: string, input: ForwardInput, file: CaseFile, git: Git): boolean {
  if (input.pixels === undefined) return false;
  const { vision, numImageWithEmbedding } = git.config;
  const [width, height] = [input.pixels.shape.at(-2)!, input.pixels.shape.at(-3)!];
  const patches = Math.floor(height / vision.patchSize) * Math.floor(width / vision.patchSize);
  const frames = input.pixels.shape.length === 5 ? input.pixels.shape[1]! : 1;
  const configured = vision.imageTokens * Math.max(1, numImageWithEmbedding);
  const actual = (1 + patches) * frames;
  return actual !== configured && file.tensors.get(name)?.shape[2] !== input.ids[0]!.length;
}
