import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod/mini';
import { Image2TextError } from '../errors.js';
import { type CaseKind, type Folder, notRun, type ParityCase, readCaseFile, readJsonFile } from './cases.js';
import { runForward } from './forward.js';

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
