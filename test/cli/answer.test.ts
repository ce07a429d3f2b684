import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Readable, Writable } from 'node:stream';
import { EXAMPLES } from '../support/fixtures.js';
import { demo, withoutStatus } from './support.js';

const MUG = `${EXAMPLES}blue-mug-dream.jpg`;
const COLOR = 'what color is the mug?';
const SAYS = 'what does the mug say?';
const WHAT = 'what is this?';

const lines = (text: string): string[] => text.split('\n').slice(0, -1);

/** As Ctrl-C does for the command that runs in this process, not for the test runner. */
const interrupt = (): void => process.listeners('SIGINT').at(-1)!('SIGINT');

describe('image2text answer', () => {
  it('one question: the answer alone; several: each behind its question', async () => {
    assert.deepEqual(await demo(['answer', MUG, COLOR]), { code: 0, stdout: 'blue\n', stderr: '' });
    const { stdout } = await demo(['answer', MUG, COLOR, WHAT, '--batch', '1']);
    assert.equal(stdout, `${COLOR}\tblue\n${WHAT}\ta mug\n`);
  });

  it('--json and --jsonl', async () => {
    const one = JSON.parse((await demo(['answer', MUG, COLOR, '--json'])).stdout) as Record<string, unknown>;
    assert.deepEqual(Object.keys(one), ['file', 'question', 'text', 'score', 'confidence', 'finish', 'tokens']);
    assert.deepEqual([one['file'], one['question'], one['text']], [MUG, COLOR, 'blue']);
    const both = await demo(['answer', MUG, COLOR, WHAT, '--json']);
    const rows = await demo(['answer', MUG, COLOR, WHAT, '--jsonl']);
    assert.deepEqual(
      lines(rows.stdout).map((line) => JSON.parse(line)),
      JSON.parse(both.stdout),
    );
  });

  it('--evidence: what the image adds to every word of the answer, in JSON alone', async () => {
    type Said = { readonly tokens: readonly { readonly piece: string; readonly evidence?: number }[] };
    const said = JSON.parse((await demo(['answer', MUG, SAYS, '--evidence', '--json'])).stdout) as Said;
    assert.ok(said.tokens.every(({ evidence }) => Number.isFinite(evidence)));
    assert.ok(said.tokens.find(({ piece }) => piece === 'dream')!.evidence! > 3);
    const without = JSON.parse((await demo(['answer', MUG, SAYS, '--json'])).stdout) as Said;
    assert.ok(without.tokens.every(({ evidence }) => evidence === undefined));
    const plain = await demo(['answer', MUG, COLOR, '--evidence']);
    assert.equal(plain.code, 2);
    assert.match(plain.stderr, /--evidence is shown by --json and --jsonl only/);
  });

  it('questions from stdin, a line each', async () => {
    const { code, stdout } = await demo(['answer', MUG], { stdin: `\ufeff${COLOR}\r\n\n  ${WHAT}  ` });
    assert.deepEqual([code, stdout], [0, `${COLOR}\tblue\n${WHAT}\ta mug\n`]);
  });

  it('the image from stdin', async () => {
    assert.equal((await demo(['answer', '-', WHAT], { stdin: readFileSync(MUG) })).stdout, 'a mug\n');
  });

  it('options of decoding reach the model', async () => {
    const { stdout } = await demo(['answer', MUG, WHAT, '--max-new-tokens', '1', '--strategy', 'greedy']);
    assert.equal(stdout, 'a\n');
  });

  it('in a terminal, the answer to one question appears as it comes', async () => {
    const { stdout } = await demo(['answer', MUG, WHAT, '--strategy', 'greedy'], { tty: true });
    assert.equal(stdout, 'a mug\n');
  });

  it('a conversation: questions on stderr, answers on stdout, until an empty line', async () => {
    const talk = [`${COLOR}\n`, `${WHAT}\n`, '\n', 'never read\n'];
    for (const how of [[], ['--strategy', 'original']]) {
      const { code, stdout, stderr } = await demo(['answer', MUG, ...how], { stdin: talk, tty: true });
      assert.deepEqual([code, stdout], [0, 'blue\na mug\n']);
      assert.match(withoutStatus(stderr), /^Ask about .*blue-mug-dream\.jpg\. An empty line ends\.\n/);
      assert.equal(stderr.split('> ').length, 4, 'three prompts');
    }
    const { stdout } = await demo(['answer', MUG, '--jsonl'], { stdin: talk, tty: true });
    assert.deepEqual(
      lines(stdout).map((line) => (JSON.parse(line) as { text: string }).text),
      ['blue', 'a mug'],
    );
  });

  it('a conversation about an image that is not there ends before the first question', async () => {
    const { code, stdout, stderr } = await demo(['answer', 'no-such.png'], { stdin: [`${COLOR}\n`], tty: true });
    assert.deepEqual([code, stdout], [1, '']);
    assert.match(stderr, /^image2text: no-such\.png: no-such-file: .*\n$/);
  });

  it('Ctrl-C while it waits for stdin, or in a conversation: code 130, nothing said', async () => {
    const { run } = await import('../../src/cli/program.js');
    for (const isTTY of [false, true]) {
      const read = () => void (isTTY || setImmediate(interrupt)); // it waits; nothing comes for ever
      const stdin = Object.assign(new Readable({ read }), { isTTY });
      let told = '';
      const output = () =>
        new Writable({
          write(chunk: Buffer, _encoding, done) {
            told += chunk.toString();
            if (told.endsWith('> ')) setImmediate(interrupt);
            done();
          },
        });
      const running = run(['answer', MUG, '--model', 'demo'], { stdin, stdout: output(), stderr: output() });
      assert.equal(await running, 130);
      assert.doesNotMatch(told, /image2text:/);
    }
  });
});
