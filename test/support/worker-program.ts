/** What lifecycle.test.ts runs inside a worker: the backend with its own workers. */
import { parentPort } from 'node:worker_threads';
import * as tf from '@tensorflow/tfjs-core';
import { registerSimdBackend, setThreads } from 'tfjs-backend-simd';

registerSimdBackend();
await tf.setBackend('simd');
const threads = setThreads(3);
for (let i = 0; i < 20; i++) tf.tidy(() => tf.exp(tf.ones([300_000])).dataSync());
const total = tf.sum(tf.ones([1000]));
parentPort?.postMessage(`sum ${(await total.data())[0]} with ${threads} threads`);
