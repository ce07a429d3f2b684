import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { concat, dispose, type Tensor, type Tensor2D, type Tensor3D, tensor2d } from '@tensorflow/tfjs-core';
import * as z from 'zod/mini';
import { Image2TextError } from '../errors.js';
import { textMask } from '../layers/attention.js';
import { interpolatePositions } from '../layers/embeddings.js';
import { tidyTree } from '../layers/tidy.js';
import { decodeText, disposeCache, type Git, type ImageCache, type TextCache, vocabularyLogits } from '../model/git.js';
import { startSession } from '../model/git-session.js';
import {
  type CaseFile,
  type CaseKind,
  CHECKPOINT_FILE,
  type Folder,
  type Found,
  failed,
  type HostTensor,
  needTensor,
  notRun,
  type ParityCase,
  type ParityRow,
  readCaseFile,
  readJsonFile,
  readTensors,
} from './cases.js';
import { compareTensor, pickRows } from './compare.js';
import {
  type ForwardInput,
  outputNames,
  readBack,
  readForwardInput,
  readIds,
  runForward,
  tiledCache,
  toChannelsLast,
} from './forward.js';
import { runTraining } from './training-cases.js';

/**
 * The logits by which each token of generated `sequences` was chosen, [B, steps, V], with those tokens forced on a decoding session.
 * Rows go on after their end token in the reference; that part is left out.
 */
