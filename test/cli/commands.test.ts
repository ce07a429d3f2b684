import assert from 'node:assert/strict';
import { copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DEMO, EXAMPLES, HOSTILE, REFERENCE, ROOT } from '../support/fixtures.js';
import { scratch } from '../support/folder.js';
import { cli, demo } from './support.js';

const MUG = `${EXAMPLES}blue-mug-dream.jpg`;
const BOOK = `${EXAMPLES}red-book-short.png`;
const lines = (text: string): string[] => text.split('\n').slice(0, -1);
const parse = <T>(text: string): T => JSON.parse(text) as T;

describe('image2text video', () => {
  const folder = scratch();
  const FRAMES = [1, 2, 3, 4, 5, 6].map((n) => `${EXAMPLES}video-1/frame-${n}.png`);
  const SAYS = 'a pink sign moves right\n';

  it('frames, a glob of frames, an animated GIF', async () => {
    assert.deepEqual(await demo(['video', ...FRAMES]), { code: 0, stdout: SAYS, stderr: '' });
    assert.equal((await demo(['video', `${EXAMPLES}video-1/frame-*.png`])).stdout, SAYS);
    assert.equal((await demo(['video', `${EXAMPLES}video-1.gif`])).stdout, SAYS);
  });

  it('the order of frames is the one given; that of a glob counts numbers', async () => {
    const score = async (...names: string[]): Promise<number> =>
      parse<{ score: number }>((await demo(['video', ...names, '--json'])).stdout).score;
    const forth = await score(...FRAMES);
    assert.notEqual(await score(...[...FRAMES].reverse()), forth);
    for (const [n, frame] of FRAMES.entries()) copyFileSync(frame, join(folder(), `f${[1, 2, 3, 10, 20, 100][n]}.png`));
    assert.equal(await score(`${folder()}/f*.png`), forth);
  });

  it('--question, once or more; --prompt; --json', async () => {
    const gif = `${EXAMPLES}video-1.gif`;
    assert.equal((await demo(['video', gif, '--question', 'what is this?'])).code, 0);
    const two = await demo([
      'video',
      gif,
      '--question',
      'what is this?',
      '--question',
      'what color is the sign?',
      '--json',
    ]);
    assert.deepEqual(
      parse<{ question: string }[]>(two.stdout).map(({ question }) => question),
      ['what is this?', 'what color is the sign?'],
    );
    assert.equal((await demo(['video', gif, '--prompt', 'a pink'])).stdout, 'sign moves right\n');
    const row = parse<{ file: string; text: string }>((await demo(['video', gif, '--jsonl'])).stdout);
    assert.deepEqual([row.file, `${row.text}\n`], [gif, SAYS]);
  });

  it('a file that is not there: one line', async () => {
    const { code, stderr } = await demo(['video', 'no-such.gif']);
    assert.equal(code, 1);
    assert.match(stderr, /^image2text: no-such\.gif: no-such-file: .*\n$/);
  });
});

