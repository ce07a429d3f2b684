import { loadImage2Text } from 'generative-image2text/browser';

let loading;

/** Captions in the extension's service worker, which knows no `import()` and starts no worker: one file, one thread. */
chrome.runtime.onMessage.addListener(({ addresses }, _sender, reply) => {
  loading ??= loadImage2Text(chrome.runtime.getURL('model/'));
  loading
    .then((model) => model.caption(addresses))
    .then((captions) => reply({ captions: captions.map(({ text }) => text) }))
    .catch((error) => reply({ error: String(error.stack) }));
  return true; // the reply comes later
});
