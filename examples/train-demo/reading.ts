import type { Tensor, Tensor2D, Tensor3D } from '@tensorflow/tfjs-core';
import { add, dispose, gather, matMul, mean, reshape, stack, sum, tensor1d, tidy, zeros } from '@tensorflow/tfjs-core';
import {
  createAdamW,
  crossEntropyGradient,
  type Moments,
  scatterRows,
  type TrainingBatch,
} from '../../src/training/index.js';
import type { Drawing } from './scenes.js';
import { WORDS } from './scenes.js';

// Reading comes slowly from captions alone: one token in nine says whether the word was right. Two classifiers on the vision tower's features, which
// are not part of the checkpoint, tell it sooner: at a layer in the middle, which letters a patch of the print holds; at the last, how the whole word
// is spelled. That is learned from fewer words than which of them it is: each letter is in many. A third one, for videos, asks the class token of each
// frame where the object is: of left and right alone, which one token of a caption tells, that is not learned in thousands of steps.

const LETTERS = 27; // none, a to z
/** Where in a patch letters are asked for, from its left edge. */
const PLACES = [1 / 6, 3 / 6, 5 / 6];
const LONGEST = Math.max(...WORDS.map(({ length }) => length));

const letterNumber = (letter: string): number => letter.charCodeAt(0) - 96;
/** A word's letters, and none after its end. */
const spelled = (word: string): number[] =>
  Array.from({ length: LONGEST }, (_, i) => (i < word.length ? letterNumber(word[i]!) : 0));

/** What is to be read in the patches of one image that hold print. */
export interface PrintedPatches {
  readonly patches: readonly number[];
  /** The letter at each place of each patch, 0 for none. */
  readonly letters: readonly number[];
  readonly word: readonly number[];
}

/** Which patches hold print, and what. */
export function printedPatches({ lettering }: Drawing, word: string, grid: number, patch: number): PrintedPatches {
  if (lettering === undefined) return { patches: [], letters: [], word: [] };
  const { top, bottom } = lettering;
  const patches: number[] = [];
  const letters: number[] = [];
  for (let row = 0; row < grid; row++) {
    const overlap = Math.min(bottom, (row + 1) * patch) - Math.max(top, row * patch);
    if (overlap < 0.35 * Math.min(patch, bottom - top)) continue;
    for (let column = 0; column < grid; column++) {
      const found = PLACES.map((place) => {
        const x = (column + place) * patch;
        const at = lettering.letters.find(({ left, right }) => left <= x && x < right);
        return at === undefined ? 0 : letterNumber(at.letter);
      });
      if (found.every((letter) => letter === 0)) continue;
      patches.push(row * grid + column);
      letters.push(...found);
    }
  }
  return { patches, letters, word: spelled(word) };
}

/** In how many columns the middle of an object is looked for. */
const COLUMNS = 16;

/** What the classifiers of one step can be asked: `print` of images, or `places` (of the image's side) of the frames of videos. */
export type Known = { readonly print: readonly PrintedPatches[] } | { readonly places: readonly number[] };

/** The classifiers, which learn beside the model. */
export interface Classifiers {
  /** Their losses on a batch, and the gradients by the outputs of the tower's layers. Keeps their own gradients for `update`. */
  gradients(outputs: readonly Tensor3D[], batch: TrainingBatch, known: Known): Map<number, Tensor3D>;
  update(learningRate: number): void;
  /** Mean losses of a patch, or a frame, since the last report. */
  report(): Promise<Readonly<Record<string, number>>>;
  state(): { readonly parameters: ReadonlyMap<string, Tensor>; readonly moments: ReadonlyMap<string, Moments> };
  restore(steps: number, parameters: ReadonlyMap<string, Tensor>, moments: ReadonlyMap<string, Moments>): void;
}

type Kind = 'letters' | 'words' | 'places';

/** How many things each asks of a row, and among how many. */
const ASKED: Readonly<Record<Kind, readonly [things: number, classes: number]>> = {
  letters: [PLACES.length, LETTERS],
  words: [LONGEST, LETTERS],
  places: [1, COLUMNS],
};

