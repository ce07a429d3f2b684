import { readFileSync } from 'node:fs';
import { fromDirectory } from '../../src/node.js';
import { DEMO, EXAMPLES, readJson } from '../support/fixtures.js';
import { type ProbeResult, type ProbeTask, probe } from './probe.js';

interface Expected {
  readonly pictures: readonly { file: string; greedy: { text: string; token_logprobs: number[] } }[];
}

/** What the reference says of the pictures that come with the package: PNG and JPEG. */
export const PICTURES = readJson<Expected>(`${DEMO}expected.json`).pictures.map(({ file, greedy }) => ({
  name: file.replace('examples/', ''),
  text: greedy.text,
  logProbs: greedy.token_logprobs,
}));

/** Two of them, for tests that go another way with the same numbers. */
export const FEW = PICTURES.filter(({ name }) => /^(?:black-shirt-press\.jpg|blue-mug-juice\.png)$/.test(name));

export const namesOf = (pictures: typeof PICTURES): string[] => pictures.map(({ name }) => name);
export const textsOf = (pictures: typeof PICTURES): string[] => pictures.map(({ text }) => text);

/** The same task in Node. */
export const probeInNode = async (task: ProbeTask): Promise<ProbeResult> =>
  probe(task, await fromDirectory(DEMO), async (name) => new Blob([readFileSync(`${EXAMPLES}${name}`)]));
