import { serveModel } from 'generative-image2text/browser';

serveModel(); // the same as generative-image2text/worker, for a bundler that has no bare names in new URL(…)
