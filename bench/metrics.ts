/** Time per 1,000 captions of the caption metrics, on a corpus of 40,000 with five references each: `node --import tsx bench/metrics.ts`. */
import { scoreCaptions } from '../src/metrics/index.js';

const SUBJECTS = [
  'a man',
  'two women',
  'a red bus',
  'the sign',
  'some zebras',
  'a dog',
  'a plate of food',
  'an old clock',
];
const VERBS = ['stands by', 'rides', "doesn't see", 'is next to', 'looks at', 'reads', 'walks past', 'jumps over'];
const OBJECTS = [
  'a street',
  'the sea',
  'a wooden fence',
  'a bike (blue)',
  'the number 42',
  "a kid's toy",
  'a train',
  'a tower',
];

let state = 1;
const pick = (list: readonly string[]): string => {
  state = (state * 48271) % 2147483647;
  return list[state % list.length]!;
};
const caption = (): string =>
  `${pick(SUBJECTS)} ${pick(VERBS)} ${pick(OBJECTS)} and ${pick(SUBJECTS)} ${pick(VERBS)} ${pick(OBJECTS)}.`;

for (const count of [1000, 40_000]) {
  const items = Array.from({ length: count }, (_, id) => ({
    id,
    candidate: caption(),
    references: Array.from({ length: 5 }, caption),
  }));
  const start = performance.now();
  const { cider } = scoreCaptions(items);
  const seconds = (performance.now() - start) / 1000;
  const heap = process.memoryUsage().heapUsed / 2 ** 20;
  console.log(
    `${count} captions: ${seconds.toFixed(2)} s, ${((1000 * seconds) / (count / 1000)).toFixed(0)} ms per 1,000; CIDEr ${cider.toFixed(4)}, heap ${heap.toFixed(0)} MiB`,
  );
}
