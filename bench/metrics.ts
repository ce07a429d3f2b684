/** Time per 1,000 of the metrics, together and each alone, and peak memory, on a corpus of 40,000 with five references each: `node --import tsx bench/metrics.ts`. */
import {
  ANSWER_METRICS,
  bleuCounts,
  ciderScore,
  documentFrequencies,
  readReferences,
  rougeLScore,
  scoreCaptions,
  tokenizeCaption,
} from '../src/metrics/index.js';

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

/** Peak resident memory of the process so far, in MiB. */
const peak = (): number => process.resourceUsage().maxRSS / 1024;

function timed<T>(body: () => T): [result: T, seconds: number] {
  const start = performance.now();
  const result = body();
  return [result, (performance.now() - start) / 1000];
}

/** Files of lines are read a piece at a time: what is kept is the texts. */
async function* lines(count: number): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  for (let id = 0; id < count; id++)
    yield encoder.encode(`${JSON.stringify({ image_id: id, references: Array.from({ length: 5 }, caption) })}\n`);
}
const start = performance.now();
const before = peak();
const { items: read } = await readReferences(lines(40_000), 'references.jsonl');
console.log(
  `${read.length} lines of references read in ${((performance.now() - start) / 1000).toFixed(2)} s; peak ${peak().toFixed(0)} MiB, ${before.toFixed(0)} before`,
);

for (const count of [1000, 40_000]) {
  const items = Array.from({ length: count }, (_, id) => ({
    id,
    candidate: caption(),
    references: Array.from({ length: 5 }, caption),
  }));
  const before = peak();
  const [{ cider }, seconds] = timed(() => scoreCaptions(items));
  const after = peak();
  const perThousand = (s: number): string => `${((1000 * s) / (count / 1000)).toFixed(0)} ms per 1,000`;
  console.log(
    `${count} captions of 5 references: all scores ${seconds.toFixed(2)} s, ${perThousand(seconds)}; CIDEr ${cider.toFixed(4)}; peak ${after.toFixed(0)} MiB, ${before.toFixed(0)} before`,
  );
  // Each alone, on tokens.
  const [tokens, tokenizing] = timed(() =>
    items.map(({ candidate, references }) => ({
      candidate: tokenizeCaption(candidate),
      references: references.map(tokenizeCaption),
    })),
  );
  const [, bleu] = timed(() => tokens.map(({ candidate, references }) => bleuCounts(candidate, references)));
  const [, rouge] = timed(() => tokens.map(({ candidate, references }) => rougeLScore(candidate, references)));
  const [frequencies, counting] = timed(() => documentFrequencies(tokens.map(({ references }) => references)));
  const [, weighing] = timed(() =>
    tokens.map(({ candidate, references }) => ciderScore(candidate, references, frequencies)),
  );
  const split = { tokenizer: tokenizing, BLEU: bleu, 'ROUGE-L': rouge, 'CIDEr frequencies': counting, CIDEr: weighing };
  for (const [name, s] of Object.entries(split)) console.log(`  ${name.padEnd(18)} ${perThousand(s)}`);
  const answers = tokens.map(({ candidate }) => candidate.split(' ').slice(0, 3).join(' '));
  const ten = (answer: string) => Array.from({ length: 10 }, (_, i) => (i < 4 ? answer : answers[i]!));
  for (const [name, score] of Object.entries(ANSWER_METRICS)) {
    const [, s] = timed(() => answers.map((answer) => score(answer, ten(answer))));
    console.log(`  ${name.padEnd(18)} ${perThousand(s)}`);
  }
}
