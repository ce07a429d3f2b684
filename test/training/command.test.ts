import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PNG } from 'pngjs';
import { cli, demo } from '../cli/support.js';
import { DEMO, EXAMPLES } from '../support/fixtures.js';
import { scratch } from '../support/folder.js';

describe('image2text train', () => {
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
    const page = readFileSync(join(output, 'report.html'), 'utf8');
    assert.match(page, /<svg.*a red book/s);
    const [, png] = /<td[^>]*><img src="data:image\/png;base64,([^"]+)" alt=""><br>red-book-short\.png<\/td>/.exec(
      page,
    )!;
    const { width, height } = PNG.sync.read(Buffer.from(png!, 'base64'));
    assert.deepEqual([Math.max(width, height), /\bsrc="(?!data:)|href=/.test(page)], [96, false]); // the page needs nothing else
    const again = await demo(args, { fresh: true });
    assert.equal(again.code, 2);
    assert.match(again.stderr, /folder-in-use|resume the run/);
    assert.equal((await demo([...args, '--resume'], { fresh: true })).code, 0);
    const log = readFileSync(join(output, 'log.jsonl'), 'utf8');
    assert.equal(log.match(/"type":"thumbnails"/g)?.length, 1);
  });

  it('writes a merged checkpoint that says what model and adapter say together', async () => {
    const list = join(folder(), 'merge.jsonl');
    copyFileSync(`${EXAMPLES}red-book-short.png`, join(folder(), 'book.png'));
    writeFileSync(list, '{"image":"book.png","text":"a blue mug"}\n');
    const output = join(folder(), 'merge');
    const args = ['train', list, '--output', output, '--steps', '40', '--learning-rate', '5e-3', '--batch-size', '1'];
    const cache = ['--feature-cache', join(folder(), 'features')];
    const made = await demo([...args, '--lora', '4', '--merge', ...cache, '--label-smoothing', '0'], { fresh: true });
    assert.equal(made.code, 0, made.stderr);
    assert.equal(made.stdout, `${join(output, 'merged')}\n`);
    assert.equal(readdirSync(join(folder(), 'features')).length, 1);
    const image = join(folder(), 'book.png');
    const greedy = ['--strategy', 'greedy'];
    const adapted = await demo(['caption', image, ...greedy, '--adapter', join(output, 'last')], { fresh: true });
    assert.equal(adapted.stdout, 'a blue mug\n', adapted.stderr);
    const merged = await cli(['caption', image, ...greedy, '--model', join(output, 'merged')]);
    assert.equal(merged.stdout, 'a blue mug\n', merged.stderr);
    const narrow = await demo(
      ['caption', image, ...greedy, '--adapter', join(output, 'last'), '--weights', 'int8', '--backend', 'simd'],
      { fresh: true },
    );
    assert.equal(narrow.stdout, 'a blue mug\n', narrow.stderr);
    const none = await demo(['caption', image, '--adapter', folder()], { fresh: true });
    assert.match(none.stderr, /adapter_config\.json: missing-file/);
    const alone = await demo([...args.slice(0, 4), '--merge'], { fresh: true });
    assert.match(alone.stderr, /are for --lora/);
  });

  it('shows loss, rate, tokens a second and the time left in a terminal', async () => {
    const list = join(folder(), 'bar.jsonl');
    copyFileSync(`${EXAMPLES}red-book-short.png`, join(folder(), 'book.png'));
    writeFileSync(list, '{"image":"book.png","text":"a book"}\n');
    const ci = process.env['CI'];
    delete process.env['CI'];
    try {
      const args = ['train', list, '--output', join(folder(), 'bar'), '--steps', '3', '--lora', '--validation', list];
      const { code, stderr } = await demo(args, { fresh: true, tty: true });
      assert.equal(code, 0, stderr);
      assert.match(stderr, /█+░+ 1\/3, loss \d+\.\d{4}, rate \d\.\de-\d, \d+ tokens\/s, \d+:\d\d left/);
      assert.match(stderr, /1 pairs, 1 held out, 3 steps; \d+ of \d+ numbers are trained/);
      assert.match(stderr, /step 3: held out: loss \d+\.\d{4}, \d+\.\d % exact, CIDEr-D 0\.000/);
    } finally {
      if (ci !== undefined) process.env['CI'] = ci;
    }
  });

  it('trains from random numbers a folder that has no weights', async () => {
    const list = join(folder(), 'scratch.jsonl');
    copyFileSync(`${EXAMPLES}red-book-short.png`, join(folder(), 'book.png'));
    writeFileSync(list, '{"image":"book.png","text":"a book"}\n');
    const bare = join(folder(), 'bare');
    mkdirSync(bare);
    for (const name of ['config.json', 'vocab.txt', 'preprocessor_config.json'])
      copyFileSync(join(DEMO, name), join(bare, name));
    const train = (name: string, ...more: string[]) => {
      const output = ['--output', join(folder(), name), '--model', bare, '--quiet', '--batch-size', '1'];
      return cli(['train', list, ...output, '--from-scratch', ...more], { fresh: true });
    };
    const made = await train('scratch', 'fan-in', '--seed', '5', '--steps', '25', '--label-smoothing', '0');
    assert.equal(made.code, 0, made.stderr);
    const image = join(folder(), 'book.png');
    const said = await cli(['caption', image, '--strategy', 'greedy', '--model', made.stdout.trim()], { fresh: true });
    assert.equal(said.stdout, 'a book\n', said.stderr);
    const refused = await train('refused', 'fan-in', '--lora');
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /--from-scratch: all weights are trained/);
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
