import assert from 'node:assert/strict';
import fc from 'fast-check';
import { generate } from '../../src/generation/generate.js';
import {
  buildTrie,
  childrenOf,
  constrainedGreedy,
  goesOn,
  groupsOf,
  rankNames,
  rootOf,
  scoreSequences,
  type Trie,
  type TrieNode,
} from '../../src/generation/score.js';
import type { VocabularyFacts } from '../../src/generation/session.js';
import { hashScript, logSoftmax, near, newLog, type Script, scriptedSession, total } from './scripted-session.js';

const SMALL: VocabularyFacts = { size: 9, bosId: 1, eosIds: [2] };
const script = hashScript(SMALL, 8);
const lists = fc.array(fc.array(fc.integer({ min: 3, max: 6 }), { minLength: 1, maxLength: 5 }), {
  minLength: 1,
  maxLength: 25,
});

/** All prefixes that a walk of the trie meets, with the caller's indices of the sequences below each. */
function prefixes(trie: Trie, node: TrieNode, path: readonly number[] = []): Map<string, number[]> {
  const found = new Map([[path.join(), trie.order.slice(node.from, node.to).sort((a, b) => a - b)]]);
  for (const child of childrenOf(trie, node)) {
    for (const [key, indices] of prefixes(trie, child.node, [...path, child.id])) found.set(key, indices);
  }
  return found;
}

describe('trie', () => {
  it('has exactly the prefixes of the sequences, each with the sequences that share it', () => {
    fc.assert(
      fc.property(lists, (sequences) => {
        const expected = new Map<string, number[]>();
        sequences.forEach((sequence, path) => {
          for (let n = 0; n <= sequence.length; n++) {
            const key = sequence.slice(0, n).join();
            expected.set(key, [...(expected.get(key) ?? []), path]);
          }
        });
        const trie = buildTrie(sequences);
        assert.deepEqual(new Map([...prefixes(trie, rootOf(trie))].sort()), new Map([...expected].sort()));
      }),
      { seed: 1, numRuns: 300 },
    );
  });

  it('groups cover everything, in order, and no level of a group is wider than asked', () => {
    fc.assert(
      fc.property(lists, fc.integer({ min: 1, max: 6 }), (sequences, most) => {
        const trie = buildTrie(sequences);
        const groups = groupsOf(trie, most);
        assert.deepEqual(
          [0, ...groups.map((group) => group.to)],
          [...groups.map((group) => group.from), sequences.length],
        );
        for (const group of groups) {
          for (let level = [group]; level.length > 0; ) {
            level = level
              .flatMap((node) => childrenOf(trie, node).map((child) => child.node))
              .filter((node) => goesOn(trie, node));
            assert.ok(level.length <= most, `${level.length} nodes at once`);
          }
        }
      }),
      { seed: 2, numRuns: 300 },
    );
  });
});

/** Log-probabilities of a sequence by definition: one full evaluation for each token. */
const naiveScore = (s: Script, image: number, prompt: readonly number[], ids: readonly number[]): number[] =>
  ids.map((id, i) => logSoftmax(s(image, [...prompt, ...ids.slice(0, i)]))[id]!);

describe('scoring', () => {
  it('equals the definition, for any sequences and any number of rows', async () => {
    await fc.assert(
      fc.asyncProperty(lists, fc.integer({ min: 1, max: 8 }), async (sequences, maxRows) => {
        const log = newLog();
        const scores = await scoreSequences(() => scriptedSession(script, [4], 20, log), SMALL, [1, 7], sequences, {
          maxRows,
        });
        sequences.forEach((ids, i) => {
          const expected = naiveScore(script, 4, [1, 7], ids);
          assert.equal(scores[i]!.tokenLogProbs.length, ids.length);
          for (const [t, x] of scores[i]!.tokenLogProbs.entries()) near(x, expected[t]!, 1e-6, `token ${t}`);
          near(scores[i]!.logProb, total(expected), 1e-5, 'sum');
        });
        assert.ok(log.mostRows <= maxRows && log.open === 0);
      }),
      { seed: 3, numRuns: 150 },
    );
  });

  it('generated rows score what generation said', async () => {
    const open = () => scriptedSession(script, [0], 20);
    const [rows] = await generate(open, SMALL, { strategy: 'beam', numReturnSequences: 4, maxLength: 12 });
    const scores = await scoreSequences(
      open,
      SMALL,
      [1],
      rows!.map((row) => row.newIds),
    );
    rows!.forEach((row, i) => {
      near(scores[i]!.logProb, row.logProb, 1e-5, 'log-likelihood');
    });
  });

  it('abort, NaN and wrong arguments: typed, nothing left open', async () => {
    const log = newLog();
    const sequences = Array.from({ length: 60 }, (_, i) => [3 + (i % 4), 3 + ((i >> 2) % 4), 3 + ((i >> 4) % 4)]);
    for (let at = 0; at < 8; at++) {
      const control = new AbortController();
      const s: Script = (image, ids) => {
        if (log.steps % 8 === at) control.abort(new Error('enough'));
        return script(image, ids);
      };
      const options = { maxRows: 3, signal: control.signal };
      await assert.rejects(
        scoreSequences(() => scriptedSession(s, [0], 20, log), SMALL, [1], sequences, options),
        /enough/,
      );
    }
    const nan: Script = () => new Float32Array(9).fill(Number.NaN);
    await assert.rejects(
      rankNames(() => scriptedSession(nan, [0], 20, log), SMALL, [1], [[3]]),
      { code: 'logits-not-finite' },
    );
    await assert.rejects(
      constrainedGreedy(() => scriptedSession(nan, [0], 20, log), SMALL, [[3]]),
      { code: 'logits-not-finite' },
    );
    const open = () => scriptedSession(script, [0], 5, log);
    const two = () => scriptedSession(script, [0, 1], 5, log);
    await assert.rejects(scoreSequences(two, SMALL, [1], [[3]]), { path: 'open', code: 'row-count' });
    await assert.rejects(scoreSequences(open, SMALL, [1], [[3], [3, 3, 3, 3, 3]]), {
      path: 'sequences[1]',
      code: 'too-long',
    });
    await assert.rejects(scoreSequences(open, SMALL, [1], [[3], []]), { path: 'sequences[1]', code: 'empty' });
    await assert.rejects(scoreSequences(open, SMALL, [1], [[3]], { maxRows: 0 }), {
      path: 'maxRows',
      code: 'out-of-range',
    });
    await assert.rejects(rankNames(open, SMALL, [1], [[3, 2]]), { path: 'names[0]', code: 'end-token' });
    await assert.rejects(rankNames(open, SMALL, [1], []), { path: 'names', code: 'empty' });
    await assert.rejects(rankNames(open, SMALL, [1], null as never), { path: 'names', code: 'wrong-type' });
    await assert.rejects(rankNames(open, SMALL, [1], [[3]], null as never), { path: 'options' });
    await assert.rejects(constrainedGreedy(open, SMALL, [[3, 3, 3, 3]]), {
      path: 'prompts[0]',
      code: 'prompt-too-long',
    });
    assert.equal(log.open, 0);
    assert.deepEqual(await scoreSequences(open, SMALL, [1], []), []);
  });
});

