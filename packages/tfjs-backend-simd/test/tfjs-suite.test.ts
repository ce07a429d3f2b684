import assert from 'node:assert/strict';
import { readFileSync, rmSync } from 'node:fs';
import { FULL } from '../../../test/support/full.js';
import type { SimdBackendOptions } from '../src/index.js';
import { bundleProgram, type Outcome, runProgram } from './tfjs-suite/run-suite.js';

/** Specs that cannot pass, why, and what each of them must say. */
interface Exclusion {
  readonly reason: string;
  readonly message: string;
  readonly specs: readonly string[];
}

const text = (name: string) => readFileSync(new URL(name, import.meta.url), 'utf8');

const EXCLUSIONS = JSON.parse(text('tfjs-suite/exclusions.json')) as Exclusion[];

/** Where these figures are published. */
const PAGE = text('../README.md');

/** tfjs-core 4.22.0 has 4,225 specs that run in Node, 157 of which are excluded. */
const FEWEST_PASSED = 4068;

const VARIANTS: Readonly<Record<string, SimdBackendOptions>> = {
  'one thread': { threads: 1 },
  'two threads': { threads: 2 },
  'the plain binary, memory not shared': { relaxed: false, shared: false },
};

/** What is wrong with a spec that is on the list: it passes, or fails for another reason. */
function doubts(outcomes: readonly Outcome[]): string[] {
  return EXCLUSIONS.flatMap(({ message, specs }) =>
    specs.flatMap((spec) => {
      const own = outcomes.filter(({ name }) => name === spec);
      if (own.length === 0) return [`${spec}: there is no such spec`];
      const right = ({ status, messages }: Outcome) =>
        status === 'failed' && messages.length > 0 && messages.every((text) => text.includes(message));
      return own.every(right) ? [] : [`${spec}: excluded for "${message}", but ${JSON.stringify(own)}`];
    }),
  );
}

describe('tfjs-core’s own test suite on the simd backend', () => {
  if (!FULL) return; // four thousand specs for each variant
  const excluded = new Set(EXCLUSIONS.flatMap(({ specs }) => specs));
  let folder = '';
  before(async () => {
    folder = await bundleProgram('main.ts');
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  for (const [name, variant] of Object.entries(VARIANTS)) {
    it(name, async () => {
      const outcomes = await runProgram<Outcome[]>(folder, variant);
      const count = (status: string) => outcomes.filter((outcome) => outcome.status === status).length;
      const failed = outcomes.filter(({ name, status }) => status === 'failed' && !excluded.has(name));
      const run = outcomes.length - count('pending');
      const skipped = outcomes.filter(({ name }) => excluded.has(name)).length;
      console.log(
        `    ${run} specs of tfjs-core: ${count('passed')} passed, ${skipped} excluded, ${failed.length} failed`,
      );
      assert.deepEqual(failed, []);
      const inWords = (n: number) => n.toLocaleString('en-US');
      assert.match(PAGE, new RegExp(`All ${inWords(run)} of them[\\s\\S]*${inWords(count('passed'))} pass`));
      assert.deepEqual(doubts(outcomes), []);
      assert.ok(count('passed') >= FEWEST_PASSED, `only ${count('passed')} passed`);
    });
  }
});