async function* runGreedyLogits(git: Git, file: CaseFile, caseName: string): AsyncGenerator<ParityRow> {
  const from = file.facts.pixel_values_from;
  const images = from === undefined ? file.tensors : await readTensors(file.folder, from);
  const pixels = toChannelsLast(needTensor({ ...file, tensors: images }, 'pixel_values'), file.name, git.config);
  const sequences = readIds(needTensor(file, 'sequences'), file.name, 'sequences', git.config.vocabSize);
  const scores = needTensor(file, 'scores');
  const ours = await forcedLogits(git, pixels, sequences, scores.shape[1] ?? 0);
  const prompt = sequences[0]!.length - (scores.shape[1] ?? 0);
  const kept = sequences.flatMap((row, b) => {
    const end = row.findIndex((id, at) => at >= prompt && git.config.eosTokenIds.includes(id));
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

/** How many tokens the first step gets; the others get one each. */
const PREFILL = 2;

/** Decoding with a growing cache, and the same tokens at once: `logits.stepwise`, `logits.full` (text rows only), `past.*` at the end. */
async function* runStepwise(git: Git, file: CaseFile, caseName: string): AsyncGenerator<ParityRow> {
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

const INPUT = 'position_embedding';

/** A position table, `position_embedding`, resized to the grids that the names `table.ROWSxCOLUMNS` give. Needs no model. */
async function* runInterpolation(file: CaseFile, caseName: string): AsyncGenerator<ParityRow> {
  const table = needTensor(file, INPUT);
  for (const name of outputNames(file).filter((name) => name !== INPUT)) {
    const [, rows, columns] = /^table\.(\d{1,3})x(\d{1,3})$/.exec(name) ?? [];
    yield rows === undefined
      ? notRun(caseName, name, 'not a table.ROWSxCOLUMNS')
      : compareTensor(caseName, name, await resized(table, Number(rows), Number(columns)), file);
  }
}

async function resized(table: HostTensor, rows: number, columns: number): Promise<HostTensor> {
  const x = tensor2d(table.values as Float32Array, table.shape as [number, number], 'float32');
  let y: Tensor2D | undefined;
  try {
    y = interpolatePositions(x, rows, columns);
    return { shape: y.shape, values: await y.data() };
  } finally {
    x.dispose();
    y?.dispose();
  }
}

const indexSchema = z.object({ cases: z.array(z.object({ case: z.string() })) });

/**
 * Tensor cases of a model: a folder with config.json, weights, and for each case NAME.safetensors with NAME.json. What a case is,
 * its tensors say. `index.json`, if there is one, names the cases that must be there.
 */
export const modelCases: CaseKind = {
  async find(folder, unclaimed) {
    if (!folder.files.includes('config.json')) return undefined;
    const index = unclaimed.includes('index.json')
      ? await readJsonFile(folder.path, 'index.json', indexSchema)
      : undefined;
    const names = unclaimed
      .filter((file) => file.endsWith('.safetensors') && !CHECKPOINT_FILE.test(file))
      .map((file) => file.slice(0, -'.safetensors'.length));
    const missing = (index?.cases ?? [])
      .map((entry) => entry.case)
      .filter((name) => !folder.files.includes(`${name}.safetensors`));
    const claims = ['index.json', ...names.flatMap((name) => [`${name}.safetensors`, `${name}.json`])];
    return {
      cases: [...names.map((name) => tensorCase(folder, name)), ...missing.map((name) => missingCase(folder, name))],
      claims,
    } satisfies Found;
  },
};

function missingCase(folder: Folder, caseName: string): ParityCase {
  const name = `${folder.label}/${caseName}`;
  return {
    name,
    async *run() {
      yield failed(name, '-', `index.json lists it, but there is no ${caseName}.safetensors`);
    },
  };
}

function tensorCase(folder: Folder, caseName: string): ParityCase {
  const name = `${folder.label}/${caseName}`;
  return {
    name,
    async *run({ models }) {
      const file = await readCaseFile(folder.path, caseName, folder.files.includes(`${caseName}.json`));
      if (file.tensors.has('position_embedding')) yield* runInterpolation(file, name);
      else {
        const run = runnerOf(file);
        if (run === undefined) yield notRun(name, '-', 'no tensors by which parity knows a case');
        else yield* run(await models.get(folder.path), file, name);
      }
    },
  };
}

type Runner = (git: Git, file: CaseFile, caseName: string) => AsyncGenerator<ParityRow>;

/** What a case is, by the tensors it has. */
function runnerOf({ tensors }: CaseFile): Runner | undefined {
  if (tensors.has('scores') && tensors.has('sequences')) return runGreedyLogits;
  if (tensors.has('labels')) return runTraining;
  if (tensors.has('logits.stepwise') || tensors.has('logits.stepwise.f64')) return runStepwise;
  return tensors.has('input_ids') ? runForward : undefined;
}

const FILE = 'checkpoints.json';

const schema = z.object({
  checkpoints: z.array(z.object({ folder: z.string(), expected: z.string() })),
  /** Tolerance of the logits. */
  atol: z.number(),
});
type Entry = z.infer<typeof schema>['checkpoints'][number];

/** The same model in several containers: `checkpoints.json` names the folders and the tensor file with inputs and expected logits. */
export const checkpointCases: CaseKind = {
  async find(folder, unclaimed) {
    if (!unclaimed.includes(FILE)) return undefined;
    const { checkpoints, atol } = await readJsonFile(folder.path, FILE, schema);
    return {
      cases: checkpoints.map((entry) => containerCase(folder, entry, atol)),
      claims: [FILE, ...checkpoints.map(({ expected }) => expected)],
    };
  },
};

function containerCase(folder: Folder, entry: Entry, atol: number): ParityCase {
  const name = `${folder.label}/${entry.folder}`;
  return {
    name,
    async *run({ models }) {
      const file = await readCaseFile(folder.path, entry.expected.replace(/\.safetensors$/, ''), false);
      const path = join(folder.path, entry.folder);
      const git = await models.get(path).catch((error: unknown) => otherFormat(path, error));
      if (typeof git === 'string') yield notRun(name, '-', git);
      else yield* runForward(git, { ...file, facts: { atol } }, name);
    },
  };
}

/** A folder whose weights are in no format that is read here is not run; one without weights is broken. */
async function otherFormat(path: string, error: unknown): Promise<string> {
  const files = await readdir(path).catch(() => []);
  const holdsOthers = files.some((file) => !file.endsWith('.json'));
  if (holdsOthers && error instanceof Image2TextError && error.code === 'no-weights') return error.message;
  throw error;
}
