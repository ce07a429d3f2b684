// Second in the bundle: tfjs's tests ask for the environments to run in while they are loaded.

import { setTestEnvs } from '@tensorflow/tfjs-core/dist/jasmine_util.js';
import { registerSimdBackend, type SimdBackendOptions } from '../../src/index.js';

const [, , variant = '{}'] = process.argv;

registerSimdBackend(JSON.parse(variant) as SimdBackendOptions);
setTestEnvs([{ name: 'simd', backendName: 'simd', isDataSync: true }]);
