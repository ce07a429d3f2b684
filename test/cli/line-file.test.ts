import assert from 'node:assert/strict';
import { existsSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import type { LineRule } from '../../src/cli/line-files.js';
import { openLineFile } from '../../src/cli/line-files.js';
import { answerRule, answerTsv, captionRule, captionTsv } from '../../src/cli/output.js';
import { readLines } from '../../src/platform/tables.js';
import { scratch } from '../support/folder.js';
import { FULL } from '../support/full.js';

const KEYS = ['a.jpg', 'b.jpg', 'täglich/ü.png', 'a.jpg']; // a key may come twice
const TEXTS = ['a "red" book', 'tab\there', 'naïve ☃ 😀', ''];

interface Kind {
  readonly name: string;
  readonly rule: LineRule;
  readonly keys: readonly string[];
  readonly lines: readonly string[];
}

const KINDS: readonly Kind[] = [
  {
    name: 'JSON lines',
    rule: captionRule('jsonl', KEYS),
    keys: KEYS,
    lines: KEYS.map((file, n) => JSON.stringify({ file, text: TEXTS[n] })),
  },
  {
    name: 'caption TSV',
    rule: captionRule('tsv', KEYS),
    keys: KEYS,
    lines: KEYS.map((key, n) => captionTsv(key, TEXTS[n]!)),
  },
  {
    name: 'answer TSV',
    rule: answerRule('tsv', []),
    keys: ['1', '"1"', '2', '3'],
    lines: [1, '1', 2, 3].map((id, n) => answerTsv(TEXTS[n]!, id)),
  },
];

/** What a run does: opens, leaves out what is there, writes the rest. */
async function runOver({ rule, keys, lines }: Kind, path: string): Promise<void> {
  const file = await openLineFile(path, rule, { skipExisting: true });
  for (const [n, key] of keys.entries()) if (!file.claim(key)) await file.append([lines[n]!]);
  await file.close();
}

describe('files that grow by whole lines', () => {
  const folder = scratch();

  for (const kind of KINDS) {
    const whole = Buffer.from(kind.lines.map((line) => `${line}\n`).join(''));

    const step = FULL ? 1 : 3;
    it(`${kind.name}: cut off at ${step === 1 ? 'each' : 'every third'} of ${whole.length} bytes and gone on with, nothing is lost or doubled`, async () => {
      const path = join(folder(), 'cut');
      for (let bytes = 0; bytes <= whole.length; bytes += step) {
        writeFileSync(path, whole.subarray(0, bytes));
        await runOver(kind, path);
        assert.deepEqual(readFileSync(path), whole, `cut after ${bytes} bytes`);
      }
    });

    it(`${kind.name}: a file of another making is left as it is`, async () => {
      const path = join(folder(), 'other');
      for (const other of [
        'my notes\nmore\n',
        'my notes',
        '{"name":"x"}\n',
        `${kind.lines[0]}\nmy notes`,
        '\n\n',
        '{"file":"else.jpg","te',
        '{"file":"a.jpg","label":"cat"}',
        '{"file":"a.jpg","label',
      ]) {
        writeFileSync(path, other);
        await assert.rejects(() => runOver(kind, path), { name: 'Image2TextError', code: 'not-our-output' });
        assert.equal(readFileSync(path, 'utf8'), other);
      }
    });
  }

  it('there is no file before there is a line', async () => {
    const path = join(folder(), 'none');
    const { rule, lines } = KINDS[0]!;
    const file = await openLineFile(path, rule);
    await file.append([]);
    assert.equal(existsSync(path), false);
    await file.append(lines);
    await file.close();
    assert.equal(readFileSync(path, 'utf8'), lines.map((line) => `${line}\n`).join(''));
  });

  it('what is there is gone on with on request only', async () => {
    const path = join(folder(), 'there');
    const { rule, lines } = KINDS[0]!;
    writeFileSync(path, `${lines[0]}\n`);
    await assert.rejects(() => openLineFile(path, rule), /is there already/);

    await assert.rejects(() => openLineFile(join(folder(), 'no/such/folder'), rule), /there is no folder/);
  });

  it('lines are read as they are, whatever the ends of lines and the size of chunks', async () => {
    const path = join(folder(), 'lines');
    const line = fc.string({ maxLength: 9 }).map((text) => text.replace(/[\r\n]/g, ''));
    await fc.assert(
      fc.asyncProperty(fc.array(line), fc.constantFrom('\n', '\r\n'), fc.boolean(), async (lines, end, ended) => {
        writeFileSync(path, lines.join(end) + (ended && lines.length > 0 ? end : ''));
        const content = readFileSync(path);
        const read: string[] = [];
        for await (const { bytes, start, next } of readLines(path)) {
          assert.deepEqual(content.subarray(start, start + bytes.length), Buffer.from(bytes));
          assert.ok(next >= start + bytes.length && next <= content.length);
          read.push(new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes));
        }
        if (!ended && lines.at(-1) === '') lines.pop(); // an end of file behind an end of line is no line
        assert.deepEqual(read, lines);
      }),
      { seed: 7, numRuns: 200 },
    );
  });

  it('a line over several chunks of a large file', async () => {
    const path = join(folder(), 'large');
    const lines = ['x'.repeat(3 * 2 ** 20 + 5), 'y', 'z'.repeat(2 ** 20 - 1), ''];
    writeFileSync(path, `${lines.join('\n')}\n`);
    const sizes: number[] = [];
    for await (const { bytes } of readLines(path)) sizes.push(bytes.length);
    assert.deepEqual(
      sizes,
      lines.map(({ length }) => length),
    );
  });

  it('a folder and a link that leads nowhere are refused before anything is written, whatever is asked', async () => {
    const { rule } = KINDS[0]!;
    const link = join(folder(), 'link');
    symlinkSync(join(folder(), 'nowhere'), link);
    for (const options of [{}, { overwrite: true }, { skipExisting: true }]) {
      await assert.rejects(openLineFile(folder(), rule, options), /is a folder: lines go into a file/);
      await assert.rejects(openLineFile(link, rule, options), /is a link that leads nowhere/);
    }
    assert.equal(existsSync(join(folder(), 'nowhere')), false);
  });
});
