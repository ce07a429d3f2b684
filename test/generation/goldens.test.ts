import assert from 'node:assert/strict';
import { generate } from '../../src/generation/generate.js';
import { padRows } from '../../src/generation/steps.js';
import type { GeneratedSequence, SessionSource } from '../../src/generation/types.js';
import { REFERENCE } from '../support/fixtures.js';
import { loadPlainGit } from '../support/plain-git.js';
import { plainPicture, plainSession } from '../support/plain-session.js';
import {
  type HuggingFaceCase,
  huggingFaceCases,
  MODELS,
  type OriginalCase,
  optionsOf,
  originalCases,
  originalOptionsOf,
  picturesOf,
  vocabularyOf,
} from './golden-cases.js';

/** Scores of the goldens are float32 sums; the reference says 1e-4. */
const ATOL = 1e-4;

/** Opens a session over the pictures of a case. `padding`: leading pad tokens of each prompt, masked for good or once. */
type OpenPictures = (images: readonly number[], padding?: readonly number[], forgets?: boolean) => SessionSource;

function plainModel(model: string): OpenPictures {
  const git = loadPlainGit(`${REFERENCE}${model}/`);
  const pictures = picturesOf(model).map((frames) => plainPicture(git, frames));
  return (images, padding, forgets) => () =>
    plainSession(
      git,
      images.map((i) => pictures[i]!),
      padding,
      forgets,
    );
}

async function checkHuggingFace(open: OpenPictures, model: string, c: HuggingFaceCase): Promise<number> {
  const padding = c.attention_mask?.map((row) => row.filter((seen) => seen === 0).length);
  const source = open(c.images, padding, padding !== undefined && c.args['use_cache'] === true);
  const rows = (await generate(source, vocabularyOf(model), optionsOf(c.args), c.input_ids)).flat();
  assert.deepEqual(padRows(rows.map((row) => row.ids), 0), c.sequences, `${model} ${c.name}`); // biome-ignore format: one line
  return scoreError(rows, c.sequences_scores ?? rows.map((row) => row.score), `${model} ${c.name}`);
}

async function checkOriginal(open: OpenPictures, c: OriginalCase): Promise<number> {
  const vocabulary = vocabularyOf(c.model);
  const prompts = c.prefix === undefined ? undefined : c.images.map((_, row) => c.prefix![row]!);
  const rows = (await generate(open(c.images), vocabulary, originalOptionsOf(c), prompts)).flat();
  const cut = c.prefix === undefined ? 0 : c.prefix[0]!.length;
  // The original fills up with end tokens: to max_steps, or (the other decoder) for as long as any beam of the batch was still open.
  const width = c.kind === 'beam' ? c.max_steps : (c.predictions[0] as readonly number[]).length;
  const matrix = padRows(rows.map((row) => row.ids), vocabulary.eosId, width).map((row) => row.slice(cut)); // biome-ignore format: one line
  const depth = c.num_keep_best === undefined ? 1 : 2;
  assert.deepEqual(matrix, depth === 1 ? c.predictions : c.predictions.flat(), `${c.model} ${c.kind} ${c.max_steps}`);
  return scoreError(rows, c.logprobs.flat(), `${c.model} ${c.kind}`);
}

function scoreError(rows: readonly GeneratedSequence[], expected: readonly number[], what: string): number {
  assert.equal(rows.length, expected.length, `${what}: number of scores`);
  const worst = Math.max(...rows.map((row, r) => Math.abs(row.score - expected[r]!)));
  assert.ok(worst <= ATOL, `${what}: a score is off by ${worst}`);
  return worst;
}

for (const model of MODELS) {
  describe(`generation goldens of ${model}, plain double-precision model`, () => {
    let open: OpenPictures;
    before(() => {
      open = plainModel(model);
    });

    it('Hugging Face: every sequence equal, scores to 1e-4', async () => {
      const errors: number[] = [];
      for (const c of huggingFaceCases(model)) errors.push(await checkHuggingFace(open, model, c));
      console.log(`      ${errors.length} cases, largest score error ${Math.max(...errors).toExponential(1)}`);
    });

    it('the original decoders: every prediction equal, scores to 1e-4', async () => {
      const cases = originalCases().filter((c) => c.model === model);
      const errors: number[] = [];
      for (const c of cases) errors.push(await checkOriginal(open, c));
      if (cases.length > 0)
        console.log(`      ${cases.length} cases, largest score error ${Math.max(...errors).toExponential(1)}`);
    });
  });
}
