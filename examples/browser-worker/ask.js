// Functions of the worker as functions of the page.

/** Starts the worker. `ask('caption', { … })` resolves to its answer; `onProgress` is called with the percentage loaded. */
export function startWorker(address, onProgress = () => {}) {
  const worker = new Worker(address, { type: 'module' });
  const waiting = new Map();
  let last = 0;
  worker.addEventListener('message', ({ data: { id, result, error, progress } }) => {
    if (progress !== undefined) return onProgress(progress);
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) resolve(result);
    else reject(new Error(error));
  });
  worker.addEventListener('error', ({ message }) => {
    for (const { reject } of waiting.values()) reject(new Error(message ?? 'the worker cannot be loaded'));
    waiting.clear();
  });
  return (task, given = {}) =>
    new Promise((resolve, reject) => {
      waiting.set(++last, { resolve, reject });
      worker.postMessage({ id: last, task, ...given });
    });
}
