import { fileURLToPath } from 'node:url';

/** The demo checkpoint that comes with the package. */
export const DEMO_MODEL = fileURLToPath(new URL('../../weights/demo', import.meta.url));