describe('image2text classify', () => {
  const folder = scratch();
  interface Found {
    readonly file: string;
    readonly labels: readonly { label: string; probability: number; logProb: number }[];
  }

  it('names with commas between them, best first', async () => {
    const { code, stdout } = await demo(['classify', MUG, '--labels', 'a red book, a blue mug,a sign']);
    assert.equal(code, 0);
    assert.match(stdout, /^0\.9\d{3}\ta blue mug\n0\.\d{4}\ta \w+( book)?\n0\.\d{4}\ta \w+( book)?\n$/);
  });

  it('names from a file; --top; probabilities over all names sum to 1', async () => {
    const labels = join(folder(), 'labels.txt');
    const names = ['a sign', 'a blue mug', 'a red book', 'a shirt', 'a phone', 'a bottle', 'a book'];
    writeFileSync(labels, `\ufeff${names.join('\r\n')}\r\n\r\n`);
    const found = parse<Found>((await demo(['classify', BOOK, '--labels', labels, '--top', '100', '--json'])).stdout);
    assert.deepEqual(found.labels.map(({ label }) => label).sort(), [...names].sort());
    assert.ok(Math.abs(found.labels.reduce((sum, { probability }) => sum + probability, 0) - 1) < 1e-6);
    assert.equal(found.labels[0]!.label, 'a red book');
    assert.equal(lines((await demo(['classify', BOOK, '--labels', labels])).stdout).length, 5);
    assert.equal(lines((await demo(['classify', BOOK, '--labels', labels, '--top', '2'])).stdout).length, 2);
  });

  it('a repeated name counts once, with a note', async () => {
    const { code, stdout, stderr } = await demo(['classify', MUG, '--labels', 'a mug,a mug, a mug,a book']);
    assert.deepEqual([code, lines(stdout).length], [0, 2]);
    assert.equal(stderr, 'image2text: --labels: left out 2 of 4 names, which repeat others\n');
    const quiet = await demo(['classify', MUG, '--labels', 'a mug,a mug,a book', '--quiet']);
    assert.deepEqual([quiet.stdout, quiet.stderr], [stdout, '']);
  });

  it('a file of names that is not UTF-8: one line', async () => {
    const latin1 = join(folder(), 'latin1.txt');
    writeFileSync(latin1, Buffer.from('a mug\na caf\u00e9\n', 'latin1'));
    const { code, stdout, stderr } = await demo(['classify', MUG, '--labels', latin1]);
    assert.deepEqual([code, stdout], [1, '']);
    assert.match(stderr, /^image2text: [^\n]*latin1\.txt: not-utf8: [^\n]+\n$/);
  });

  it('several images, one of them bad; --jsonl; --method greedy; --prompt', async () => {
    const args = ['--labels', 'a blue mug,a red book'];
    const { code, stdout, stderr } = await demo(['classify', MUG, 'no-such.png', BOOK, ...args, '--top', '1']);
    assert.deepEqual([code, lines(stderr).length], [1, 1]);
    assert.deepEqual(
      lines(stdout).map((line) => line.split('\t')),
      [
        [MUG, '1.0000', 'a blue mug'],
        [BOOK, '1.0000', 'a red book'],
      ],
    );
    const rows = lines((await demo(['classify', MUG, BOOK, ...args, '--method', 'greedy', '--jsonl'])).stdout).map(
      parse<Found>,
    );
    assert.deepEqual(
      rows.map(({ labels }) => labels.map(({ label }) => label)),
      [['a blue mug'], ['a red book']],
    );
    const prompted = await demo([
      'classify',
      MUG,
      '--labels',
      'mug,book',
      '--prompt',
      'a blue',
      '--top',
      '1',
      '--json',
    ]);
    assert.equal(parse<Found>(prompted.stdout).labels[0]!.label, 'mug');
  });
});

describe('image2text score', () => {
  const TEXTS = ['a blue mug with the word dream on it', 'a red book'];

  it('texts in the order given, or from stdin: log-likelihood and confidence', async () => {
    const { code, stdout } = await demo(['score', MUG, ...TEXTS]);
    assert.equal(code, 0);
    const [first, second] = lines(stdout).map((line) => line.split('\t'));
    assert.deepEqual([first![2], second![2]], TEXTS);
    assert.ok(Number(first![0]) > Number(second![0]));
    assert.equal((await demo(['score', MUG], { stdin: TEXTS.join('\n') })).stdout, stdout);
  });

  it('--json agrees with what greedy decoding says of the same text; --prompt', async () => {
    const greedy = parse<{ score: number }>((await demo(['caption', MUG, '--strategy', 'greedy', '--json'])).stdout);
    const scored = parse<{ logProb: number }>((await demo(['score', MUG, TEXTS[0]!, '--json'])).stdout);
    assert.ok(Math.abs(scored.logProb - greedy.score) < 1e-4, `${scored.logProb} ${greedy.score}`);
    const rows = lines((await demo(['score', MUG, 'mug', 'book', '--prompt', 'a blue', '--jsonl'])).stdout).map(
      parse<{ logProb: number; file: string }>,
    );
    assert.ok(rows[0]!.logProb > rows[1]!.logProb);
    assert.equal(rows[0]!.file, MUG);
  });
});

