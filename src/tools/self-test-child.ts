/** The process in which `doctor` tries backends: what a broken native library does to it is all that it does. */
import { Image2TextError } from '../errors.js';
import type { NodeBackend } from '../platform/start-backend.js';
import { selfTest } from './doctor.js';

for (const name of process.argv.slice(2) as NodeBackend[]) {
  const answer = await selfTest(name).then(
    (result) => ({ name, result }),
    (error: unknown) => ({
      name,
      failure: {
        code: error instanceof Image2TextError ? error.code : 'failed',
        message: error instanceof Image2TextError ? error.detail : String(error),
      },
    }),
  );
  await new Promise((resolve) => process.send?.(answer, resolve));
}
process.exit(0); // a GPU's threads would keep it alive
