import assert from 'node:assert/strict';
import { ThreadPolicy } from '../src/thread-pool.js';

const KIND = 7;

describe('simd: whether to share', () => {
  it('works alone after a window that did not pay, longer each time, and together again when it does', () => {
    const policy = new ThreadPolicy();
    const pays = (now: number) => policy.allows(now, KIND);
    assert.ok(pays(0));
    policy.ranShared(30, KIND, 30, 25);
    assert.deepEqual([pays(129), pays(130)], [false, true]);
    policy.ranShared(160, KIND, 30, 25);
    assert.deepEqual([pays(359), pays(360)], [false, true]);
    policy.ranShared(380, KIND, 15, 25);
    assert.ok(pays(380));
    policy.ranShared(400, KIND, 30, 25);
    assert.deepEqual([pays(499), pays(500)], [false, true]);
  });

  it('believes what a job took alone rather than the guess', () => {
    const policy = new ThreadPolicy();
    policy.ranAlone(KIND, 20);
    policy.ranShared(30, KIND, 25, 50);
    assert.ok(!policy.allows(30, KIND), 'the guess says twice as fast, the measurement slower');
    const other = new ThreadPolicy();
    other.ranAlone(KIND, 20);
    other.ranShared(30, KIND + 1, 25, 50);
    assert.ok(other.allows(30, KIND), 'another kind has its own time');
  });

  it('follows the machine: what a job takes alone is measured again now and then', () => {
    const policy = new ThreadPolicy();
    policy.ranAlone(KIND, 10);
    let shared = 0;
    while (policy.allows(shared, KIND)) policy.ranShared(shared++, KIND, 9, 9);
    assert.equal(shared, 96);
    for (let i = 0; i < 10; i++) policy.ranAlone(KIND, 5);
    policy.ranShared(shared, KIND, 21, 21);
    assert.ok(!policy.allows(shared, KIND), 'alone is faster by now');
  });

  it('never pauses for as long as a second', () => {
    const policy = new ThreadPolicy();
    let now = 0;
    for (let i = 0; i < 20; i++) {
      policy.ranShared(now, KIND, 30, 20);
      const from = now;
      while (!policy.allows(now, KIND)) now++;
      assert.ok(now - from <= 800);
    }
    assert.ok(now > 10_000);
  });

  it('forgets kinds when there are too many', () => {
    const policy = new ThreadPolicy();
    for (let kind = 0; kind < 5000; kind++) policy.ranAlone(kind, 1);
    policy.ranShared(0, 4999, 30, 60);
    assert.ok(!policy.allows(0, 4999), 'the last ones are known');
    policy.ranShared(2000, 1, 30, 60);
    assert.ok(policy.allows(2000, 1), 'the first are guessed again');
  });
});