describe('image2text embed', () => {
  interface Features {
    readonly file: string;
    readonly shape: readonly number[];
    readonly data: readonly number[];
  }

  it('a line of JSON; --pool and --stage', async () => {
    const one = parse<Features>((await demo(['embed', MUG])).stdout);
    assert.deepEqual([one.file, one.shape, one.data.length], [MUG, [128], 128]);
    const all = parse<Features>((await demo(['embed', MUG, '--pool', 'none', '--json'])).stdout);
    assert.deepEqual([all.shape, all.data.length], [[65, 128], 65 * 128]);
    const mean = one.data.map((_, d) => all.data.filter((_, i) => i % 128 === d).reduce((a, b) => a + b, 0) / 65);
    assert.ok(one.data.every((value, d) => Math.abs(value - mean[d]!) < 1e-4));
    const first = parse<Features>((await demo(['embed', MUG, '--pool', 'class'])).stdout);
    assert.deepEqual(first.data, all.data.slice(0, 128));
    assert.notDeepEqual(parse<Features>((await demo(['embed', MUG, '--stage', 'projected'])).stdout).data, one.data);
  });

  it('several: lines, or with --json an array, also where some fail', async () => {
    assert.equal(lines((await demo(['embed', MUG, BOOK])).stdout).length, 2);
    const { code, stdout } = await demo(['embed', MUG, 'no-such.png', BOOK, '--json']);
    assert.equal(code, 1);
    assert.deepEqual(
      parse<Features[]>(stdout).map(({ file }) => file),
      [MUG, BOOK],
    );
    assert.deepEqual(parse((await demo(['embed', 'a.png', 'b.png', '--json'])).stdout), []);
  });
});

describe('image2text explain', () => {
  const folder = scratch();
  interface Shares {
    readonly text: string;
    readonly grid: { rows: number; columns: number };
    readonly words: readonly {
      text: string;
      probability: number;
      mean: { patches: number[]; classToken: number; text: number };
    }[];
  }

  it('a page, a PNG for every word, numbers that add up to 1', async () => {
    const [page, overlays] = [join(folder(), 'page.html'), join(folder(), 'new', 'words')];
    const said = await demo(['explain', BOOK, '-o', page, '--overlays', overlays]);
    assert.deepEqual(said, { code: 0, stdout: 'a red book with the title short\n', stderr: '' });
    assert.match(readFileSync(page, 'utf8'), /^<!doctype html>[\s\S]*red[\s\S]*<\/html>\n$/);
    const names = ['01-a', '02-red', '03-book', '04-with', '05-the', '06-title', '07-short'].map(
      (name) => `${name}.png`,
    );
    assert.deepEqual(readdirSync(overlays).sort(), names);
    assert.match((await cli(['inspect', join(overlays, '02-red.png'), '--check'])).stdout, /image, would load/);
    const { text, grid, words } = parse<Shares>((await demo(['explain', BOOK, '--json'])).stdout);
    assert.equal(text, words.map((word) => word.text).join(' '));
    for (const { mean } of words) {
      assert.equal(mean.patches.length, grid.rows * grid.columns);
      assert.ok(Math.abs(mean.patches.reduce((a, b) => a + b, 0) + mean.classToken + mean.text - 1) < 1e-4);
    }
    const before = readFileSync(join(overlays, '02-red.png'));
    const again = ['explain', BOOK, '--overlays', overlays, '--view', 'rollout'];
    const refused = await demo(again);
    assert.deepEqual([refused.code, /files are there already; --overwrite/.test(refused.stderr)], [2, true]);
    assert.deepEqual(readFileSync(join(overlays, '02-red.png')), before);
    assert.equal((await demo([...again, '--overwrite'])).code, 0);
    assert.deepEqual(readdirSync(overlays).sort(), names);
    assert.notDeepEqual(readFileSync(join(overlays, '02-red.png')), before);
  });

  it('a given text, a question, a video', async () => {
    const given = parse<Shares>((await demo(['explain', BOOK, '--json', '--text', 'a blue mug'])).stdout);
    assert.deepEqual(
      given.words.map(({ text }) => text),
      ['a', 'blue', 'mug'],
    );
    assert.ok(given.words[1]!.probability < 0.1);
    const asked = await demo([
      'explain',
      MUG,
      '-o',
      join(folder(), 'asked.html'),
      '--prompt',
      'what color is the mug?',
    ]);
    assert.equal(asked.stdout, 'blue\n');
    const overlays = join(folder(), 'frames');
    const video = await demo(['explain', '--video', `${EXAMPLES}video-1.gif`, '--overlays', overlays]);
    assert.equal(video.stdout, 'a pink sign moves right\n');
    assert.equal(readdirSync(overlays).length, 5 * 6);
  });

  it('an image that fails leaves no file', async () => {
    const page = join(folder(), 'none.html');
    const { code, stdout } = await demo(['explain', 'no-such.png', '-o', page]);
    assert.deepEqual([code, stdout, existsSync(page)], [1, '', false]);
  });
});

