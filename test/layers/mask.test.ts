import assert from 'node:assert/strict';
import { forbiddenScores, textMask } from '../../src/layers/attention.js';
import { useBackend } from '../support/backends.js';

describe('the text mask', () => {
  before(() => useBackend('cpu'));

  it('is absent for one token without padding', () => {
    assert.equal(textMask(1, 5), undefined);
    assert.equal(textMask(1, 1, [[1, 1]]), undefined);
  });

  it('lets a token see the past and itself', async () => {
    const mask = textMask(2, 1)!;
    const { future } = forbiddenScores();
    assert.deepEqual([...(await mask.data())], [0, 0, future, 0, 0, 0]);
    assert.deepEqual(mask.shape, [2, 3]);
    mask.dispose();
  });

  it('hides padding per row, and the future more than padding', async () => {
    const mask = textMask(2, 0, [
      [0, 1],
      [1, 1],
    ])!;
    const { padding, future } = forbiddenScores();
    assert.deepEqual([...(await mask.data())], [padding, future, padding, 0, 0, future, 0, 0]);
    assert.ok(future < padding);
    mask.dispose();
  });
});
