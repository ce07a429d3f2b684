import assert from 'node:assert/strict';
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { EXAMPLES } from '../support/fixtures.js';
import { scratch } from '../support/folder.js';
import { cli, demo, fillFolder, IMAGES, textsBelow } from './support.js';

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
    assert.equal((await demo([...args, '--quiet', '--overwrite'])).stderr, '');
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
    await demo([...args.slice(0, -1), '--overwrite']);
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

  it('a sidecar that cannot be written is reported, the other images are done', async () => {
    const here = fresh('unwritable', 3);
    mkdirSync(join(here, '00-black-round-sign-sky.txt'));
    const { code, stderr } = await demo(['caption', here, '--sidecar', '.txt', '--overwrite']);
    assert.equal(code, 1);
    assert.match(
      stderr,
      /^image2text: \S+-round-sign-sky\.txt: cannot-write: EISDIR.*\n3 images: 2 done, .* 1 failed\n$/,
    );
    assert.deepEqual(Object.keys(textsBelow(here)), ['01-black-shirt-press.txt', '02-black-shirt-right.txt']);
  });

  it('files in the way are listed at once, before any work', async () => {
    const here = fresh('clashes', 3);
    copyFileSync(BOOK, join(here, '00-black-round-sign-sky.png'));
    writeFileSync(join(here, '01-black-shirt-press.txt'), 'mine');
    writeFileSync(join(here, '02-black-shirt-right.txt'), 'mine too');
    const shared = await cli(['caption', here, '--sidecar', '.txt', '--model', 'no-such-model']);
    assert.equal(shared.code, 2);
    rmSync(join(here, '00-black-round-sign-sky.png'));
    const there = await cli(['caption', here, '--sidecar', '.txt', '--model', 'no-such-model']);
    assert.equal(there.code, 2);
    assert.deepEqual(lines(there.stderr), [
      'image2text: --sidecar .txt: 2 files are there already: --skip-existing leaves them, --overwrite writes anew',
      `image2text:   ${here}/01-black-shirt-press.txt`,
      `image2text:   ${here}/02-black-shirt-right.txt`,
    ]);
    assert.deepEqual(Object.values(textsBelow(here)), ['mine', 'mine too']);
  });

  it('a name of 255 bytes works; links and pipes under old temporary names are left alone', async () => {
    const here = join(folder(), 'long');
    mkdirSync(here);
    const name = 'n'.repeat(251);
    copyFileSync(BOOK, join(here, `${name}.png`));
    writeFileSync(join(here, 'precious'), 'precious');
    symlinkSync(join(here, 'precious'), join(here, `.${name.slice(0, 200)}.txt.image2text-part`));
    const { code, stderr } = await demo(['caption', here, '--sidecar', '.txt', '--quiet']);
    assert.deepEqual([code, stderr], [0, '']);
    assert.equal(readFileSync(join(here, `${name}.txt`), 'utf8'), 'a red book with the title short\n');
    assert.equal(readFileSync(join(here, 'precious'), 'utf8'), 'precious');
    assert.deepEqual(
      readdirSync(here).filter((file) => file.startsWith('.i2t')),
      [],
    );
  });

  it('two runs on the same outputs: the second is refused and says who holds them', async () => {
    const here = fresh('locked', 2);
    const output = join(folder(), 'locked.jsonl');
    const input = { name: 'a', path: join(here, '00-black-round-sign-sky.jpg'), read: async () => '' };
    const { openCaptionStore } = await import('../../src/cli/output.js');
    const { inShard } = await import('../../src/cli/inputs.js');
    const context = { signal: new AbortController().signal };
    for (const flags of [
      ['--sidecar', '.txt'],
      ['--output', output],
    ]) {
      const store = await openCaptionStore(
        [input],
        flags[0] === '--sidecar' ? { sidecar: '.txt' } : { output },
        context,
      );
      const { code, stderr } = await demo(['caption', here, ...flags]);
      assert.equal(code, 2);
      assert.match(stderr, new RegExp(`another run writes there: process ${process.pid} on \\S+\\n$`));
      await store.close();
      assert.equal((await demo(['caption', here, ...flags])).code, 0);
    }
    // Shards go by the hash of a file's name, and the folder's is another one each time: those are taken that hold its first file.
    const shardOf = (count: number): number =>
      Array.from({ length: count }, (_, n) => n + 1).find((index) => inShard([first], { index, count }).length > 0)!;
    const first = { name: join(here, '00-black-round-sign-sky.jpg'), read: async () => '' };
    const [half, third] = [shardOf(2), shardOf(3)];
    const store = await openCaptionStore([input], { sidecar: '.tag', shard: { index: half, count: 2 } }, context);
    const sidecars = ['caption', here, '--sidecar', '.tag'];
    assert.equal((await demo([...sidecars, '--shard', `${half}/2`])).code, 2);
    assert.equal((await demo([...sidecars, '--shard', `${third}/3`])).code, 2);
    assert.equal((await demo(sidecars)).code, 2);
    assert.equal((await demo([...sidecars, '--shard', `${3 - half}/2`])).code, 0);
    await store.close();
  });

  it('the shards of a run are together the whole run', async () => {
    const here = fresh('shards', 6);
    const whole = lines((await demo(['caption', here, '--recursive'])).stdout);
    const parts: string[] = [];
    for (let n = 1; n <= 3; n++) {
      parts.push(...lines((await demo(['caption', here, '--recursive', '--shard', `${n}/3`])).stdout));
    }
    assert.deepEqual(parts.sort(), whole.sort());
  });

  it('the shards of a TSV are together the whole', async () => {
    const file = join(folder(), 'sharded.tsv');
    writeFileSync(file, pack(IMAGES));
    const whole = lines((await demo(['caption', '--tsv', file])).stdout);
    const parts: string[] = [];
    for (let n = 1; n <= 3; n++)
      parts.push(...lines((await demo(['caption', '--tsv', file, '--shard', `${n}/3`])).stdout));
    assert.equal(whole.length, IMAGES.length);
    assert.deepEqual(parts.sort(), whole.sort());
  });

  it('images are found by their bytes; what is left out is counted by ending', async () => {
    const here = join(folder(), 'bytes');
    mkdirSync(here);
    for (const name of ['a.pjpeg', 'b', 'c.dat', 'd.jfif'])
      copyFileSync(`${EXAMPLES}blue-mug-dream.jpg`, join(here, name));
    for (const name of ['x.heic', 'y.HEIC', 'z.pdf', 'noending', 'list.txt'])
      writeFileSync(join(here, name), 'no image');
    const { code, stdout, stderr } = await demo(['caption', here]);
    assert.equal(code, 0);
    assert.deepEqual(
      lines(stdout).map((line) => line.split('\t')[0]),
      ['a.pjpeg', 'b', 'c.dat', 'd.jfif'].map((name) => `${here}/${name}`),
    );
    assert.equal(stderr, '5 files left out: 2 .heic, 1 .pdf, 1 .txt, 1 without an ending\n');
  });

  it('--files-from: lines or what find -print0 writes, from a file or stdin', async () => {
    const here = fresh('from', 2);
    const names = ['00-black-round-sign-sky.jpg', '01-black-shirt-press.jpg'].map((name) => join(here, name));
    const list = join(folder(), 'list');
    writeFileSync(list, `${names.join('\r\n')}\n\n`);
    const whole = await demo(['caption', ...names]);
    assert.deepEqual(await demo(['caption', '--files-from', list]), whole);
    assert.deepEqual(await demo(['caption', '--files-from', '-'], { stdin: `${names.join('\0')}\0` }), whole);
  });

  it('names that are not UTF-8, in folders and lists, stdout, JSON and sidecars', async function () {
    if (process.platform !== 'linux') return this.skip(); // elsewhere file systems refuse such names
    const here = join(folder(), 'bytes-names');
    mkdirSync(here);
    const path = Buffer.concat([Buffer.from(`${here}/caf`), Buffer.from([0xe9]), Buffer.from('.png')]);
    copyFileSync(BOOK, path);
    const { code, stdout } = await demo(['caption', here]);
    assert.deepEqual([code, stdout], [0, `${here}/caf\\udce9.png\ta red book with the title short\n`]);
    const json = await demo(['caption', '--files-from', '-', '--jsonl'], { stdin: path });
    assert.match(json.stdout, /^\{"file":"[^"]*caf\\udce9\.png","text":"a red/);
    assert.equal((await demo(['caption', here, '--sidecar', '.txt'])).code, 0);
    const sidecar = Buffer.concat([path.subarray(0, -4), Buffer.from('.txt')]);
    assert.equal(readFileSync(sidecar, 'utf8'), 'a red book with the title short\n');
    assert.match((await demo(['caption', here, '--sidecar', '.txt', '--skip-existing'])).stderr, /1 there already/);
  });

  // `push(...list)` fails from about 125,000 on.
  it('260,000 files in folders below each other are listed', async () => {
    const { addFolder } = await import('../../src/cli/inputs.js');
    const [wide, deep] = [130_000, 2];
    let listings = 0;
    const entry = (name: string, kind: 'file' | 'folder') => ({
      name: Buffer.from(name),
      isFile: () => kind === 'file',
      isDirectory: () => kind === 'folder',
      isSymbolicLink: () => false,
    });
    const list = async (): Promise<ReturnType<typeof entry>[]> => {
      const files = Array.from({ length: wide }, (_, n) => entry(`${n}.jpg`, 'file'));
      return ++listings < deep ? [...files, entry('more', 'folder')] : files;
    };
    const found = { inputs: [], leftOut: new Map<string, number>(), unreadable: 0 };
    const context = { report: () => 1, signal: new AbortController().signal };
    await addFolder('data', found, context, true, list);
    assert.deepEqual([found.inputs.length, listings], [wide * deep, deep]);
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
      const rows = lines((await demo([...files(), '--jsonl'])).stdout).map(
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
        const { code, stderr } = await demo([...files(), '--output', output, '--skip-existing']);
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
