import assert from 'node:assert/strict';
import type { DecoderSession, VocabularyFacts } from '../../src/generation/session.js';

/** Logits of the next token as a function of image and row so far: a language model without a model. */
export type Script = (image: number, ids: readonly number[]) => Float32Array;

/** Deterministic pseudo-random logits: every prefix has its own, in [-spread, spread]; the end token gets `eosBonus` more. */
export function hashScript(vocabulary: VocabularyFacts, seed: number, spread = 3, eosBonus = 0): Script {
  return (image, ids) => {
    let h = Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(image + 1, 0x85ebca77);
    for (const id of ids) h = Math.imul(h ^ (id + 0x165667b1), 0x27d4eb2f) ^ (h >>> 13);
    return Float32Array.from({ length: vocabulary.size }, (_, id) => {
      let x = Math.imul(h ^ Math.imul(id + 1, 0xc2b2ae3d), 0x85ebca6b);
      x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
      x ^= x >>> 15;
      return ((x >>> 0) / 2 ** 31 - 1) * spread + (id === vocabulary.eosIds[0]! ? eosBonus : 0);
    });
  };
}

/** What a test wants to know of a session afterwards. */
export interface SessionLog {
  /** Calls of `step`. */
  steps: number;
  /** Rows summed over all calls of `step`. */
  rowSteps: number;
  /** Tokens summed over all calls of `step`. */
  tokens: number;
  mostRows: number;
  opened: number;
  open: number;
}

export const newLog = (): SessionLog => ({ steps: 0, rowSteps: 0, tokens: 0, mostRows: 0, opened: 0, open: 0 });

/** A session over `images` that answers from the script and fails the test when the contract is broken. */
export function scriptedSession(
  script: Script,
  images: readonly number[],
  maxLength: number,
  log = newLog(),
): DecoderSession {
  let rows = images.map((image) => ({ image, ids: [] as readonly number[] }));
  let disposed = false;
  log.opened++;
  log.open++;
  return {
    get rows() {
      return rows.length;
    },
    maxLength,
    async step(ids) {
      assert.ok(!disposed, 'step after dispose');
      assert.equal(ids.length, rows.length, 'one list of ids for each row');
      assert.ok(
        ids.every((row) => row.length > 0),
        'at least one token a row',
      );
      rows = rows.map(({ image, ids: old }, r) => ({ image, ids: [...old, ...ids[r]!] }));
      assert.ok(
        rows.every((row) => row.ids.length <= maxLength),
        'no row beyond maxLength',
      );
      log.steps++;
      log.rowSteps += rows.length;
      log.tokens += ids.flat().length;
      log.mostRows = Math.max(log.mostRows, rows.length);
      await Promise.resolve();
      return rows.map((row) => script(row.image, row.ids));
    },
    reorder(order) {
      assert.ok(!disposed, 'reorder after dispose');
      assert.ok(order.length > 0 && order.every((row) => row >= 0 && row < rows.length), 'reorder names rows');
      rows = order.map((row) => rows[row]!);
    },
    dispose() {
      if (!disposed) log.open--;
      disposed = true;
    },
  };
}

/** log-softmax in double, for oracles. */
export function logSoftmax(logits: ArrayLike<number>): number[] {
  const values = Array.from(logits);
  const max = Math.max(...values);
  const normalizer = max + Math.log(values.reduce((sum, x) => sum + Math.exp(x - max), 0));
  return values.map((x) => x - normalizer);
}

export const total = (values: readonly number[]): number => values.reduce((sum, x) => sum + x, 0);

/** Fails unless |a - b| <= atol. */
export function near(a: number, b: number, atol: number, what: string): void {
  assert.ok(Math.abs(a - b) <= atol, `${what}: ${a} is not ${b}`);
}
