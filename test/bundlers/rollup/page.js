const worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });

worker.onmessage = ({ data }) => {
  document.title = JSON.stringify(data);
};
worker.onerror = ({ message }) => {
  document.title = JSON.stringify({ error: message });
};
worker.postMessage(['image.png', 'image.webp', 'image.avif'].map((name) => new URL(name, location.href).href));
