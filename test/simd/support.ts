/** The variants of the backend, of the package as it is built: what `tfjs-backend-simd` gives everywhere else. */
import { registerSimdBackend } from 'tfjs-backend-simd';
import { starterOf } from '../../packages/tfjs-backend-simd/test/variants.js';

export { holds, untilAllWork, VARIANTS } from '../../packages/tfjs-backend-simd/test/variants.js';

export const useVariant = starterOf(registerSimdBackend);
