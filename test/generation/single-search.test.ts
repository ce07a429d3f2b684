import assert from 'node:assert/strict';
import { generate, streamTokens } from '../../src/generation/generate.js';
import type { GenerateOptions } from '../../src/generation/options.js';
import type { GeneratedSequence, TokenEvent, VocabularyFacts } from '../../src/generation/session.js';
import { naiveGreedy } from './naive-search.js';
import { hashScript, logSoftmax, near, newLog, type Script, scriptedSession, total } from './scripted-session.js';

const SMALL: VocabularyFacts = { size: 9, bosId: 1, eosIds: [2] };
const script = hashScript(SMALL, 3, 3, 1);
const open =
  (images: number[], log = newLog(), s: Script = script) =>
  () =>
    scriptedSession(s, images, 30, log);

describe('greedy search', () => {
  it('takes the most likely token until the end token or the limit, for many models', async () => {
    const finishes = new Set<string>();
    for (let seed = 0; seed < 60; seed++) {
      const own = hashScript(SMALL, seed, 3, 1);
      const prompts = [[1], [1, 7, 4]];
      const rows = await generate(open([0, 1], newLog(), own), SMALL, { strategy: 'greedy', maxLength: 9 }, prompts);
      for (const [image, [row]] of rows.entries()) {
        assert.deepEqual(
          row!.ids,
          naiveGreedy((ids) => own(image, ids), prompts[image]!, SMALL.eosIds, 9),
        );
        row!.newIds.forEach((id, i) => {
          const before = row!.ids.slice(0, prompts[image]!.length + i);
          near(row!.tokenLogProbs[i]!, logSoftmax(own(image, before))[id]!, 1e-6, 'log-probability');
        });
        near(row!.score, total(row!.tokenLogProbs), 1e-12, 'score');
        assert.equal(row!.finish, row!.ids.at(-1) === SMALL.eosIds[0]! ? 'eos' : 'length');
        finishes.add(row!.finish);
      }
    }
    assert.deepEqual([...finishes].sort(), ['eos', 'length']);
  });

  it('stops at the positions of the model, whatever was asked', async () => {
    const never: Script = () => Float32Array.of(0, 0, -9, 0, 0, 5, 0, 0, 0);
    const [[row]] = (await generate(open([0], newLog(), never), SMALL, { strategy: 'greedy', maxNewTokens: 5000 })) as [
      [GeneratedSequence],
    ];
    assert.equal(row.ids.length, 30);
    assert.equal(row.finish, 'length');
  });

  it('drops rows that have ended: a row costs one row-step for each of its tokens', async () => {
    const log = newLog();
    const rows = await generate(open([0, 1, 2, 3, 4, 5], log), SMALL, { strategy: 'greedy' });
    const lengths = rows.map(([row]) => row!.newIds.length);
    assert.ok(new Set(lengths).size > 1, 'rows of different lengths');
    assert.equal(log.rowSteps, total(lengths));
  });
});

