import assert from 'node:assert/strict';
import { memory, tidy } from '@tensorflow/tfjs-core';
import { textMask } from '../../src/layers/attention.js';
import { decodeText, vocabularyLogits } from '../../src/model/git.js';
import { type Image2Text, loadImage2Text } from '../../src/node.js';
import { useBackend } from '../support/backends.js';
import { expectClose } from '../support/close.js';
import { EXAMPLES } from '../support/fixtures.js';

const IMAGE = `${EXAMPLES}blue-mug-juice.png`;
const OTHER = `${EXAMPLES}blue-ticket-dog.png`;
const GREEDY = { strategy: 'greedy' } as const;

describe('evidence of the image', () => {
  let model: Image2Text;
  before(async () => {
    await useBackend('simd');
    model = await loadImage2Text('demo');
  });
  after(() => model.dispose());

  /** The slow way: each token by a pass of its own over the text before it. */
  async function naive(ids: readonly number[], promptLength: number): Promise<number[]> {
    const found: number[] = [];
    for (let n = promptLength; n < ids.length; n++) {
      const before = ids.slice(0, n);
      const logits = tidy(() => {
        const { hidden } = decodeText(model.git, { ids: [before], mask: textMask(n, 0) }, undefined);
        return vocabularyLogits(model.git, hidden);
      });
      const last = [...(await logits.data())].slice(-model.config.vocabSize);
      logits.dispose();
      const most = Math.max(...last);
      const sum = last.reduce((total, x) => total + Math.exp(x - most), 0);
      found.push(last[ids[n]!]! - most - Math.log(sum));
    }
    return found;
  }

  it('is the log-probability less that of the decoder alone, for captions and alternatives in one batch', async () => {
    const options = { strategy: 'beam', numBeams: 3, numReturnSequences: 3, evidence: true } as const;
    const { numTensors } = memory();
    const captions = await model.caption([IMAGE, OTHER], options);
    assert.equal(memory().numTensors, numTensors);
    for (const { tokens } of captions.flatMap((caption) => [caption, ...caption.alternatives])) {
      const without = await naive([model.tokenizer.clsId, ...tokens.map(({ id }) => id)], 1);
      expectClose(
        tokens.map(({ evidence }) => evidence!),
        tokens.map(({ logProb }, n) => logProb - without[n]!),
        2e-5,
        'evidence',
      );
    }
  });

  it('has the same bits alone and in any batch', async () => {
    const [alone] = await model.caption([IMAGE], { ...GREEDY, evidence: true });
    const [, second] = await model.caption([OTHER, IMAGE], { ...GREEDY, evidence: true, batchSize: 2 });
    assert.deepEqual(second, alone);
  });

  it('follows a question, and agrees with what explain says', async () => {
    const question = 'what color is the mug?';
    const answer = await model.answer(IMAGE, question, { ...GREEDY, evidence: true });
    const prompt = [model.tokenizer.clsId, ...model.tokenizer.encode(question, { addSpecialTokens: false })];
    const without = await naive([...prompt, ...answer.tokens.map(({ id }) => id)], prompt.length);
    expectClose(
      answer.tokens.map(({ evidence }) => evidence!),
      answer.tokens.map(({ logProb }, n) => logProb - without[n]!),
      2e-5,
      'evidence',
    );
    const { tokens } = await model.caption(IMAGE, { ...GREEDY, evidence: true });
    const explained = await model.explain(IMAGE, GREEDY);
    expectClose(
      explained.tokens.map(({ evidence }) => evidence),
      tokens.map(({ evidence }) => evidence!),
      1e-4,
      'explain',
    );
    const sum = explained.words.reduce((total, { evidence }) => total + evidence, 0);
    expectClose([sum], [explained.tokens.reduce((total, { evidence }) => total + evidence, 0)], 1e-9, 'words');
  });

  it('tells what only the image can say from what language says', async () => {
    for (const [image, seen, guessed] of [
      [IMAGE, ['juice'], ['with', 'the', 'word', 'on', 'it', '[SEP]']],
      [OTHER, ['blue', 'ticket', 'dog'], ['a', 'for', 'the', '[SEP]']],
    ] as const) {
      const { tokens } = await model.caption(image, { ...GREEDY, evidence: true });
      const of = (piece: string) => tokens.find((token) => token.piece === piece)!.evidence!;
      for (const piece of seen) assert.ok(of(piece) > 4, `${piece}: ${of(piece)}`);
      for (const piece of guessed) assert.ok(Math.abs(of(piece)) < 0.1, `${piece}: ${of(piece)}`);
    }
  });

  it('is not there unless it is asked for, and stops with its call', async () => {
    const { tokens } = await model.caption(IMAGE, GREEDY);
    assert.ok(tokens.every((token) => !('evidence' in token)));
    const { numTensors } = memory();
    const reason = new Error('stop');
    const abort = new AbortController();
    const trace = (name: string) => void (name === 'text.embeddings' && abort.abort(reason));
    const stopped = model.caption(IMAGE, { ...GREEDY, evidence: true, signal: abort.signal, trace });
    await assert.rejects(stopped, (error) => error === reason);
    assert.equal(memory().numTensors, numTensors);
    await assert.rejects(model.caption(IMAGE, { evidence: 'yes' } as never), { path: 'evidence', code: 'wrong-type' });
  });
});
