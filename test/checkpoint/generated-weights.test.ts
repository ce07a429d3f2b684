import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { GIT_BASE_RECIPE, generatedTensor } from '../../src/checkpoint/generated-weights.js';
import { REFERENCE, readJson } from '../support/fixtures.js';
import { failure } from './support.js';

interface WeightsJson {
  readonly salt: string;
  readonly rules: [string, number, number][];
  readonly eos_bias_added_to_output_bias_102: number;
  readonly tensors: { name: string; shape: number[]; first8: number[]; sha256_f32le: string }[];
}

describe('generated weights', () => {
  const reference = readJson<WeightsJson>(`${REFERENCE}full-b16/weights.json`);

  it('have the recipe of the reference', () => {
    assert.equal(GIT_BASE_RECIPE.salt, reference.salt);
    assert.deepEqual(GIT_BASE_RECIPE.rules, reference.rules);
    assert.equal(GIT_BASE_RECIPE.add[0]!.value, reference.eos_bias_added_to_output_bias_102);
  });

  it('equal all 176 million values of the reference, by hash', async () => {
    let values = 0;
    for (const { name, shape, first8, sha256_f32le } of reference.tensors) {
      const bytes = await generatedTensor(name, shape, GIT_BASE_RECIPE).read();
      assert.deepEqual([...new Float32Array(bytes.buffer, 0, 8)], first8, name);
      assert.equal(createHash('sha256').update(bytes).digest('hex'), sha256_f32le, name);
      values += bytes.length / 4;
    }
    assert.ok(values > 176e6);
  });

  it('give the same values by parts', async () => {
    const whole = generatedTensor('output.bias', [300], GIT_BASE_RECIPE);
    const parts = [await whole.read(0, 400), await whole.read(400, 420), await whole.read(420)];
    assert.deepEqual(Buffer.concat(parts), Buffer.from(await whole.read()));
  });

  it('refuse a name without a rule', async () => {
    const error = await failure('no rule', async () => generatedTensor('x.y', [1], GIT_BASE_RECIPE));
    assert.equal(error.code, 'recipe');
  });
});
