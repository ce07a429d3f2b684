import assert from 'node:assert/strict';
import { copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cli, ended, start } from '../cli/support.js';
import { EXAMPLES } from '../support/fixtures.js';
import { scratch } from '../support/folder.js';
import { FULL } from '../support/full.js';

/** What a run wrote of the model, and its losses. */
function outcome(run: string) {
  const events = readFileSync(join(run, 'log.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  return {
    last: readFileSync(join(run, 'last/adapter_model.safetensors')),
    best: readFileSync(join(run, 'best/adapter_model.safetensors')),
    losses: events.flatMap((event) => (event.type === 'step' ? [[event.step, event.loss, event.gradNorm]] : [])),
    held: events.flatMap((event) => (event.type === 'validation' ? [[event.step, event.loss, event.samples]] : [])),
  };
}

describe('image2text train, killed', () => {
  const folder = scratch();
  const at = (name: string) => join(folder(), name);
  const args = (run: string) => [
    ...['train', at('data.jsonl'), '--model', 'demo', '--output', at(run), '--validation', at('data.jsonl')],
    ...['--lora', '2', '--steps', '12', '--batch-size', '2', '--accumulate', '2', '--learning-rate', '1e-3'],
    ...['--save-every', '2', '--validate-every', '3', '--backend', 'simd'],
  ];

  before(() => {
    const names = ['red-book-short.png', 'blue-mug-juice.png', 'green-sign-toy.jpg', 'black-shirt-press.jpg'];
    for (const name of names) copyFileSync(EXAMPLES + name, at(name));
    const rows = names.map((name) => JSON.stringify({ image: name, text: name.split(/[-.]/).slice(0, 2).join(' ') }));
    writeFileSync(at('data.jsonl'), `${rows.join('\n')}\n`);
  });

  it('goes on to the bits that it would have had', async () => {
    const whole = await cli([...args('whole'), '--quiet'], { fresh: true });
    assert.equal(whole.code, 0, whole.stderr);
    const expected = outcome(at('whole'));
    assert.equal(expected.losses.length, 12);

    // Killed when it has written so many lines of its log: at the start, between two saves, and while it saves.
    let kills = 0;
    for (const lines of FULL ? [1, 4, 9, 13] : [1, 9]) {
      const child = start([...args('killed'), ...(kills === 0 ? [] : ['--resume'])]);
      const log = at('killed/log.jsonl');
      const watch = setInterval(() => {
        const written = existsSync(log) ? readFileSync(log, 'utf8').split('\n').length - 1 : 0;
        if (written >= lines) child.kill('SIGKILL');
      }, 1);
      const { signal, stderr } = await ended(child);
      clearInterval(watch);
      assert.equal(signal, 'SIGKILL', stderr); // it did not end before
      kills++;
    }
    const { code, stderr } = await cli([...args('killed'), '--resume', '--quiet'], { fresh: true });
    assert.equal(code, 0, stderr);
    assert.deepEqual(outcome(at('killed')), expected);
    assert.match(readFileSync(at('killed/report.html'), 'utf8'), /step 12 of 12/);
  });

  it('refuses to go on from other weights or with other options, and writes anew with --overwrite only', async () => {
    const other = [...args('whole'), '--resume'];
    const smoothing = await cli([...other, '--label-smoothing', '0'], { fresh: true });
    assert.equal(smoothing.code, 2);
    assert.match(smoothing.stderr, /label-?smoothing/i);
    const merged = await cli([...other, '--adapter', at('whole/last')], { fresh: true });
    assert.equal(merged.code, 2);
    assert.match(merged.stderr, /began with other weights/);
    const again = await cli(args('whole'), { fresh: true });
    assert.equal(again.code, 2);
    const both = await cli([...other, '--overwrite'], { fresh: true });
    assert.match(both.stderr, /give --resume or --overwrite/);
    writeFileSync(at('whole/notes.txt'), 'mine');
    const anew = await cli([...args('whole'), '--overwrite', '--steps', '1'], { fresh: true });
    assert.equal(anew.code, 0, anew.stderr);
    assert.equal(outcome(at('whole')).losses.length, 1);
    assert.equal(readFileSync(at('whole/notes.txt'), 'utf8'), 'mine');
  });
});
