import { cpus } from 'node:os';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { decodeImage } from '../image/decode.js';
import { preprocess } from '../image/preprocess.js';
import type { ImageJob, PrepareImage } from '../node.js';

// Threads that read images of a run of many while the model works. This file is both what starts them and what runs in them.

type Prepared = Awaited<ReturnType<PrepareImage>>;

const ROLE = 'image2text: reads images';

/** Threads that read images. */
export interface ImageThreads {
  readonly prepareImage: PrepareImage;
  end(): Promise<void>;
}

/** A quarter of the cores, one to four: the model's own threads take the rest. */
const threadCount = (): number => Math.min(4, Math.max(1, Math.floor(cpus().length / 4)));

/**
 * Starts threads that decode and preprocess, when the first image comes. Where none starts (no such file in a program of one file), images are read in the caller's thread.
 */
export function startImageThreads(count: number = threadCount()): ImageThreads {
  const threads = Array.from({ length: count }, () => createThread());
  let next = 0;
  return {
    prepareImage: (job) => threads[next++ % count]!.run(job),
    async end() {
      await Promise.all(threads.map((thread) => thread.end()));
    },
  };
}

function createThread() {
  let worker: Worker | undefined;
  let hasEnded = false;
  let last = 0;
  const waiting = new Map<number, (prepared: Prepared) => void>();
  const start = (): Worker => {
    const made = new Worker(new URL(import.meta.url), { workerData: ROLE });
    made.on('message', ({ id, prepared }: { id: number; prepared: Prepared }) => {
      waiting.get(id)?.(prepared);
      waiting.delete(id);
    });
    const fail = (): void => {
      hasEnded = true;
      for (const settle of waiting.values()) settle(undefined);
      waiting.clear();
    };
    made.on('error', fail);
    made.on('exit', fail);
    return made;
  };
  return {
    async run(job: ImageJob): Promise<Prepared> {
      if (hasEnded) return undefined;
      worker ??= start();
      const id = ++last;
      const prepared = new Promise<Prepared>((resolve) => waiting.set(id, resolve));
      worker.postMessage({ id, job });
      return prepared;
    },
    async end() {
      hasEnded = true;
      await worker?.terminate();
    },
  };
}

async function prepare({ bytes, decoding, config, preprocessing }: ImageJob): Promise<Prepared> {
  try {
    const { warnings, ...image } = await decodeImage(bytes, decoding);
    return { pixels: preprocess([image], config, preprocessing), warnings };
  } catch {
    return undefined; // read again by the caller, whose errors have their types
  }
}

if (!isMainThread && workerData === ROLE) {
  parentPort!.on('message', async ({ id, job }: { id: number; job: ImageJob }) => {
    const prepared = await prepare(job);
    parentPort!.postMessage(
      { id, prepared },
      prepared === undefined ? [] : [prepared.pixels.data.buffer as ArrayBuffer],
    );
  });
}
