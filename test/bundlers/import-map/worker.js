import { serveModel } from './browser.bundle.js'; // an import map is the page's alone

serveModel();
