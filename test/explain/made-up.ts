import { type Explanation, groupWords, type TokenAttention } from '../../src/index.js';

/** Attention to 2 by 2 patches by 2 layers of 2 heads: `share` on one patch, the rest on the text. */
function tokenOn(id: number, patch: number, share: number): TokenAttention {
  const patches = new Float32Array(4);
  patches[patch] = share;
  const look = { patches, classToken: 0, text: 1 - share };
  const heads = Array.from({ length: 4 }, () => [0, ...patches]);
  return {
    ...{ id, logProb: Math.log(0.5), evidence: 1, mean: look, rollout: look },
    decoder: Float32Array.from(heads.flat()),
    toText: new Float32Array(4).fill(1 - share),
  };
}

/** An explanation by hand: three words of one token each, the last one an end token, over a gray image whose middle square was seen. */
export function madeUp(
  { width, height }: { width: number; height: number },
  pieces: readonly string[] = ['one', 'two'],
): Explanation {
  const tokens = [tokenOn(0, 0, 0.4), tokenOn(1, 1, 0.8), tokenOn(2, 3, 0.9)];
  const vocabulary = [...pieces, '[SEP]'];
  const text = pieces.join(' ');
  const image = { data: new Uint8Array(width * height * 3).fill(120), width, height };
  const seen = { left: (width - height) / 2, top: 0, width: height, height };
  return {
    ...{ text, prompt: '', tokens, layers: 2, heads: 2, grid: { frames: 1, rows: 2, columns: 2 } },
    words: groupWords(tokens, { tokenOf: (id) => vocabulary[id]!, vocabSize: 3, specialIds: new Set([2]) }, text),
    images: [{ image, seen }],
  };
}
