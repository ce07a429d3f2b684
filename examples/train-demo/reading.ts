import type { Tensor, Tensor2D, Tensor3D } from '@tensorflow/tfjs-core';
import {
  add,
  dispose,
  gather,
  matMul,
  reshape,
  scatterND,
  sum,
  tensor1d,
  tensor2d,
  tidy,
  zeros,
} from '@tensorflow/tfjs-core';
import type { Random } from '../../src/generation/generate.js';
import { createAdamW, crossEntropyGradient, type Moments } from '../../src/training/index.js';
import type { Drawing } from './scenes.js';
import { WORDS } from './scenes.js';

// Reading comes slowly from captions alone: one token in nine says whether the word was right. Two classifiers on the vision tower's features, which
// are not part of the checkpoint, tell it sooner: at a layer in the middle, which letters a patch of the print holds; at the last, which word it is of.

const LETTERS = 27; // none, a to z
/** Where in a patch letters are asked for, from its left edge. */
const PLACES = [1 / 6, 3 / 6, 5 / 6];

/** What is to be read in the patches of one image that hold print. */
export interface PrintedPatches {
  /** Token number in the tower: 1 is the first patch. */
  readonly tokens: readonly number[];
  /** The letter at each place of each patch, 0 for none. */
  readonly letters: readonly number[];
  readonly word: number;
}

/** Which patches hold print, and what. */
export function printedPatches({ lettering }: Drawing, word: string, grid: number, patch: number): PrintedPatches {
  if (lettering === undefined) return { tokens: [], letters: [], word: -1 };
  const { top, bottom } = lettering;
  const tokens: number[] = [];
  const letters: number[] = [];
  for (let row = 0; row < grid; row++) {
    const overlap = Math.min(bottom, (row + 1) * patch) - Math.max(top, row * patch);
    if (overlap < 0.35 * Math.min(patch, bottom - top)) continue;
    for (let column = 0; column < grid; column++) {
      const found = PLACES.map((place) => {
        const x = (column + place) * patch;
        const at = lettering.letters.find(({ left, right }) => left <= x && x < right);
        return at === undefined ? 0 : at.letter.charCodeAt(0) - 96;
      });
      if (found.every((letter) => letter === 0)) continue;
      tokens.push(1 + row * grid + column);
      letters.push(...found);
    }
  }
  return { tokens, letters, word: WORDS.indexOf(word) };
}

/** The classifiers, which learn beside the model. */
export interface ReadingClassifiers {
  /** Their losses on a batch, and the gradients by the outputs of the tower's layers. Keeps their own gradients for `update`. */
  gradients(outputs: readonly Tensor3D[], printed: readonly PrintedPatches[]): Map<number, Tensor3D>;
  update(learningRate: number): void;
  /** Mean losses and shares of right ones of the last batch. */
  report(): Promise<{ readonly letters: number; readonly words: number }>;
  state(): { readonly parameters: ReadonlyMap<string, Tensor>; readonly moments: ReadonlyMap<string, Moments> };
  restore(steps: number, parameters: ReadonlyMap<string, Tensor>, moments: ReadonlyMap<string, Moments>): void;
}

export function createReadingClassifiers(width: number, layers: number, random: Random): ReadingClassifiers {
  const classes = { letters: PLACES.length * LETTERS, words: WORDS.length };
  const layerOf = { letters: Math.floor(layers / 2), words: layers - 1 };
  const parameters = new Map<string, Tensor>(
    Object.entries(classes).flatMap(([name, count]) => {
      const values = Float32Array.from({ length: width * count }, () => (2 * random() - 1) / Math.sqrt(width));
      return [
        [`${name}.weight`, tensor2d(values, [width, count])],
        [`${name}.bias`, zeros([count])],
      ];
    }),
  );
  const optimizer = createAdamW({ betas: [0.9, 0.98], epsilon: 1e-8 });
  let own = new Map<string, Tensor>();
  const losses: Record<string, Tensor> = {};

  function gradientOf(name: 'letters' | 'words', output: Tensor3D, rows: readonly number[], labels: readonly number[]) {
    const [weight, bias] = [parameters.get(`${name}.weight`) as Tensor2D, parameters.get(`${name}.bias`)!];
    const [batch, tokens] = output.shape;
    const { dx, dWeight, dBias, loss } = tidy(() => {
      const all = reshape(output, [batch * tokens, width]) as Tensor2D;
      const index = tensor1d([...rows], 'int32');
      const x: Tensor2D = gather(all, index);
      const logits = add(matMul(x, weight), bias);
      const apart = reshape(logits, [labels.length, classes[name] / (labels.length / rows.length)]) as Tensor2D;
      const found = crossEntropyGradient(apart, labels, 0, labels.length);
      const dLogits = reshape(found.logits, [rows.length, classes[name]]) as Tensor2D;
      const places = tensor2d([...rows], [rows.length, 1], 'int32');
      const dRows = matMul(dLogits, weight, false, true);
      const dAll = scatterND(places, dRows, [batch * tokens, width]);
      const dx = reshape(dAll, [batch, tokens, width]) as Tensor3D;
      return { dx, dWeight: matMul(x, dLogits, true, false), dBias: sum(dLogits, 0), loss: sum(found.losses) };
    });
    own.set(`${name}.weight`, dWeight);
    own.set(`${name}.bias`, dBias);
    losses[name]?.dispose();
    losses[name] = loss;
    return dx;
  }

  return {
    gradients(outputs, printed) {
      const tokens = outputs[0]!.shape[1];
      const rows = printed.flatMap((image, n) => image.tokens.map((token) => n * tokens + token));
      const letters = printed.flatMap((image) => image.letters);
      const words = printed.flatMap((image) => image.tokens.map(() => image.word));
      return new Map([
        [layerOf.letters, gradientOf('letters', outputs[layerOf.letters]!, rows, letters)],
        [layerOf.words, gradientOf('words', outputs[layerOf.words]!, rows, words)],
      ]);
    },
    update(learningRate) {
      optimizer.update(parameters, own, 1, () => ({ learningRate, weightDecay: 0 }));
      dispose([...own.values()]);
      own = new Map();
    },
    async report() {
      const [letters, words] = await Promise.all([losses['letters']!.data(), losses['words']!.data()]);
      return { letters: letters[0]!, words: words[0]! };
    },
    state: () => ({ parameters, moments: optimizer.moments }),
    restore(steps, saved, moments) {
      dispose([...parameters.values()]);
      for (const [name, tensor] of saved) parameters.set(name, tensor);
      optimizer.restore(steps, moments);
    },
  };
}
