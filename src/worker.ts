/**
 * A ready worker: `new Worker(new URL('generative-image2text/worker', import.meta.url), { type: 'module' })`, with `connectWorker` in the page.
 *
 * @module
 */
import { serveModel } from './platform/browser.js';

serveModel(undefined, () => import('./training/index.js'));
