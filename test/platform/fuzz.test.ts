import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ByteSource, fromBytes } from '../../src/checkpoint/byte-source.js';
import { Image2TextError } from '../../src/errors.js';
import { indexTsv, readBase64, readValue } from '../../src/platform/tables.js';
import { trainingPairs } from '../../src/platform/training-data.js';
import { shardPairs } from '../../src/training/shards.js';
import {
  below,
  changeBytes,
  changeJson,
  changeParts,
  FUZZ_CASES,
  FUZZ_SEED,
  pick,
  type Random,
  seeded,
} from '../support/fuzz.js';
import { expectNoPollution, expectTypedError } from '../support/typed-error.js';

/** What `body` gives, or undefined after a typed error of one line. */
async function attempt<T>(what: string, body: () => Promise<T>): Promise<T | undefined> {
  try {
    return await body();
  } catch (error) {
    expectTypedError(error, what);
    return undefined;
  } finally {
    expectNoPollution(what);
  }
}

describe('data files whose structure was changed', () => {
  const folder = mkdtempSync(join(tmpdir(), 'image2text-fuzz-'));
  after(() => rmSync(folder, { recursive: true, force: true }));

  it(`TSV: ${FUZZ_CASES} files have the rows that a plain split gives them, seed ${FUZZ_SEED}`, async () => {
    const random = seeded(FUZZ_SEED);
    const path = join(folder, 'a.tsv');
    const counts = { values: 0, refused: 0 };
    for (let n = 0; n < FUZZ_CASES; n++) {
      const row = (): string => {
        const base64 = Buffer.from(Array.from({ length: below(random, 20) }, () => below(random, 256))).toString(
          'base64',
        );
        const value = pick(random, [base64, base64, base64.slice(1), `${base64}==`, '%', '']);
        return [`key${below(random, 5)}`, value, pick(random, ['', 'more'])].slice(0, 1 + below(random, 3)).join('\t');
      };
      const rows = Array.from({ length: below(random, 6) }, row);
      const text = rows.join(pick(random, ['\n', '\n', '\r\n', '\n\n'])) + pick(random, ['', '\n']);
      const bytes = random() < 0.3 ? changeBytes(random, Buffer.from(text)) : Buffer.from(text);
      writeFileSync(path, bytes);
      const what = `TSV case ${n} of seed ${FUZZ_SEED}: ${JSON.stringify(text)}`;
      const found = (await attempt(what, () => indexTsv(path)))!;
      const lines = Buffer.from(bytes)
        .toString('latin1')
        .split('\n')
        .map((line) => line.replace(/\r$/, ''));
      const expected = lines.filter((line) => line !== '');
      assert.equal(found.length, expected.length, what);
      for (const [i, tsvRow] of found.entries()) {
        const [, value] = expected[i]!.split('\t');
        const read = await attempt(what, () => readValue(tsvRow));
        assert.equal(read?.toString('latin1'), value, what);
        const image = await attempt(what, () => readBase64(tsvRow));
        const digits = (value ?? '').trim().replace(/={1,2}$/, '');
        if (image === undefined) counts.refused++;
        else {
          assert.equal(
            Buffer.from(image).toString('base64').replace(/=*$/, ''),
            Buffer.from(digits, 'base64').toString('base64').replace(/=*$/, ''),
            what,
          );
          counts.values++;
        }
      }
    }
    console.log(`      TSV, seed ${FUZZ_SEED}: ${counts.values} values, ${counts.refused} refused`);
    assert.ok(counts.values > FUZZ_CASES / 4 && counts.refused > FUZZ_CASES / 4);
  });

  it(`JSONL for training: ${FUZZ_CASES} files give a pair or an error in the place of each line, seed ${FUZZ_SEED}`, async () => {
    const random = seeded(FUZZ_SEED);
    const path = join(folder, 'a.jsonl');
    const rows: readonly unknown[] = [
      { image: 'a.png', text: 'a sign' },
      { file_name: 'b.png', captions: ['a', 'b'] },
      { file: 'c.png', answer: 'yes', question: 'what?' },
    ];
    const counts = { pairs: 0, errors: 0 };
    for (let n = 0; n < FUZZ_CASES; n++) {
      const lines = changeParts(random, rows, (row) => changeJson(random, row)).map((row) => JSON.stringify(row));
      const cut =
        random() < 0.3 ? changeParts(random, lines, (line) => line.slice(0, below(random, line.length))) : lines;
      const text = cut.join(pick(random, ['\n', '\r\n'])) + pick(random, ['', '\n']);
      writeFileSync(path, random() < 0.1 ? changeBytes(random, Buffer.from(text)) : text);
      const what = `JSONL case ${n} of seed ${FUZZ_SEED}: ${JSON.stringify(text)}`;
      await attempt(what, async () => {
        for await (const pair of trainingPairs(path)) {
          if (pair instanceof Error) {
            assert.ok(pair instanceof Image2TextError && pair.code === 'bad-pair', `${what}: ${pair.stack}`);
            assert.ok(!/[\r\n]/.test(pair.message), `${what}: ${pair.message}`);
            counts.errors++;
          } else {
            assert.equal(typeof pair.text, 'string', what);
            for (const field of ['prompt', 'question'] as const)
              assert.ok(['string', 'undefined'].includes(typeof pair[field]), `${what}: ${field}`);
            counts.pairs++;
          }
        }
      });
    }
    console.log(`      JSONL, seed ${FUZZ_SEED}: ${counts.pairs} pairs, ${counts.errors} errors`);
    assert.ok(counts.pairs > FUZZ_CASES && counts.errors > FUZZ_CASES / 4);
  });

  it(`tar: ${FUZZ_CASES} shards are walked once and give pairs or an error, seed ${FUZZ_SEED}`, async () => {
    const random = seeded(FUZZ_SEED);
    const counts = { pairs: 0, bad: 0, refused: 0 };
    for (let n = 0; n < FUZZ_CASES; n++) {
      const bytes = writeTar(changeParts(random, MEMBERS, (member) => changeMember(random, member)));
      const shard = random() < 0.2 ? bytes.subarray(0, below(random, bytes.length + 1)) : bytes;
      let reads = 0;
      const whole = fromBytes(shard);
      const source: ByteSource = {
        size: shard.length,
        slice(start, end) {
          reads++;
          return whole.slice(start, end);
        },
      };
      const what = `tar case ${n} of seed ${FUZZ_SEED}`;
      const pairs = await attempt(what, async () => {
        const found: unknown[] = [];
        for await (const pair of shardPairs(source, 'a.tar')) {
          assert.ok(reads <= 4 + shard.length / 256, `${what}: ${reads} reads of ${shard.length} bytes`);
          found.push(pair);
          if (pair instanceof Error) {
            assert.ok(pair instanceof Image2TextError && !/[\r\n]/.test(pair.message), `${what}: ${pair.stack}`);
            counts.bad++;
            continue;
          }
          assert.equal(typeof pair.text, 'string', what);
          const image = await (pair.image as () => Promise<Uint8Array>)();
          assert.ok(image.length <= shard.length, what);
          counts.pairs++;
        }
        return found;
      });
      assert.ok(reads <= 4 + shard.length / 256, `${what}: ${reads} reads of ${shard.length} bytes`);
      if (pairs === undefined) counts.refused++;
    }
    console.log(`      tar, seed ${FUZZ_SEED}: ${counts.pairs} pairs, ${counts.bad} bad, ${counts.refused} refused`);
    assert.ok(counts.pairs > FUZZ_CASES / 4 && counts.bad > FUZZ_CASES / 20 && counts.refused > FUZZ_CASES / 20);
  });
});

