/** A thread of the backend as a file of the application's own. */
import { serveKernels } from 'tfjs-backend-simd/worker';

serveKernels();
