import { readFileSync } from 'node:fs';
import { fromDirectory } from '../../src/node.js';
import { DEMO, EXAMPLES, readJson } from '../support/fixtures.js';
import { type ProbeResult, type ProbeTask, probe } from './probe.js';

interface Expected {
  readonly images: readonly { file: string; greedy: { text: string; token_logprobs: number[] } }[];
}

/** What the reference says of the images that come with the package: PNG and JPEG. */
export const IMAGES = readJson<Expected>(`${DEMO}expected.json`).images.map(({ file, greedy }) => ({
  name: file.replace('examples/', ''),
  text: greedy.text,
  logProbs: greedy.token_logprobs,
}));

/** Two of them, for tests that go another way with the same numbers. */
export const FEW = IMAGES.filter(({ name }) => /^(?:black-shirt-press\.jpg|blue-mug-juice\.png)$/.test(name));

export const namesOf = (images: typeof IMAGES): string[] => images.map(({ name }) => name);
export const textsOf = (images: typeof IMAGES): string[] => images.map(({ text }) => text);

/** The same task in Node. */
export const probeInNode = async (task: ProbeTask): Promise<ProbeResult> =>
  probe(task, await fromDirectory(DEMO), async (name) => new Blob([readFileSync(`${EXAMPLES}${name}`)]));
