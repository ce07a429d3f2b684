import { connectWorker } from 'generative-image2text/browser';

const model = connectWorker(new Worker('worker.js', { type: 'module' }));
try {
  await model.load('./model/');
  const captions = await model.caption(['image.png', 'image.webp', 'image.avif']);
  document.title = JSON.stringify({ captions: captions.map(({ text }) => text) });
} catch (error) {
  document.title = JSON.stringify({ error: String(error.stack) });
}
