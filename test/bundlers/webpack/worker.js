import { loadImage2Text } from 'generative-image2text/browser';

self.onmessage = async ({ data: addresses }) => {
  try {
    const model = await loadImage2Text(new URL('model/', addresses[0]).href);
    postMessage({ captions: (await model.caption(addresses)).map(({ text }) => text) });
  } catch (error) {
    postMessage({ error: String(error.stack) });
  }
};
