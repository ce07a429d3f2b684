import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { demo, scratch } from '../cli/support.js';
import { EXAMPLES } from '../support/fixtures.js';

describe('image2text train', function () {
  this.timeout(120_000);
  const folder = scratch();

  it('learns a folder with texts beside its images, reports a bad pair, and never writes over a run', async () => {
    const data = join(folder(), 'data');
    mkdirSync(data);
    for (const name of ['red-book-short.png', 'blue-mug-juice.png']) copyFileSync(EXAMPLES + name, join(data, name));
    writeFileSync(join(data, 'red-book-short.txt'), 'a red book\n');
    const output = join(folder(), 'run');
    const args = ['train', data, '--output', output, '--lora', '2', '--steps', '2', '--validation', data];
    const first = await demo(args, { fresh: true });
    assert.equal(first.code, 0, first.stderr);
    assert.equal(first.stdout, `${join(output, 'last')}\n`);
    assert.match(first.stderr, /skipped: .*blue-mug-juice\.png.*no \.txt/);
    for (const name of ['best/adapter_model.safetensors', 'last/adapter_config.json', 'state.safetensors', 'log.jsonl'])
      assert.ok(existsSync(join(output, name)), name);
    assert.match(readFileSync(join(output, 'report.html'), 'utf8'), /<svg.*a red book/s);
    const again = await demo(args, { fresh: true });
    assert.equal(again.code, 2);
    assert.match(again.stderr, /folder-in-use|resume the run/);
    assert.equal((await demo([...args, '--resume'], { fresh: true })).code, 0);
  });

  it('reads JSONL with its lines', async () => {
    const list = join(folder(), 'list.jsonl');
    copyFileSync(`${EXAMPLES}red-book-short.png`, join(folder(), 'book.png'));
    writeFileSync(list, '{"image":"book.png","question":"what is this?","answer":"a book"}\n{"image":3}\n');
    const { code, stderr } = await demo(
      ['train', list, '--output', join(folder(), 'other'), '--steps', '1', '--lora'],
      { fresh: true },
    );
    assert.equal(code, 0, stderr);
    assert.match(stderr, /list\.jsonl: line 2/);
  });
});