interface TarMember {
  readonly name: string;
  readonly data: string;
  readonly type: string;
  /** What the header says in place of the size. */
  readonly size?: string;
  readonly magic: string;
}

const file = (name: string, data: string): TarMember => ({ name, data, type: '0', magic: 'ustar\0' });

const MEMBERS: readonly TarMember[] = [
  file('a.png', 'not decoded here'),
  file('a.txt', 'a sign'),
  { ...file('././@PaxHeader', '13 path=b.jpg\n'), type: 'x' },
  file('short.jpg', 'x'.repeat(700)),
  file('b.json', '{"caption": "two", "question": "what?"}'),
  { ...file('././@LongLink', 'folder/c.webp\0'), type: 'L' },
  file('cut', 'y'),
  file('folder/c.txt', 'three'),
];

function changeMember(random: Random, member: TarMember): TarMember {
  const kind = below(random, 6);
  const sizes = [
    '',
    '-1',
    '77777777777',
    '00000000000',
    '00000000001',
    '8',
    '9z',
    '\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01',
    '\xff\xff',
  ];
  if (kind === 0) return { ...member, size: pick(random, sizes) };
  if (kind === 1) return { ...member, type: pick(random, ['0', '\0', '7', 'L', 'K', 'x', 'g', '5', '2', 'S']) };
  if (kind === 2)
    return { ...member, name: pick(random, ['a.png', 'b.txt', '../x.png', '.png', '', 'a/b/c.jpg', 'x'.repeat(99)]) };
  if (kind === 3) return { ...member, magic: pick(random, ['', 'ustar ', 'ustar\0']) };
  const fields = [
    'path=',
    'size=',
    'size=-1536',
    'size=-1024',
    'size=1e3',
    'size=9007199254740993',
    'size=0',
    'path=a.png',
    '__proto__=x',
  ];
  const record = pick(random, fields);
  if (kind === 4)
    return { ...member, type: 'x', data: `${pick(random, [record.length + 4, 0, 1, 99_999])} ${record}\n` };
  return {
    ...member,
    data: pick(random, ['', '{}', '{"caption": 5}', '{"text":"a","prompt":{}}', 'z'.repeat(below(random, 3000))]),
  };
}

/** A ustar file, with right checksums. */
function writeTar(members: readonly TarMember[]): Uint8Array {
  const parts = members.flatMap(({ name, data, type, size, magic }) => {
    const content = Buffer.from(data, 'latin1');
    const header = Buffer.alloc(512);
    header.write(name, 0, 100, 'latin1');
    header.write(size ?? content.length.toString(8).padStart(11, '0'), 124, 12, 'latin1');
    header.write(type, 156, 1, 'latin1');
    header.write(magic, 257, 6, 'latin1');
    header.fill(0x20, 148, 156);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 8, 'latin1');
    return [header, content, Buffer.alloc((512 - (content.length % 512)) % 512)];
  });
  return new Uint8Array(Buffer.concat([...parts, Buffer.alloc(1024)]));
}