export function createClassifiers(width: number, layers: number, kinds: readonly Kind[]): Classifiers {
  const layerOf = { letters: Math.floor(layers / 2), words: layers - 1, places: layers - 1 };
  const parameters = new Map<string, Tensor>(
    kinds.flatMap((kind) => {
      const count = ASKED[kind][0] * ASKED[kind][1];
      return [
        [`${kind}.weight`, zeros([width, count])],
        [`${kind}.bias`, zeros([count])],
      ];
    }),
  );
  const optimizer = createAdamW({ betas: [0.9, 0.98], epsilon: 1e-8 });
  let own = new Map<string, Tensor>();
  let losses = new Map<Kind, Tensor[]>(kinds.map((kind) => [kind, []]));

  function gradientOf(kind: Kind, output: Tensor3D, rows: readonly number[], labels: readonly number[]) {
    const [weight, bias] = [parameters.get(`${kind}.weight`) as Tensor2D, parameters.get(`${kind}.bias`)!];
    const [batch, tokens] = output.shape;
    const [things, classes] = ASKED[kind];
    const { dx, dWeight, dBias, loss } = tidy(() => {
      const all = reshape(output, [batch * tokens, width]) as Tensor2D;
      const index = tensor1d([...rows], 'int32');
      const x: Tensor2D = gather(all, index);
      const logits = add(matMul(x, weight), bias);
      const apart = reshape(logits, [labels.length, classes]) as Tensor2D;
      const found = crossEntropyGradient(apart, labels, 0, rows.length);
      const dLogits = reshape(found.logits, [rows.length, things * classes]) as Tensor2D;
      const dRows: Tensor2D = matMul(dLogits, weight, false, true);
      const dx = reshape(scatterRows(dRows, rows, batch * tokens), [batch, tokens, width]) as Tensor3D;
      return { dx, dWeight: matMul(x, dLogits, true, false), dBias: sum(dLogits, 0), loss: sum(found.losses) };
    });
    own.set(`${kind}.weight`, dWeight);
    own.set(`${kind}.bias`, dBias);
    losses.get(kind)!.push(loss);
    return [layerOf[kind], dx] as const;
  }

  return {
    gradients(outputs, batch, known) {
      const count = outputs[0]!.shape[1];
      if ('places' in known) {
        const rows = known.places.map((_, n) => n * count); // class tokens
        const columns = known.places.map((place) => Math.floor(place * COLUMNS));
        return new Map([gradientOf('places', outputs[layerOf.places]!, rows, columns)]);
      }
      const [rows, letters, words]: [number[], number[], number[]] = [[], [], []];
      for (const [n, image] of known.print.entries())
        for (const [i, patch] of image.patches.entries()) {
          const place = batch.patches![n]!.indexOf(patch);
          if (place < 0) continue; // left out
          rows.push(n * count + 1 + place); // after the class token
          letters.push(...image.letters.slice(i * PLACES.length, (i + 1) * PLACES.length));
          words.push(...image.word);
        }
      return new Map([
        gradientOf('letters', outputs[layerOf.letters]!, rows, letters),
        gradientOf('words', outputs[layerOf.words]!, rows, words),
      ]);
    },
    update(learningRate) {
      optimizer.update(parameters, own, 1, () => ({ learningRate, weightDecay: 0 }));
      dispose([...own.values()]);
      own = new Map();
    },
    async report() {
      const means = tidy(() => kinds.map((kind) => mean(stack(losses.get(kind)!))));
      dispose([...losses.values()].flat());
      losses = new Map(kinds.map((kind) => [kind, []]));
      const values = await Promise.all(means.map((value) => value.data()));
      dispose(means);
      return Object.fromEntries(kinds.map((kind, n) => [kind, values[n]![0]!]));
    },
    state: () => ({ parameters, moments: optimizer.moments }),
    restore(steps, saved, moments) {
      dispose([...parameters.values()]);
      for (const [name, tensor] of saved) parameters.set(name, tensor);
      optimizer.restore(steps, moments);
    },
  };
}
