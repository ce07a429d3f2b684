import { readFileSync } from 'node:fs';
import type { Image2Text } from '../../src/image2text/image2text.js';
import { loadImage2Text } from '../../src/image2text/load.js';
import { fromDirectory } from '../../src/platform/node-files.js';
import type { TrainingPair } from '../../src/training/index.js';
import { DEMO, EXAMPLES, readJson } from '../support/fixtures.js';

/** The demo checkpoint on the current backend. */
export const loadDemo = async (): Promise<Image2Text> => loadImage2Text(await fromDirectory(DEMO));

interface Expected {
  readonly images: readonly { readonly file: string; readonly truth: { readonly caption: string } }[];
}

/** The example images as pairs, with texts that the demo does not say of them. */
export const examplePairs = (count = 8): TrainingPair[] =>
  readJson<Expected>(`${DEMO}expected.json`)
    .images.slice(0, count)
    .map(({ file }, n) => ({
      image: new Uint8Array(readFileSync(`${EXAMPLES}${file.split('/').at(-1)}`)),
      text: n % 2 === 0 ? 'a red book' : 'a blue mug',
      source: file,
    }));

/** All numbers of tensors by name, for comparisons bit by bit. */
export async function numbersOf(
  parameters: ReadonlyMap<string, { data(): Promise<unknown> }>,
): Promise<Map<string, Uint32Array>> {
  const all = new Map<string, Uint32Array>();
  for (const [name, parameter] of parameters) {
    const values = (await parameter.data()) as Float32Array;
    all.set(name, new Uint32Array(values.slice().buffer));
  }
  return all;
}
