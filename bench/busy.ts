/**
 * Two threads beside one while other processes keep the cores busy, by the clock and in turns.
 *
 *     node --import tsx bench/busy.ts [--others 0,1,2] [--threads 2] [--rounds 20] [--turn 100] [filter]
 *
 * For each number of busy processes and each kernel: how much faster `threads` are than one, as a ratio of all the time spent (which
 * counts every stall), as the ratio of the median turns, and in the worst tenth of the pairs of turns.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { parseArgs } from 'node:util';
import * as tf from '@tensorflow/tfjs-core';
import { registerSimdBackend, setThreads } from 'tfjs-backend-simd';
import { type Case, productCases, rowCases } from '../packages/tfjs-backend-simd/bench/cases.js';
import { decodeCases } from '../packages/tfjs-backend-simd/bench/decode-cases.js';
import { load, machine, median } from './support.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    others: { type: 'string', default: '0,1,2' },
    threads: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '20' },
    turn: { type: 'string', default: '100' },
  },
});
const [threads, rounds, turn] = [Number(values.threads), Number(values.rounds), Number(values.turn)];

/** Processes that want a core each, all the time. */
function startOthers(count: number): ChildProcess[] {
  return Array.from({ length: count }, () => spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }));
}

/** Milliseconds a call, over about `turn` milliseconds. */
function take(body: () => void): number {
  const start = performance.now();
  let [calls, now] = [0, start];
  for (; now - start < turn; calls++) {
    body();
    now = performance.now();
  }
  return (now - start) / calls;
}

async function report(others: number, one: Case): Promise<void> {
  const tensors = one.prepare('simd');
  const body = () => one.run(tensors);
  setThreads(threads);
  for (let i = 0; i < 3; i++) body();
  await new Promise((resolve) => setTimeout(resolve, 150)); // the workers start
  const [alone, together]: [number[], number[]] = [[], []];
  for (let round = 0; round < rounds; round++) {
    setThreads(1);
    alone.push(take(body));
    setThreads(threads);
    together.push(take(body));
  }
  tf.dispose(tensors);
  const sum = (list: readonly number[]) => list.reduce((a, b) => a + b, 0);
  const pairs = alone.map((time, i) => time / together[i]!).sort((a, b) => a - b);
  const cells = [sum(alone) / sum(together), median(alone) / median(together), pairs[Math.floor(rounds / 10)]!];
  const text = cells.map((ratio) => `${ratio.toFixed(2)}x`.padStart(8)).join('');
  console.log(`${others} others  ${one.name.padEnd(32)}${median(alone).toFixed(2).padStart(9)} ms${text}`);
}

registerSimdBackend({ threads });
await tf.setBackend('simd');
console.log(`${machine()}, ${load()}; ${threads} threads, ${rounds} rounds of ${turn} ms`);
console.log(`${''.padEnd(42)}one thread   total  median  worst tenth`);
for (const others of values.others.split(',').map(Number)) {
  const running = startOthers(others);
  try {
    for (const one of [...productCases, ...rowCases, ...decodeCases]) {
      if (one.name.includes(positionals[0] ?? '')) await report(others, one);
    }
  } finally {
    for (const child of running) child.kill();
  }
}
