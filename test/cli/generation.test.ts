import assert from 'node:assert/strict';
import { generationOptionsOf } from '../../src/cli/options.js';
import { EXAMPLES } from '../support/fixtures.js';
import { demo } from './support.js';

const MUG = `${EXAMPLES}blue-mug-dream.jpg`;

interface Text {
  readonly text: string;
  readonly score: number;
  readonly tokens: readonly unknown[];
  readonly alternatives?: readonly Text[];
}

const said = async (...args: readonly string[]): Promise<Text> =>
  JSON.parse((await demo([...args, '--json'])).stdout) as Text;

describe('options of decoding', () => {
  it('--num-return-sequences: the best as without it, the others as alternatives, best first', async () => {
    for (const how of ['original', 'beam', 'sample']) {
      const args = ['caption', MUG, '--strategy', how];
      const one = await said(...args);
      assert.equal(one.alternatives, undefined, how);
      const three = await said(...args, '--num-return-sequences', '3', '--prefix', '> ');
      assert.equal(three.alternatives!.length, 2, how);
      assert.ok([three, ...three.alternatives!].every(({ text }) => text.startsWith('> ')));
      if (how === 'sample') continue;
      assert.equal(three.text, `> ${one.text}`);
      const scores = [three, ...three.alternatives!].map(({ score }) => score);
      assert.deepEqual(
        scores,
        scores.toSorted((a, b) => b - a),
      );
    }
  });

  it('alternatives of answers and videos', async () => {
    const two = ['--num-return-sequences', '2'];
    assert.equal((await said('answer', MUG, 'what is this?', ...two)).alternatives!.length, 1);
    assert.equal((await said('video', `${EXAMPLES}video-1.gif`, ...two)).alternatives!.length, 1);
  });

  it('--min-new-tokens and --min-length keep the end away; --min-length counts the start token', async () => {
    const greedy = ['caption', MUG, '--strategy', 'greedy', '--max-new-tokens', '14'];
    const plain = (await said(...greedy)).tokens.length;
    assert.ok(plain < 12, `${plain} tokens`);
    const longer = await said(...greedy, '--min-new-tokens', '12');
    assert.ok(longer.tokens.length > 12, `${longer.tokens.length} tokens`);
    assert.deepEqual(await said(...greedy, '--min-length', '13'), longer);
  });

  it('--early-stopping reaches the library as it means it', async () => {
    for (const [given, wanted] of [
      ['true', true],
      ['false', false],
      ['never', 'never'],
    ] as const) {
      assert.deepEqual(await generationOptionsOf({ strategy: 'beam', earlyStopping: given }), {
        strategy: 'beam',
        earlyStopping: wanted,
      });
      const { code, stderr } = await demo(['caption', MUG, '--strategy', 'beam', '--early-stopping', given]);
      assert.deepEqual([code, stderr], [0, '']);
    }
  });
});
