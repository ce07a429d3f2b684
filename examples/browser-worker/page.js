import { startWorker } from './ask.js';

const byId = (id) => document.getElementById(id);
const status = (text) => {
  byId('status').textContent = text;
};

const ask = startWorker('worker.js', (percent) => status(`loading the model, ${percent.toFixed(0)} %`));
let busy = Promise.resolve();
let shown;

/** One image after the other; an image that was overtaken by another is not described. */
function show(image) {
  shown = image;
  URL.revokeObjectURL(byId('image').src);
  byId('image').src = URL.createObjectURL(image);
  byId('image').alt = '';
  byId('caption').textContent = '…';
  status('describing');
  busy = busy.then(() => (image === shown ? caption(image) : undefined));
}

async function caption(image) {
  const threads = Number(byId('threads').value);
  try {
    const { text, confidence, threads: used, ms } = await ask('caption', { image, threads });
    if (image !== shown) return;
    byId('caption').textContent = byId('image').alt = text;
    const by = used === 1 ? '1 thread' : `${used} threads`;
    status(`${ms.toFixed(0)} ms with ${by}, confidence ${(100 * confidence).toFixed(0)} %`);
  } catch (error) {
    if (image !== shown) return;
    byId('caption').textContent = '';
    status(error.message);
  }
}

/** The buttons of the images that come with this page. */
function addSample(address) {
  const button = document.createElement('button');
  button.title = address.slice(address.lastIndexOf('/') + 1);
  const image = document.createElement('img');
  image.src = address;
  image.alt = button.title;
  button.append(image);
  button.addEventListener('click', async () => show(await (await fetch(address)).blob()));
  byId('samples').append(button);
}

async function start() {
  const samples = await (await fetch('samples.json')).json();
  for (const address of samples) addSample(address);
  const { threads, isolated } = await ask('load', { folder: 'weights/demo' });
  byId('threads').replaceChildren(...Array.from({ length: threads }, (_, n) => new Option(n + 1, n + 1)));
  byId('threads').value = threads;
  byId('isolated').textContent = isolated ? 'cross-origin isolated' : 'not cross-origin isolated: one thread';
  byId('samples').querySelector('button').click();
  document.body.classList.add('ready');
}

byId('threads').addEventListener('change', () => show(shown));
byId('file').addEventListener('change', ({ target }) => target.files.length > 0 && show(target.files[0]));
addEventListener('dragover', (event) => event.preventDefault());
addEventListener('drop', (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file !== undefined) show(file);
});

start().catch((error) => status(error.message));
