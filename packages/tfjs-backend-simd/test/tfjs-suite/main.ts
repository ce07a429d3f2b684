// tfjs-core's own published tests on the backend `simd`: a program of its own, bundled by run-suite.ts. Arguments: the options of
// the backend as JSON, and the file for the results.

import { writeFileSync } from 'node:fs';
import type { SpecResult } from 'jasmine-core/lib/jasmine-core/jasmine.js';
import { env } from './boot-jasmine.js';
import './set-environment.js';
import '@tensorflow/tfjs-core/dist/index.js';
import '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops.js';
import '@tensorflow/tfjs-core/dist/register_all_gradients.js';
import '@tensorflow/tfjs-core/dist/tests.js';
import type { Outcome } from './run-suite.js';

const outcomes: Outcome[] = [];

const outcomeOf = ({ fullName, status, failedExpectations }: SpecResult): Outcome => ({
  name: fullName.replace(' simd {}', ''),
  status,
  messages: failedExpectations.map(({ message }) => message.slice(0, 400)),
});

env.configure({ random: false, forbidDuplicateNames: false });
env.addReporter({
  specDone: (result) => outcomes.push(outcomeOf(result)),
  // What a suite's own hooks do wrong belongs to no spec.
  suiteDone: (result) => result.failedExpectations.length > 0 && outcomes.push(outcomeOf(result)),
});

void env.execute().then(() => {
  writeFileSync(process.argv[3]!, JSON.stringify(outcomes));
  process.exit(); // tfjs's tests leave timers behind
});
