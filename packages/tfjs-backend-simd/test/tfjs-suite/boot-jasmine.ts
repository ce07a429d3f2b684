// First in the bundle: tfjs's tests expect jasmine's functions as globals while they are loaded.

import jasmineRequire, { type JasmineEnv } from 'jasmine-core/lib/jasmine-core/jasmine.js';

const jasmine = jasmineRequire.core(jasmineRequire);
jasmine.DEFAULT_TIMEOUT_INTERVAL = 20_000; // as tfjs has it

export const env: JasmineEnv = jasmine.getEnv({ suppressLoadErrors: true });
Object.assign(globalThis, jasmineRequire.interface(jasmine, env));