describe('image2text inspect', () => {
  const folder = scratch();

  it('files of a checkpoint, its folder, images', async () => {
    const { code, stdout, stderr } = await cli(['inspect', DEMO.slice(0, -1), '--check']);
    assert.deepEqual([code, stderr], [0, '']);
    assert.match(stdout, /weights\/demo: checkpoint folder, would load\n/);
    const weights = parse<{ kind: string; tensors: unknown[] }>(
      (await cli(['inspect', `${DEMO}model.safetensors`, '--json'])).stdout,
    );
    assert.equal(weights.kind, 'safetensors');
    assert.ok(weights.tensors.length > 100);
    assert.match((await cli(['inspect', MUG])).stdout, /: image\n {2}format +jpeg\n/);
  });

  it('--check: 1 for what is illegal, 3 for what is legal but unsupported, one line on stderr', async () => {
    const cases = parse<{ entries: { file: string; kind: string; expect: string }[] }>(
      readFileSync(`${HOSTILE}manifest.json`, 'utf8'),
    );
    const some = (expect: string) =>
      cases.entries.filter((entry) => entry.expect === expect && entry.kind !== 'http').slice(0, 12);
    for (const [expect, code] of [
      ['load', 0],
      ['error', 1],
      ['unsupported', 3],
    ] as const) {
      assert.ok(some(expect).length > 3);
      for (const { file } of some(expect)) {
        const got = await cli(['inspect', HOSTILE + file, '--check']);
        assert.equal(got.code, code, `${file}: ${got.stderr}`);
        if (code !== 0) assert.match(got.stderr, /^image2text: [^\n]+\n$/);
        if (code !== 0) assert.equal(got.stdout, '');
      }
    }
  });

  it('weights that do not fit: all of them on stderr, for inspect only', async () => {
    const here = join(folder(), 'one-layer-more');
    cpSync(DEMO, here, { recursive: true });
    const config = parse<Record<string, unknown>>(readFileSync(join(here, 'config.json'), 'utf8'));
    const layers = config['num_hidden_layers'] as number;
    writeFileSync(join(here, 'config.json'), JSON.stringify({ ...config, num_hidden_layers: layers + 1 }));
    const { code, stdout, stderr } = await cli(['inspect', here, '--check']);
    assert.deepEqual([code, stdout], [1, '']);
    const [first, ...rest] = lines(stderr);
    assert.match(first!, /^image2text: .*one-layer-more: weights-do-not-fit: 16 missing \(/);
    assert.equal(rest.length, 16, stderr);
    for (const line of rest)
      assert.match(line, new RegExp(`^  - git\\.encoder\\.layer\\.${layers}\\.\\S+ +missing, \\[`));
    const caption = await demo(['caption', MUG, '--model', here]);
    assert.deepEqual([caption.code, lines(caption.stderr).length], [1, 1]);
  });

  it('a name with control characters cannot forge a line', async () => {
    const name = join(folder(), 'x\u001b[2J\nimage2text: all is well');
    writeFileSync(name, 'nothing');
    const { code, stderr } = await cli(['inspect', name]);
    assert.deepEqual([code, lines(stderr).length], [1, 1]);
    assert.doesNotMatch(stderr, /\u001b/);
  });
});

describe('image2text parity', () => {
  const folder = scratch();

  it('a table or JSON on stdout, the sums on stderr, code 2 where none matches', async () => {
    const args = ['parity', REFERENCE, '--only', 'tiny-a/forward_b1*', '--backend', 'cpu'];
    const { code, stdout, stderr } = await cli(args);
    assert.equal(code, 0, stderr);
    assert.match(stderr, /^cpu: \d+ passed, 0 failed, \d+ not run/);
    assert.ok(lines(stdout).length > 2);
    assert.ok(parse<unknown[]>((await cli([...args, '--json'])).stdout).length > 0);
    const nothing = await cli(['parity', REFERENCE, '--only', 'no such case']);
    assert.deepEqual([nothing.code, nothing.stdout], [2, '']);
    assert.match(nothing.stderr, /^image2text: \S+: no-cases: no case matches no such case\n$/);
  });

  it('a folder without cases, or none', async () => {
    mkdirSync(join(folder(), 'empty'));
    assert.equal((await cli(['parity', join(folder(), 'empty')])).code, 2);
    const { code, stderr } = await cli(['parity', `${ROOT}no-such-folder`]);
    assert.equal(code, 2);
    assert.match(stderr, /^image2text: [^\n]+\n$/);
  });
});
