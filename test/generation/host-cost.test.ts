import assert from 'node:assert/strict';
import { generate } from '../../src/generation/generate.js';
import type { GenerateOptions } from '../../src/generation/options.js';
import type { VocabularyFacts } from '../../src/generation/session.js';
import { type Script, scriptedSession } from './scripted-session.js';

const BERT: VocabularyFacts = { size: 30522, bosId: 101, eosIds: [102] };
const NEW_TOKENS = 60;

/** CPU milliseconds of `body`, all threads. */
async function cpuTime(body: () => Promise<unknown>): Promise<number> {
  const start = process.cpuUsage();
  await body();
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1000;
}

describe('host cost of a step with the vocabulary of BERT', () => {
  const logits = Float32Array.from(
    { length: BERT.size },
    (_, id) => 6 * Math.sin(id * 12.9898) + (id % 500 === 0 ? 5 : 0),
  );
  logits[BERT.eosIds[0]!] = -9;
  const script: Script = (_, ids) => {
    const own = logits.slice();
    own[1000 + ids.length] = 14;
    return own;
  };
  const measure = async (options: GenerateOptions): Promise<number> => {
    const open = () => scriptedSession(script, [0], 1024);
    const run = () => generate(open, BERT, { ...options, maxNewTokens: NEW_TOKENS } as GenerateOptions);
    await run(); // compiled after this
    const rows = options.strategy === 'greedy' ? 1 : 4;
    const scripted = await cpuTime(async () => {
      for (let i = 0; i < NEW_TOKENS * rows; i++) script(0, [i]);
    });
    return ((await cpuTime(run)) - scripted) / NEW_TOKENS / rows;
  };

  it('stays small beside a step of the model (10 ms and more)', async () => {
    const greedy = await measure({ strategy: 'greedy' });
    const beam = await measure({ strategy: 'beam', earlyStopping: 'never' });
    const original = await measure({ strategy: 'original' });
    const line = [greedy, beam, original].map((ms) => ms.toFixed(2)).join(', ');
    console.log(`      CPU ms a row and step: greedy, beam, original = ${line}`);
    assert.ok(Math.max(greedy, beam, original) < 5, line); // ten times what it takes: for slow and busy machines
  });
});
