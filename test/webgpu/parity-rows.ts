/**
 * Reference cases on tfjs's webgpu backend with our kernels, all in one process, so that each pipeline is compiled once. Prints a line of JSON for each row.
 * `node --import tsx test/webgpu/parity-rows.ts PATTERN…`
 */
import { quietTensorflow, startBackend } from '../../src/node.js';
import { runParity } from '../../src/parity/index.js';
import { REFERENCE } from '../support/fixtures.js';

quietTensorflow();
await startBackend('webgpu');
for (const only of process.argv.slice(2)) {
  for await (const row of runParity(REFERENCE, { only })) console.log(JSON.stringify(row));
}
