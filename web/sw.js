// Makes the page work without a network, and isolated (threads) where its host sends no headers. The build fills in VERSION and FILES.
const NAME = `page ${'VERSION'}`;
const FILES = ['FILES'];

self.addEventListener('install', () => self.skipWaiting());

/** The page asks for it when it is there: the first visit shall not wait for it. */
self.addEventListener('message', (event) => {
  if (event.data !== 'keep') return;
  event.waitUntil(
    (async () => {
      const cache = await caches.open(NAME);
      for (const path of FILES) {
        if ((await cache.match(path)) === undefined) await cache.add(new Request(path, { cache: 'no-cache' }));
      }
      await cache.put('kept', new Response());
      event.source.postMessage('kept');
    })(),
  );
});

self.addEventListener('activate', (event) => {
  event.waitUntil(
    (async () => {
      for (const name of await caches.keys()) if (name.startsWith('page ') && name !== NAME) await caches.delete(name);
      await self.clients.claim();
    })(),
  );
});

/** The response with the headers under which browsers let threads share memory. */
function isolated(response) {
  if (response.status === 0) return response;
  const headers = new Headers(response.headers);
  headers.set('Cross-Origin-Opener-Policy', 'same-origin');
  headers.set('Cross-Origin-Embedder-Policy', 'require-corp');
  headers.set('Cross-Origin-Resource-Policy', 'cross-origin');
  const { status, statusText } = response;
  return new Response(status === 204 || status === 304 ? null : response.body, { status, statusText, headers });
}

/** Bytes `start-end` of a whole response: checkpoints are read in parts. */
async function slice(response, range) {
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(range) ?? [];
  const whole = await response.blob();
  if (from === undefined || Number(from) >= whole.size) return new Response(null, { status: 416 });
  const end = Math.min(to === '' ? whole.size : Number(to) + 1, whole.size);
  const headers = new Headers(response.headers);
  headers.set('Content-Range', `bytes ${from}-${end - 1}/${whole.size}`);
  headers.set('Content-Length', String(end - Number(from)));
  return new Response(whole.slice(Number(from), end), { status: 206, headers });
}

self.addEventListener('fetch', (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== 'GET' || url.origin !== self.location.origin) return;
  event.respondWith(
    (async () => {
      const cache = await caches.open(NAME);
      const kept = await cache.match(request.mode === 'navigate' ? './' : url.pathname, { ignoreVary: true });
      const range = request.headers.get('range');
      if (kept !== undefined) return isolated(range === null ? kept : await slice(kept, range));
      const known = url.pathname.includes('/weights/demo/') && (await cache.match('kept')) !== undefined;
      if (known) return isolated(new Response(null, { status: 404 })); // the whole demo is kept: it has no such file
      const response = await fetch(request);
      const lasting = /\/assets\//.test(url.pathname) && response.status === 200;
      if (lasting) event.waitUntil(cache.put(url.pathname, response.clone()));
      return isolated(response);
    })(),
  );
});
