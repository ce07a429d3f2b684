import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { fromFile, trainingPairs } from '../../src/node.js';
import { holdOut, shardPairs, type TrainingPair } from '../../src/training/index.js';
import { EXAMPLES } from '../support/fixtures.js';
import { scratch } from '../support/folder.js';

const BOOK = 'red-book-short.png';
const bookBytes = new Uint8Array(readFileSync(EXAMPLES + BOOK));

/** Pairs with their image as bytes, and the messages of bad ones. */
async function collect(pairs: AsyncIterable<TrainingPair | Error>) {
  const good: { text: string; source: string; bytes: Uint8Array; prompt?: string; question?: string }[] = [];
  const errors: string[] = [];
  for await (const pair of pairs) {
    if (pair instanceof Error) {
      errors.push(pair.message);
      continue;
    }
    const { image, text, source, prompt, question } = pair;
    const input = typeof image === 'function' ? await image() : image;
    const bytes = new Uint8Array(typeof input === 'string' ? readFileSync(input) : (input as Uint8Array));
    good.push({
      ...{ text, source: source!, bytes },
      ...(prompt === undefined ? {} : { prompt }),
      ...(question === undefined ? {} : { question }),
    });
  }
  return { good, errors };
}

describe('data for training', () => {
  const folder = scratch();
  const at = (name: string) => {
    const path = join(folder(), name);
    mkdirSync(dirname(path), { recursive: true });
    return path;
  };
  const write = (name: string, content: string | Uint8Array): string => {
    writeFileSync(at(name), content);
    return at(name);
  };
  const image = (name: string): void => copyFileSync(EXAMPLES + BOOK, at(name));

  it('a folder with texts beside its images, and in folders below', async () => {
    image('side/b.png');
    image('side/more/a.JPG');
    image('side/none.png');
    image('side/latin.png');
    image('side/.hidden.png');
    write('side/b.txt', '\ufeffa red book\r\n');
    write('side/more/a.txt', 'a book');
    write('side/latin.txt', Buffer.from('ein K\xe4se', 'latin1'));
    const { good, errors } = await collect(trainingPairs(at('side')));
    assert.deepEqual(
      good.map(({ text, source }) => [text, source]),
      [
        ['a red book', at('side/b.png')],
        ['a book', at('side/more/a.JPG')],
      ],
    );
    for (const { bytes } of good) assert.deepEqual(bytes, bookBytes);
    assert.equal(errors.length, 2);
    assert.match(errors[0]!, /latin\.png: .*\.txt/);
    assert.match(errors[1]!, /none\.png: .*there is no \.txt/);
  });

  it("Hugging Face's imagefolder, with metadata.jsonl", async () => {
    image('imagefolder/train/0001.png');
    const rows = [
      { file_name: 'train/0001.png', text: 'a red book' },
      { file_name: 'train/0001.png', captions: ['one', 'two'] },
      { file_name: 'train/0001.png', question: 'what is it?', answer: 'a book' },
      { file_name: 'train/0001.png', prompt: 'a photo of', caption: 'a book' },
      { file_name: 'train/0001.png' },
      { text: 'of nothing' },
    ];
    write('imagefolder/metadata.jsonl', `${rows.map((row) => JSON.stringify(row)).join('\n')}\n\n{\n`);
    const { good, errors } = await collect(trainingPairs(at('imagefolder')));
    const file = at('imagefolder/metadata.jsonl');
    assert.deepEqual(
      good.map(({ bytes: _, ...rest }) => rest),
      [
        { text: 'a red book', source: `${file} line 1` },
        { text: 'one', source: `${file} line 2` },
        { text: 'two', source: `${file} line 2` },
        { text: 'a book', source: `${file} line 3`, question: 'what is it?' },
        { text: 'a book', source: `${file} line 4`, prompt: 'a photo of' },
      ],
    );
    for (const [n, line] of [5, 6, 8].entries()) assert.match(errors[n]!, new RegExp(`metadata\\.jsonl: line ${line}`));
  });

  it("Hugging Face's imagefolder, with metadata.csv", async () => {
    image('csv/train/0001.png');
    image('csv/a, "b".png');
    const rows = [
      '\ufefffile_name,text,question',
      'train/0001.png,a red book,',
      '"train/0001.png","a ""big"" book, red",what is it?',
      '"a, ""b"".png","two\r\nlines",',
      '',
      'train/0001.png,too,many,fields',
      'train/0001.png,a "big" book,', // must be quoted
      'train/0001.png,"a" book,',
      'train/0001.png,,',
      ',a book,',
      'train/0001.png,"  ein K\u00e4se ",',
    ];
    const file = write('csv/metadata.csv', rows.join('\r\n'));
    const { good, errors } = await collect(trainingPairs(at('csv')));
    assert.deepEqual(
      good.map(({ bytes: _, ...rest }) => rest),
      [
        { text: 'a red book', source: `${file} line 2` },
        { text: 'a "big" book, red', question: 'what is it?', source: `${file} line 3` },
        { text: 'two\nlines', source: `${file} line 4` },
        { text: '  ein K\u00e4se ', source: `${file} line 12` },
      ],
    );
    const expected: [number, RegExp][] = [
      [7, /4 fields where the first line has 3/],
      [8, /quotation mark within a field/],
      [9, /after the closing quotation mark/],
      [10, /expected a text/],
      [11, /file_name/],
    ];
    assert.equal(errors.length, expected.length, errors.join('\n'));
    for (const [n, [line, message]] of expected.entries()) {
      assert.match(errors[n]!, new RegExp(`metadata\\.csv: line ${line}: `));
      assert.match(errors[n]!, message);
    }
    assert.deepEqual((await collect(trainingPairs(file))).good, good);
    for (const [name, content, message] of [
      [
        'open',
        'file_name,text\n0001.png,"a book\n0001.png,a book\n',
        /line 2: bad-csv: a quotation mark here is never closed/,
      ],
      ['latin', Buffer.from('file_name,t\xe4xt\n', 'latin1'), /line 1: bad-csv: .*UTF-8/],
      ['nameless', 'name,text\na.png,a\n', /line 1: bad-csv: .*no column "file_name"/],
    ] as const)
      await assert.rejects(collect(trainingPairs(write(`${name}.csv`, content))), message);
    write('csv/metadata.jsonl', '{}');
    await assert.rejects(collect(trainingPairs(at('csv'))), /metadata\.jsonl and metadata\.csv/);
  });

  it('CSV: what is written by the rules is read as it was', () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.string({ unit: fc.constantFrom('a', ',', '"', '\n', ' ', '\u00e9', "'", ';') }), {
          minLength: 1,
          maxLength: 5,
        }),
        async (texts) => {
          const quoted = (text: string): string => `"${text.replaceAll('"', '""')}"`;
          const rows = texts.map((text) => `a.png,${quoted(text)}`);
          const file = write('round.csv', ['file_name,text', ...rows].join('\n'));
          const found: string[] = [];
          for await (const pair of trainingPairs(file)) found.push(pair instanceof Error ? '' : pair.text); // empty: no text
          assert.deepEqual(found, texts);
        },
      ),
      { seed: 1, numRuns: 300 },
    ));

  it("the original's TSV: images in base64, captions in a file of the same keys", async () => {
    const base64 = Buffer.from(bookBytes).toString('base64');
    write('coco.img.tsv', `1\t${base64}\n2\t${base64}\n3\t${base64}\n4\tno base64!\n`);
    write(
      'coco.caption.tsv',
      '2\t[{"caption": "two"}, {"caption": "zwei"}]\n1\t[{"caption": "one"}]\n3\t{}\n4\t[{"caption": "four"}]\n',
    );
    const file = at('coco.img.tsv');
    const found: (TrainingPair | Error)[] = [];
    for await (const pair of trainingPairs(file)) found.push(pair);
    const good = found.filter((pair): pair is TrainingPair => !(pair instanceof Error));
    assert.deepEqual(
      good.map(({ text, source }) => [text, source]),
      [
        ['one', `${file} line 1`],
        ['two', `${file} line 2`],
        ['zwei', `${file} line 2`],
        ['four', `${file} line 4`],
      ],
    );
    assert.equal(good[1]!.image, good[2]!.image); // one image, encoded once
    const read = (pair: TrainingPair) => (pair.image as () => Promise<Uint8Array>)();
    assert.deepEqual(await read(good[0]!), bookBytes);
    await assert.rejects(read(good[3]!), /coco\.img\.tsv: line 4: tsv-base64/);
    assert.match((found.find((pair) => pair instanceof Error) as Error).message, /line 3: .*no JSON list/);
  });

  const long = `deep/${'x'.repeat(60)}/${'y'.repeat(90)}`;
  const prepareShard = (): void => {
    image('shard/000.png');
    write('shard/000.txt', 'a red book\n');
    write('shard/000.json', '{"caption": "not this one"}');
    image('shard/001.jpg');
    write('shard/001.json', '{"caption": "ein Buch", "question": "was ist das?", "width": 64}');
    image(`shard/${long}.png`);
    write(`shard/${long}.txt`, 'deep');
    image('shard/alone.png');
    write('shard/lost.txt', 'no image');
    image('shard/zz.seg.png');
    write('shard/zz.txt', 'a key ends at the first full stop');
  };
  for (const format of ['ustar', 'pax', 'gnu']) {
    it(`webdataset shards of tar's format ${format}`, async () => {
      prepareShard();
      const shard = at(`${format}.tar`);
      const args = [`--format=${format}`, '--sort=name', '-cf', shard, '-C', at('shard')];
      const names = ['000.json', '000.png', '000.txt', '001.jpg', '001.json', 'alone.png', 'deep', 'lost.txt'];
      const made = spawnSync('tar', [...args, ...names, 'zz.seg.png', 'zz.txt'], { encoding: 'utf8' });
      assert.equal(made.status, 0, made.stderr);
      const { good, errors } = await collect(trainingPairs(shard));
      assert.deepEqual(
        good.map(({ bytes: _, ...rest }) => rest),
        [
          { text: 'a red book', source: `${shard} 000` },
          { text: 'ein Buch', source: `${shard} 001`, question: 'was ist das?' },
          { text: 'deep', source: `${shard} ${long}` },
          { text: 'a key ends at the first full stop', source: `${shard} zz` },
        ],
      );
      for (const { bytes } of good) assert.deepEqual(bytes, bookBytes);
      assert.equal(errors.length, 2);
      assert.match(errors[0]!, /alone: .*no \.txt or \.json/);
      assert.match(errors[1]!, /lost: .*no image/);
      const blob = await collect(shardPairs(new Blob([readFileSync(shard)]), 'chosen.tar')); // as a page has it
      assert.equal(blob.good.length, 4);
      assert.deepEqual(blob.good[2]!.bytes, bookBytes);
    });
  }

  it('a folder of shards is read one after the other', async () => {
    for (const n of [0, 1]) {
      image(`two/${n}.png`);
      write(`two/${n}.txt`, `number ${n}`);
      mkdirSync(at('shards'), { recursive: true });
      spawnSync('tar', ['-cf', join(folder(), `shards/${n}.tar`), '-C', at('two'), `${n}.png`, `${n}.txt`]);
    }
    const { good } = await collect(trainingPairs(join(folder(), 'shards')));
    assert.deepEqual(
      good.map(({ text }) => text),
      ['number 0', 'number 1'],
    );
  });

  it('some pairs are kept apart, all of an image together, the same ones by the same seed', async () => {
    const list: (TrainingPair | Error)[] = Array.from({ length: 20 }, (_, n) => ({
      image: `${Math.floor(n / 2)}.png`,
      text: String(n),
    }));
    list.push(new Error('bad'));
    const { pairs, validation } = await holdOut(list, 5, 1);
    assert.equal(validation.length, 6); // three images of two texts
    assert.deepEqual(new Set([...pairs, ...validation]), new Set(list));
    const held = new Set(validation.map(({ image }) => image));
    assert.equal(held.size, 3);
    for (const pair of pairs) assert.ok(pair instanceof Error || !held.has(pair.image));
    assert.deepEqual(await holdOut(list, 5, 1), { pairs, validation });
    assert.notDeepEqual((await holdOut(list, 5, 2)).validation, validation);
    await assert.rejects(holdOut(list, 20), /leave none to learn/);
  });

  it('what is no data set, a damaged and a cut shard are refused', async () => {
    const refused = (path: string, message: RegExp) => assert.rejects(collect(trainingPairs(path)), message);
    await refused(at('nowhere'), /no-such-data: there is no such file or folder/);
    await refused(write('data.parquet', 'x'), /expected a folder, or a \.jsonl/);
    await refused(write('data.tar.gz', 'x'), /decompress it first/);
    mkdirSync(at('empty'));
    await refused(at('empty'), /there are no images/);
    await refused(write('text.tar', 'x'.repeat(2000)), /not-a-tar: this is no tar file/);
    await refused(write('short.tar', 'x'), /ends within a header/);
    prepareShard();
    const shard = at('cut.tar');
    spawnSync('tar', ['-cf', shard, '-C', at('shard'), '000.png', '000.txt', '001.jpg', '001.json']);
    const whole = readFileSync(shard);
    truncateSync(shard, 700);
    await refused(shard, /is cut off/);
    const damaged = new Uint8Array(whole);
    const second = 512 + Math.ceil(bookBytes.length / 512) * 512;
    damaged[second + 1]! ^= 1;
    await refused(write('damaged.tar', damaged), /header of a file is damaged/);
    const source = await fromFile(at('damaged.tar'));
    await assert.rejects(async () => {
      for await (const _ of shardPairs(source, 'damaged.tar'));
    });
  });
});
