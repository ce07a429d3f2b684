import { connectWorker } from 'generative-image2text/browser';

const model = connectWorker(new Worker('worker.js', { type: 'module' }));
const loading = model.load('./weights/demo/');
const byId = (id) => document.getElementById(id);
let stop = new AbortController();

/** Describes an image; one that it overtakes is stopped. */
async function show(image) {
  stop.abort();
  stop = new AbortController();
  const { signal } = stop;
  URL.revokeObjectURL(byId('image').src);
  byId('image').src = URL.createObjectURL(image);
  byId('caption').textContent = byId('image').alt = '';
  byId('status').textContent = 'describing';
  try {
    await loading;
    const start = performance.now();
    for await (const piece of model.stream(image, { signal })) byId('caption').textContent += piece;
    byId('image').alt = byId('caption').textContent;
    byId('status').textContent = `${(performance.now() - start).toFixed(0)} ms`;
  } catch (error) {
    if (!signal.aborted) byId('status').textContent = error.message;
  }
}

for (const address of await (await fetch('samples.json')).json()) {
  const image = Object.assign(new Image(), { src: address, alt: address.slice(address.lastIndexOf('/') + 1) });
  const button = Object.assign(document.createElement('button'), { title: image.alt });
  button.append(image);
  button.addEventListener('click', async () => show(await (await fetch(address)).blob()));
  byId('samples').append(button);
}
byId('file').addEventListener('change', ({ target }) => target.files.length > 0 && show(target.files[0]));
byId('isolated').textContent = crossOriginIsolated ? 'cross-origin isolated' : 'not cross-origin isolated: one thread';
byId('samples').querySelector('button').click();
