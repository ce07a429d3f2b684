// A worker that one image kills, as one that makes a process run out of memory would. Run by queue.test.ts, several times one after the
// other: so it is what the package ships, which starts in a fraction of the time that its sources take.
import { openBull } from '../dist/queue/connection.js';
import { work } from '../dist/queue/worker.js';

const [redis, queue, poison] = process.argv.slice(2);
await work(await openBull(redis), {
  ...{ queue, lock: 0.5, maxBatch: 8, fetch: 'none', once: true, signal: new AbortController().signal },
  log: () => {},
  async readItem(item, signal) {
    const bytes = await item.read(signal);
    if (item.key === poison) process.kill(process.pid, 'SIGKILL');
    return bytes;
  },
});
process.exit(0);
