import assert from 'node:assert/strict';
import { createThreadPolicy } from '../src/thread-policy.js';

const KIND = 7;

describe('simd: whether to share', () => {
  it('works alone after a window that did not pay, longer each time, and together again when it does', () => {
    const policy = createThreadPolicy();
    const pays = (now: number) => policy.allowed(now, KIND);
    assert.ok(pays(0));
    policy.shared(30, KIND, 30, 25);
    assert.deepEqual([pays(129), pays(130)], [false, true]);
    policy.shared(160, KIND, 30, 25);
    assert.deepEqual([pays(359), pays(360)], [false, true]);
    policy.shared(380, KIND, 15, 25);
    assert.ok(pays(380));
    policy.shared(400, KIND, 30, 25);
    assert.deepEqual([pays(499), pays(500)], [false, true]);
  });

  it('believes what a job took alone rather than the guess', () => {
    const policy = createThreadPolicy();
    policy.alone(KIND, 20);
    policy.shared(30, KIND, 25, 50);
    assert.ok(!policy.allowed(30, KIND), 'the guess says twice as fast, the measurement slower');
    const other = createThreadPolicy();
    other.alone(KIND, 20);
    other.shared(30, KIND + 1, 25, 50);
    assert.ok(other.allowed(30, KIND), 'another kind has its own time');
  });

  it('follows the machine: what a job takes alone is measured again now and then', () => {
    const policy = createThreadPolicy();
    policy.alone(KIND, 10);
    let shared = 0;
    while (policy.allowed(shared, KIND)) policy.shared(shared++, KIND, 9, 9);
    assert.equal(shared, 96);
    for (let i = 0; i < 10; i++) policy.alone(KIND, 5);
    policy.shared(shared, KIND, 21, 21);
    assert.ok(!policy.allowed(shared, KIND), 'alone is faster by now');
  });

  it('never pauses for as long as a second', () => {
    const policy = createThreadPolicy();
    let now = 0;
    for (let i = 0; i < 20; i++) {
      policy.shared(now, KIND, 30, 20);
      const from = now;
      while (!policy.allowed(now, KIND)) now++;
      assert.ok(now - from <= 800);
    }
    assert.ok(now > 10_000);
  });

  it('forgets kinds when there are too many', () => {
    const policy = createThreadPolicy();
    for (let kind = 0; kind < 5000; kind++) policy.alone(kind, 1);
    policy.shared(0, 4999, 30, 60);
    assert.ok(!policy.allowed(0, 4999), 'the last ones are known');
    policy.shared(2000, 1, 30, 60);
    assert.ok(policy.allowed(2000, 1), 'the first are guessed again');
  });
});
