import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readJson } from '../checkpoint/json.js';
import type { CaseKind, ParityCase } from './case-kind.js';
import { CHECKPOINT_FILE } from './model-cases.js';
import { notRun } from './parity-row.js';

/** Files that belong to a checkpoint, not to a case. */
const NOT_A_CASE =
  /^(config|generation_config|preprocessor_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|package|package-lock|tsconfig)\.json$/;

/** Last of the kinds: whatever has the form of a case and no kind took is named. */
export const unknownFiles: CaseKind = {
  async find(folder, unclaimed) {
    const left = unclaimed.filter(
      (file) => /\.(json|jsonl|safetensors)$/.test(file) && !NOT_A_CASE.test(file) && !CHECKPOINT_FILE.test(file),
    );
    const cases = left.map((file): ParityCase => {
      const name = `${folder.label}/${file}`;
      return {
        name,
        async *run() {
          if (file.endsWith('.json')) readJson(new Uint8Array(await readFile(join(folder.path, file))), file); // broken: a failure
          yield notRun(name, '-', 'no kind of case that parity knows');
        },
      };
    });
    return { cases, claims: left };
  },
};