describe('class names', () => {
  it('1,000 names: exact, best first, probabilities sum to 1, far fewer than 1,000 full decodes', async () => {
    const vocabulary: VocabularyFacts = { size: 200, bosId: 1, eosIds: [2] };
    const own = hashScript(vocabulary, 21);
    // Names as WordPiece gives them: 40 first words, some of them followed by one of 30 second words or two more pieces.
    const names = Array.from({ length: 1000 }, (_, i) => [
      10 + (i % 40),
      ...(i < 40 ? [] : [60 + (i % 30), 100 + ((i * 7) % 90)]),
    ]);
    const log = newLog();
    const ranked = await rankNames(() => scriptedSession(own, [0], 40, log), vocabulary, [1], names);
    const byDefinition = names.map((name) => total(naiveScore(own, 0, [1], [...name, 2])));
    for (const { name, logProb } of ranked) near(logProb, byDefinition[name]!, 1e-5, `name ${name}`);
    assert.equal(new Set(ranked.map(({ name }) => name)).size, 1000);
    assert.ok(ranked.every(({ logProb }, i) => i === 0 || logProb <= ranked[i - 1]!.logProb));
    near(total(ranked.map(({ probability }) => probability)), 1, 1e-9, 'probabilities');
    const full = total(names.map((name) => 1 + name.length));
    console.log(
      `      ${log.rowSteps} row-steps of one token, ${log.steps} calls, ${log.opened} sessions; one by one ${full} row-steps, ${full} calls`,
    );
    assert.ok(log.steps < 100 && log.rowSteps < full / 2);
    const top = await rankNames(() => scriptedSession(own, [0], 40), vocabulary, [1], names, { topK: 5, maxRows: 7 });
    assert.deepEqual(
      top.map(({ name }) => name),
      ranked.slice(0, 5).map(({ name }) => name),
    );
  });

  it('constrained greedy follows the original rule, for a batch of images', async () => {
    let doubled = 0;
    await fc.assert(
      fc.asyncProperty(lists, async (names) => {
        const results = await constrainedGreedy(() => scriptedSession(script, [0, 1, 2], 20), SMALL, names);
        for (const [image, result] of results.entries()) {
          const expected = originalRule((ids) => script(image, ids), [1], names);
          assert.deepEqual(result.ids, expected);
          assert.deepEqual(names[result.name], result.newIds.slice(0, -1));
          near(result.logProb, total(naiveScore(script, image, [1], result.newIds)), 1e-5, 'log-likelihood');
          if (expected.some((id, i) => id === expected[i + 1])) doubled++;
        }
      }),
      { seed: 5, numRuns: 300 },
    );
    console.log(`      ${doubled} of 900 names with a doubled token, taken because nothing else was allowed`);
    assert.ok(doubled > 20);
  });
});

/** The original's arithmetic, word for word from the reference's README, in double. */
function originalRule(
  next: (ids: readonly number[]) => Float32Array,
  prompt: readonly number[],
  names: readonly (readonly number[])[],
): number[] {
  const closed = names.map((name) => [...name, SMALL.eosIds[0]!]);
  const out: number[] = [];
  while (out.at(-1) !== SMALL.eosIds[0]!) {
    const logits = Array.from(next([...prompt, ...out]));
    if (out.length > 0) logits[out.at(-1)!] = -10000;
    const scores = logSoftmax(logits);
    const lift = Math.max(...logits) - Math.min(...logits) + 1;
    const allowed = closed
      .filter((name) => name.slice(0, out.length).join() === out.join())
      .map((name) => name[out.length]!);
    for (const id of new Set(allowed)) scores[id]! += lift;
    out.push(scores.indexOf(Math.max(...scores)));
  }
  return [...prompt, ...out];
}
