import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EXAMPLES } from '../support/fixtures.js';
import { cli, demo, fillFolder, IMAGES, scratch, textsBelow } from './support.js';

const BOOK = `${EXAMPLES}red-book-short.png`;
const lines = (text: string): string[] => text.split('\n').slice(0, -1);

/** Base64 lines as the original packs images. */
const pack = (names: readonly string[]): string =>
  names.map((name) => `${name}\t${readFileSync(EXAMPLES + name).toString('base64')}\n`).join('');

describe('folder runs', () => {
  const folder = scratch();
  const fresh = (name: string, count: number): string => {
    const here = join(folder(), name);
    fillFolder(here, count);
    return here;
  };

  it('sidecars beside the images, with prefix and suffix; stdout stays empty', async () => {
    const here = fresh('sidecars', 5);
    const args = ['caption', here, '--recursive', '--sidecar', '.txt', '--prefix', 'photo: ', '--suffix', ', drawn'];
    const { code, stdout, stderr } = await demo(args);
    assert.deepEqual([code, stdout], [0, '']);
    assert.equal(stderr, '5 images: 5 done, 0 there already, 0 failed\n');
    assert.deepEqual(textsBelow(here), {
      '00-black-round-sign-sky.txt': 'photo: a black round sign that says sky, drawn\n',
      '01-black-shirt-press.txt': 'photo: a black shirt that says press, drawn\n',
      '02-black-shirt-right.txt': 'photo: a black shirt that says right, drawn\n',
      '04-blue-mug-juice.txt': 'photo: a blue mug with the word juice on it, drawn\n',
      'more/03-blue-mug-dream.txt': 'photo: a blue mug with the word dream on it, drawn\n',
    });
    assert.equal((await demo([...args, '--quiet'])).stderr, '');
  });

  it('--skip-existing leaves what is there, and loads no model when nothing is missing', async () => {
    const here = fresh('skip', 3);
    const args = ['caption', here, '--sidecar', '.caption.txt', '--skip-existing'];
    writeFileSync(join(here, '01-black-shirt-press.caption.txt'), 'mine');
    assert.match((await demo(args)).stderr, /3 images: 2 done, 1 there already, 0 failed/);
    const before = textsBelow(here);
    assert.equal(before['01-black-shirt-press.caption.txt'], 'mine');
    const again = await demo([...args, '--model', 'no-such-model']);
    assert.deepEqual([again.code, again.stderr], [0, '3 images: 0 done, 3 there already, 0 failed\n']);
    assert.deepEqual(textsBelow(here), before);
    await demo(args.slice(0, -1));
    assert.equal(textsBelow(here)['01-black-shirt-press.caption.txt'], 'a black shirt that says press\n');
  });

  it('two images that would share a sidecar are refused before any work', async () => {
    const here = fresh('shared', 1);
    copyFileSync(BOOK, join(here, '00-black-round-sign-sky.png'));
    const { code, stderr } = await demo(['caption', here, '--sidecar', '.txt']);
    assert.equal(code, 2);
    assert.match(stderr, /would both write .*00-black-round-sign-sky\.txt/);
    assert.deepEqual(textsBelow(here), {});
  });

  it('one image is not several', async () => {
    const { stderr } = await demo(['caption', fresh('one', 1), '--sidecar', '.txt']);
    assert.equal(stderr, '1 image: 1 done, 0 there already, 0 failed\n');
  });

  it('--output: JSON lines or the original format, not overwritten, gone on with, order kept', async () => {
    const here = fresh('output', 4);
    for (const ending of ['jsonl', 'tsv']) {
      const output = join(folder(), `captions.${ending}`);
      const args = ['caption', here, '--recursive', '--output', output];
      const first = await demo(args);
      assert.deepEqual([first.code, first.stdout], [0, '']);
      const whole = readFileSync(output, 'utf8');
      const onStdout = await demo(['caption', here, '--recursive', ending === 'tsv' ? '--as-tsv' : '--jsonl']);
      assert.equal(whole, onStdout.stdout);
      const refused = await demo(args);
      assert.equal(refused.code, 2);
      assert.match(refused.stderr, /is there already/);
      writeFileSync(output, whole.slice(0, whole.indexOf('\n') + 30)); // a whole line and a cut one
      const rest = await demo([...args, '--skip-existing']);
      assert.match(rest.stderr, /4 images: 3 done, 1 there already, 0 failed/);
      assert.equal(readFileSync(output, 'utf8'), whole);
    }
  });

  it('sidecars and lines together: only what is missing is written', async () => {
    const here = fresh('both', 3);
    const output = join(folder(), 'both.jsonl');
    const args = ['caption', here, '--sidecar', '.txt', '--output', output, '--skip-existing'];
    await demo(args);
    const [texts, whole] = [textsBelow(here), readFileSync(output, 'utf8')];
    rmSync(join(here, '01-black-shirt-press.txt'));
    const { mtimeMs } = statSync(join(here, '00-black-round-sign-sky.txt'));
    assert.match((await demo(args)).stderr, /1 done, 2 there already/);
    assert.deepEqual([textsBelow(here), readFileSync(output, 'utf8')], [texts, whole]);
    assert.equal(statSync(join(here, '00-black-round-sign-sky.txt')).mtimeMs, mtimeMs);
  });

  it('a bad image leaves no sidecar and no line, and is tried again', async () => {
    const here = fresh('bad', 2);
    const output = join(folder(), 'bad.jsonl');
    const bad = join(here, '00-bad.png');
    writeFileSync(bad, 'nothing');
    const args = ['caption', here, '--sidecar', '.txt', '--output', output, '--skip-existing', '--batch', '2'];
    const { code, stderr } = await demo(args);
    assert.equal(code, 1);
    assert.match(stderr, /00-bad\.png: .*\n.*3 images: 2 done, 0 there already, 1 failed\n$/);
    assert.deepEqual(Object.keys(textsBelow(here)), ['00-black-round-sign-sky.txt', '01-black-shirt-press.txt']);
    copyFileSync(BOOK, bad);
    assert.equal((await demo(args)).code, 0);
    assert.deepEqual(lines(readFileSync(output, 'utf8')).length, 3);
  });

  it('a sidecar that cannot be written ends the run with one line', async () => {
    const here = fresh('unwritable', 2);
    mkdirSync(join(here, '00-black-round-sign-sky.txt'));
    const { code, stderr } = await demo(['caption', here, '--sidecar', '.txt']);
    assert.equal(code, 1);
    assert.match(stderr, /^image2text: EISDIR.*\n$/);
    assert.deepEqual(textsBelow(here), {});
  });

  it("images from a TSV file of the original's, captions in its format", async () => {
    const tsv = join(folder(), 'images.tsv');
    writeFileSync(
      tsv,
      `${pack(IMAGES.slice(0, 2))}no tab here\nkey\tnot base64!\n${pack(IMAGES.slice(2, 3)).trimEnd()}`,
    );
    const { code, stdout, stderr } = await demo(['caption', '--tsv', tsv, '--as-tsv', '--batch', '2']);
    assert.equal(code, 1);
    assert.deepEqual(lines(stdout), [
      'black-round-sign-sky.jpg\t[{"caption":"a black round sign that says sky"}]',
      'black-shirt-press.jpg\t[{"caption":"a black shirt that says press"}]',
      'black-shirt-right.jpg\t[{"caption":"a black shirt that says right"}]',
    ]);
    assert.match(stderr, /images\.tsv: line 3: tsv-no-tab: .*\n.*images\.tsv: line 4: tsv-base64: /);
    const same = await demo(['caption', ...IMAGES.slice(0, 3).map((name) => EXAMPLES + name)]);
    assert.deepEqual(
      lines((await demo(['caption', '--tsv', tsv])).stdout).map((line) => line.split('\t')[1]),
      lines(same.stdout).map((line) => line.split('\t')[1]),
    );
  });

  it('captions are escaped to ASCII as the original does', async () => {
    const { stdout } = await demo(['caption', BOOK, '--as-tsv', '--suffix', ' é☃😀"']);
    assert.equal(stdout, `${BOOK}\t[{"caption":"a red book with the title short \\u00e9\\u2603\\ud83d\\ude00\\""}]\n`);
  });

  describe('answers to a TSV file of questions', () => {
    const ask = [
      [
        { question: 'what color is the round sign?', question_id: 7 },
        { question: 'what is this?', question_id: 'b' },
      ],
      [{ question_id: 9, question: 'what does the shirt say?', extra: 1 }],
    ];
    const whole =
      '{"answer":"black","question_id":7}\n{"answer":"a round sign","question_id":"b"}\n{"answer":"press","question_id":9}\n';
    const files = (second = JSON.stringify(ask[1])): string[] => {
      const [images, questions] = [join(folder(), 'ask.tsv'), join(folder(), 'questions.tsv')];
      writeFileSync(images, pack(IMAGES.slice(0, 2)));
      writeFileSync(questions, `${IMAGES[0]}\t${JSON.stringify(ask[0])}\n${IMAGES[1]}\t${second}\n`);
      return ['answer', '--tsv', images, '--questions-tsv', questions];
    };

    it('as the original writes them, or as JSON lines', async () => {
      assert.deepEqual(await demo(files()), { code: 0, stdout: whole, stderr: '' });
      const rows = lines((await cli([...files(), '--jsonl'])).stdout).map(
        (line) => JSON.parse(line) as Record<string, unknown>,
      );
      assert.deepEqual(
        rows.map((row) => [row['file'], row['question_id'], row['text']]),
        [
          ['black-round-sign-sky.jpg', 7, 'black'],
          ['black-round-sign-sky.jpg', 'b', 'a round sign'],
          ['black-shirt-press.jpg', 9, 'press'],
        ],
      );
    });

    it('--output is gone on with within the questions of an image', async () => {
      const output = join(folder(), 'answers.tsv');
      for (const cut of [0, 20, 36, whole.length - 1, whole.length]) {
        writeFileSync(output, whole.slice(0, cut));
        const { code, stderr } = await cli([...files(), '--output', output, '--skip-existing']);
        assert.deepEqual([code, stderr], [0, '2 images: 0 failed\n']);
        assert.equal(readFileSync(output, 'utf8'), whole);
      }
    });

    it('bad questions are reported, the others answered; lines that do not pair are refused', async () => {
      for (const bad of [
        '{"question":"what?"}',
        '[{"question":"what?"}]',
        '[{"question":" ","question_id":1}]',
        '[7]',
        'x',
      ]) {
        const { code, stdout, stderr } = await demo(files(bad));
        assert.deepEqual([code, lines(stdout).length], [1, 2]);
        assert.match(stderr, /^image2text: .*questions\.tsv: line 2: tsv-questions: .*\n$/);
      }
      const args = files();
      const [images, questions] = [args[2]!, args[4]!];
      writeFileSync(questions, readFileSync(questions, 'utf8').replace('black-shirt-press', 'other'));
      assert.match((await demo(args)).stderr, /line 2 is about "other\.jpg"/);
      writeFileSync(images, pack(IMAGES.slice(0, 1)));
      const { code, stderr } = await demo(args);
      assert.equal(code, 2);
      assert.match(stderr, /has 2 lines, .* has 1/);
    });
  });
});
