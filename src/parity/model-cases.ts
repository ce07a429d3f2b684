import { z } from 'zod/mini';
import type { Git } from '../model/git.js';
import type { CaseFile } from './case-file.js';
import { readCaseFile, readJsonFile } from './case-file.js';
import type { CaseKind, Found, ParityCase } from './case-kind.js';
import type { Folder } from './folders.js';
import { runForward } from './forward-case.js';
import { runGreedyLogits } from './greedy-logits-case.js';
import { runInterpolation } from './interpolation-case.js';
import type { ParityRow } from './parity-row.js';
import { failed, notRun } from './parity-row.js';
import { runStepwise } from './stepwise-case.js';
import { runTraining } from './training-cases.js';

/** Files of a checkpoint folder that are the checkpoint's own. */
export const CHECKPOINT_FILE =
  /^(model|pytorch_model)([-.].*)?\.(safetensors|bin|pt)$|^(model\.safetensors|pytorch_model\.bin)\.index\.json$|^model\.pt$/;

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