describe('sampling', () => {
  it('draws tokens as often as their probabilities say', async () => {
    const counts = new Array<number>(9).fill(0);
    const options = {
      strategy: 'sample',
      numReturnSequences: 1000,
      maxNewTokens: 1,
      topK: 0,
      temperature: 1.3,
    } as const;
    for (let seed = 0; seed < 20; seed++) {
      for (const row of (await generate(open([0]), SMALL, { ...options, seed }))[0]!) counts[row.newIds[0]!]!++;
    }
    const expected = logSoftmax(script(0, [1]).map((x) => x / 1.3)).map((p) => 20_000 * Math.exp(p));
    const chiSquare = total(counts.map((count, id) => (count - expected[id]!) ** 2 / expected[id]!));
    console.log(`      chi-square ${chiSquare.toFixed(1)} at 8 degrees`);
    assert.ok(chiSquare < 26, 'probability below 0.001');
  });

  it('the prompt is read once for all samples of an image; the seed decides; top-k 1 is greedy', async () => {
    const log = newLog();
    const options = { strategy: 'sample', numReturnSequences: 5, seed: 11, topK: 0 } as const;
    const rows = await generate(open([0, 1], log), SMALL, options, [[1, 3, 4, 5], [1]]);
    assert.equal(log.tokens - (log.rowSteps - 2), 5, 'prompt tokens fed');
    assert.deepEqual(
      rows.map((samples) => samples.length),
      [5, 5],
    );
    assert.ok(new Set(rows[0]!.map((row) => row.ids.join())).size > 1, 'samples differ');
    assert.deepEqual(await generate(open([0, 1]), SMALL, options, [[1, 3, 4, 5], [1]]), rows);
    assert.notDeepEqual(await generate(open([0, 1]), SMALL, { ...options, seed: 12 }, [[1, 3, 4, 5], [1]]), rows);
    const one = await generate(open([0, 1]), SMALL, { strategy: 'sample', topK: 1, seed: 5 });
    assert.deepEqual(one, await generate(open([0, 1]), SMALL, { strategy: 'greedy' }));
  });

  it('log-probabilities are those of the model, not of the shaped distribution', async () => {
    const options: GenerateOptions = {
      strategy: 'sample',
      temperature: 0.3,
      topK: 3,
      topP: 0.8,
      repetitionPenalty: 1.5,
    };
    const [[row]] = (await generate(open([0]), SMALL, options)) as [[GeneratedSequence]];
    row.newIds.forEach((id, i) => {
      near(row.tokenLogProbs[i]!, logSoftmax(script(0, row.ids.slice(0, 1 + i)))[id]!, 1e-6, 'log-probability');
    });
  });
});

describe('streaming', () => {
  it('yields every token of every row, then returns what generate returns', async () => {
    const log = newLog();
    const options = { strategy: 'sample', numReturnSequences: 2, seed: 4 } as const;
    const events: TokenEvent[] = [];
    const stream = streamTokens(open([0, 1], log), SMALL, options);
    let step = await stream.next();
    for (; step.done !== true; step = await stream.next()) events.push(step.value);
    assert.deepEqual(step.value, await generate(open([0, 1]), SMALL, options));
    step.value.flat().forEach((row, at) => {
      const own = events.filter((event) => event.row * 2 + event.sample === at);
      assert.deepEqual(
        own.map((event) => event.id),
        row.newIds,
      );
      assert.deepEqual(
        own.map((event) => event.index),
        row.newIds.map((_, i) => i),
      );
      assert.deepEqual(
        own.map((event) => event.logProb),
        row.tokenLogProbs,
      );
      assert.equal(own.at(-1)!.finish, row.finish);
    });
    assert.equal(log.open, 0);
  });

  it('a consumer that leaves releases the session; one that never starts opens none', async () => {
    const log = newLog();
    for await (const event of streamTokens(open([0, 1], log), SMALL, { strategy: 'greedy' }))
      if (event.index === 1) break;
    streamTokens(open([0], log), SMALL, { strategy: 'greedy' });
    await assert.rejects(async () => {
      for await (const _ of streamTokens(open([0], log), SMALL, { strategy: 'greedy' })) throw new Error('consumer');
    }, /consumer/);
    assert.deepEqual([log.opened, log.open], [2, 0]);
  });

  it('false ends one row as stopped, the others go on unchanged', async () => {
    const log = newLog();
    const whole = await generate(open([0, 1]), SMALL, { strategy: 'greedy' });
    const onToken = async ({ row, index }: TokenEvent) => !(row === 0 && index === 1);
    const rows = await generate(open([0, 1], log), SMALL, { strategy: 'greedy', onToken });
    assert.ok(whole[0]![0]!.newIds.length > 2, 'the row would have gone on');
    assert.deepEqual(rows[0]![0]!.newIds, whole[0]![0]!.newIds.slice(0, 2));
    assert.equal(rows[0]![0]!.finish, 'stopped');
    assert.deepEqual(rows[1], whole[1]);
    await assert.rejects(
      generate(open([0], log), SMALL, { strategy: 'greedy', onToken: () => Promise.reject(new Error('listener')) }),
      /listener/,
    );
    assert.equal(log.open, 0);
  });

  it('beams do not stream', async () => {
    await assert.rejects(streamTokens(open([0]), SMALL, { strategy: 'beam' } as never).next(), {
      code: 'not-streamable',
    });
  });
});
