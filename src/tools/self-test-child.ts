/** The process in which `doctor` tries one backend: what a broken native library does to it is all that it does. */
import { Image2TextError } from '../errors.js';
import type { NodeBackend } from '../platform/start-backend.js';
import { selfTest } from './doctor.js';

const name = process.argv[2] as NodeBackend;
const answer = await selfTest(name).then(
  (result) => ({ result }),
  (error: unknown) => ({
    failure: {
      code: error instanceof Image2TextError ? error.code : 'failed',
      message: error instanceof Image2TextError ? error.detail : String(error),
    },
  }),
);
process.send?.(answer, () => process.exit(0)); // a GPU's threads would keep it alive
