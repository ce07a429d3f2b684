import assert from 'node:assert/strict';
import { generate } from '../../src/generation/generate.js';
import type { GenerateOptions } from '../../src/generation/options.js';
import type { VocabularyFacts } from '../../src/generation/session.js';
import { newLog, type Script, scriptedSession } from './scripted-session.js';

const BERT: VocabularyFacts = { size: 30522, bosId: 101, eosIds: [102] };
const NEW_TOKENS = 10;

/** How often `body` calls Math.exp: what most of a search's own time goes into. */
async function countExponentials(body: () => Promise<unknown>): Promise<number> {
  const { exp } = Math;
  let count = 0;
  Math.exp = (x) => {
    count++;
    return exp(x);
  };
  try {
    await body();
  } finally {
    Math.exp = exp;
  }
  return count;
}

describe('host cost of a step with the vocabulary of BERT', () => {
  const logits = Float32Array.from({ length: BERT.size }, (_, id) => 6 * Math.sin(id * 12.9898));
  logits[BERT.eosIds[0]!] = -9;
  const script: Script = (_, ids) => {
    const own = logits.slice();
    own[1000 + ids.length] = 14;
    return own;
  };

  for (const options of [
    { strategy: 'greedy' },
    { strategy: 'beam', earlyStopping: 'never' },
    { strategy: 'original' },
  ] as const) {
    it(`${options.strategy}: one exponential for each score of a row, no more`, async () => {
      const log = newLog();
      const open = () => scriptedSession(script, [0], 1024, log);
      const run = () => generate(open, BERT, { ...options, maxNewTokens: NEW_TOKENS } as GenerateOptions);
      assert.equal(await countExponentials(run), log.rowSteps * BERT.size);
      assert.ok(log.rowSteps >= NEW_TOKENS);
    });
  }
});
