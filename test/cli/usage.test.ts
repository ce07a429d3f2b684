import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Readable, Writable } from 'node:stream';
import { BACKENDS } from '../../src/cli/options.js';
import * as entry from '../../src/node.js';
import { EXAMPLES, ROOT } from '../support/fixtures.js';
import { cli, demo, ended, start } from './support.js';

const COMMANDS = [
  'caption',
  'answer',
  'video',
  'classify',
  'score',
  'embed',
  'explain',
  'evaluate',
  'inspect',
  'parity',
];
const IMAGE = `${EXAMPLES}red-book-short.png`;

const MODEL_FREE = /^(describe|captoin|capt\nion|inspect|parity)$/;

/** Wrong usage: code 2, a line on stderr that says this, nothing on stdout. */
async function refuses(args: readonly string[], said: RegExp, stdin = ''): Promise<void> {
  const { code, stdout, stderr } = await (MODEL_FREE.test(args[0]!) ? cli : demo)(args, { stdin });
  assert.equal(code, 2, `${args.join(' ')}: ${stderr}`);
  assert.equal(stdout, '');
  assert.match(stderr, said);
  assert.doesNotMatch(stderr, /\n {4}at /);
}

describe('the command: help and wrong usage', () => {
  it('lists every command', async () => {
    const { code, stdout, stderr } = await cli(['--help']);
    assert.deepEqual([code, stderr], [0, '']);
    for (const name of COMMANDS) assert.match(stdout, new RegExp(`^  ${name} `, 'm'));
  });

  for (const name of COMMANDS) {
    it(`${name} --help has examples, on stdout`, async () => {
      const { code, stdout, stderr } = await cli([name, '--help']);
      assert.deepEqual([code, stderr], [0, '']);
      assert.match(stdout, new RegExp(`^Usage: image2text ${name} `));
      assert.match(stdout, new RegExp(`\nExamples:\n  .*image2text ${name} `));
      assert.ok(
        stdout.split('\n').every((line) => line.length <= 100 || line.startsWith('  image2text')),
        'lines fit a terminal',
      );
      assert.equal((await cli(['help', name])).stdout, stdout);
    });
  }

  it('help fits every width from 40 to 200 columns and breaks between words', async () => {
    const { run, COMMANDS: commands } = await import('../../src/cli/program.js');
    const textAt = async (args: readonly string[], columns: number): Promise<string> => {
      let text = '';
      const write = (chunk: Buffer, _: string, done: () => void): void => {
        text += chunk.toString();
        done();
      };
      const output = () => Object.assign(new Writable({ write }), { columns });
      await run(args, { stdin: Readable.from([]), stdout: output(), stderr: output() });
      return text;
    };
    const wordsOf = (text: string): string[] => text.replace(/ \\\n/g, '\n').split(/\s+/);
    const own = commands.filter(({ name }) => name !== 'serve' && name !== 'queue'); // these have a package with a help of its own
    for (const { name } of own) {
      const words = wordsOf(await textAt([name, '--help'], 200));
      for (const columns of [40, 57, 80, 120, 200]) {
        const text = await textAt([name, '--help'], columns);
        const long = text.split('\n').filter((line) => line.length > columns && line.trim().split(' ').length > 2);
        assert.deepEqual(long, [], `${name} at ${columns}`);
        assert.deepEqual(wordsOf(text), words, `${name} at ${columns}`);
      }
    }
  });

  it('says its version', async () => {
    const { version } = JSON.parse(readFileSync(`${ROOT}package.json`, 'utf8')) as { version: string };
    assert.deepEqual(await cli(['--version']), { code: 0, stdout: `${version}\n`, stderr: '' });
  });

  it('knows the backends of the entry point', () => {
    assert.deepEqual(BACKENDS, [...entry.NODE_BACKENDS]);
  });

  it('without a command: the help on stderr, code 2', async () => {
    const { code, stdout, stderr } = await cli([]);
    assert.deepEqual([code, stdout], [2, '']);
    assert.match(stderr, /^Usage: image2text/);
  });

  const WRONG: readonly (readonly [string[], RegExp])[] = [
    [['describe', IMAGE], /unknown command 'describe'/],
    [['captoin', IMAGE], /^image2text: unknown command 'captoin' \(Did you mean caption\?\)\n/],
    [['capt\nion', IMAGE], /^image2text: unknown command 'capt\\nion' \(Did you mean caption\?\)\n/],
    [
      ['caption', IMAGE, '--num-beam', '3'],
      /^image2text: unknown option '--num-beam' \(Did you mean --num-beams\?\)\n/,
    ],
    [['caption', '\u001b[31m', '--\u001b[31m'], /unknown option '--\\u001b\[31m'/],
    [['caption', IMAGE, '--num-beams', '0'], /--num-beams.*expected a whole number from 1 to 1024/],
    [['caption', IMAGE, '--num-beams', '1e1'], /expected a whole number/],
    [['caption', IMAGE, '--num-beams'], /argument missing/],
    [['caption', IMAGE, '--length-penalty', 'long'], /expected a number/],
    [['caption', IMAGE, '--strategy', 'magic'], /Allowed choices are original, beam, greedy, sample/],
    [['caption', IMAGE, '--backend', 'abacus'], /Allowed choices are auto, /],
    [['caption', IMAGE, '--weights', 'int4'], /Allowed choices are f32, bf16, f16, int8/],
    [['caption', IMAGE, '--json', '--jsonl'], /cannot be used with/],
    [['caption', IMAGE, '--json', '--as-tsv'], /cannot be used with/],
    [
      ['caption', IMAGE, '--strategy', 'greedy', '--num-beams', '2'],
      /--num-beams is for --strategy original, beam, and original-autoregressive, this is greedy/,
    ],
    [
      ['caption', IMAGE, '--strategy', 'original', '--early-stopping', 'never'],
      /--early-stopping is for --strategy beam, this is original/,
    ],
    [['caption', IMAGE, '--strategy', 'beam', '--early-stopping', 'maybe'], /choices are true, false, never/],
    [
      ['caption', IMAGE, '--model', 'no/such/model', '--num-beams', '2', '--temperature', '2'],
      /no strategy takes both: --num-beams is for --strategy .*, --temperature for sample/,
    ],
    [
      ['caption', IMAGE, '--temperature', '2'],
      /--temperature is for --strategy sample, this is original, the model's own/,
    ],
    [['explain', IMAGE, '--json', '--text', 'a mug', '--seed', '2'], /--seed: with --text nothing is generated/],
    [['caption', IMAGE, '--num-return-sequences', '2'], /needs --json or --jsonl/],
    [['caption', IMAGE, '--num-return-sequences', '2', '--output', 'a.tsv'], /needs --json or --jsonl/],
    [['answer', IMAGE, 'what?', '--num-return-sequences', '2'], /needs --json or --jsonl/],
    [['video', 'a.gif', '--num-return-sequences', '2'], /needs --json or --jsonl/],
    [
      ['caption', IMAGE, '--strategy', 'greedy', '--num-return-sequences', '2', '--json'],
      /--num-return-sequences is for --strategy original, beam, and sample, this is greedy/,
    ],
    [
      ['caption', IMAGE, '--strategy', 'beam', '--num-return-sequences', '9', '--json'],
      /--num-return-sequences: contradiction/,
    ],
    [['caption', IMAGE, '--max-new-tokens', '2', '--min-new-tokens', '3'], /--min-new-tokens: contradiction/],
    [['caption', IMAGE, '--min-length', '2000'], /--min-length: contradiction/],
    [['caption', IMAGE, '--strategy', 'sample', '--top-p', '7'], /--top-p.*expected a number above 0, at most 1/],
    [['caption', IMAGE, '--repetition-penalty', '-1'], /--repetition-penalty.*expected a number/],
    [['caption', IMAGE, '--keep-ratio', '480'], /expected two whole numbers/],
    [['caption', IMAGE, '--keep-ratio', '480,640'], /--keep-ratio is for --preprocessing original/],
    [['caption', IMAGE, '--max-megapixels', '0'], /expected a number above 0/],
    [['caption'], /name at least one image/],
    [['caption', '-', '-'], /- \(stdin\) can be read once only/],
    [['caption', `${ROOT}src/cli`], /no image there/],
    [['caption', `${ROOT}examples/*.webp`], /no image there/],
    [['caption', IMAGE, '--skip-existing'], /--skip-existing is for --sidecar and --output/],
    [['caption', IMAGE, '--output', 'captions.txt'], /name a file \.jsonl or \.tsv/],
    [['caption', IMAGE, '--output', 'captions.jsonl', '--json'], /use --jsonl/],
    [['caption', IMAGE, '--sidecar', 'txt'], /expected an ending such as \.txt/],
    [['caption', IMAGE, '--sidecar', './x'], /expected an ending/],
    [['caption', IMAGE, '--sidecar', '.png'], /images have this ending/],
    [['caption', IMAGE, '--sidecar', '.HEIC'], /images have this ending/],
    [['caption', IMAGE, '--overwrite'], /--overwrite is for --sidecar and --output/],
    [['caption', IMAGE, '--shard', '0/4'], /1\/8 to 8\/8/],
    [['caption', IMAGE, '--shard', '5/4'], /1\/8 to 8\/8/],
    [['caption', '-', '--sidecar', '.txt'], /stdin is no file/],
    [['caption', IMAGE, IMAGE, '--sidecar', '.txt'], /would both write/],
    [['caption', IMAGE, '--tsv', 'images.tsv'], /--tsv or images, not both/],
    [['caption', '--tsv', 'no-such.tsv'], /no-such\.tsv: there is no such file/],
    [['answer'], /name at least one image/],
    [['answer', `${ROOT}examples`, 'what is this?'], /one image, not a folder/],
    [['answer', '-'], /give the questions on the command line/],
    [['answer', IMAGE], /no question/],
    [['answer', IMAGE, ' '], /question: empty/],
    [['answer', '--tsv', 'a.tsv'], /go together/],
    [['answer', IMAGE, '--tsv', 'a.tsv'], /not both/],
    [['answer', IMAGE, 'what?', '--output', 'a.tsv'], /are for --tsv/],
    [['video'], /missing required argument 'videos'/],
    [['video', 'a.gif', 'b.png'], /b\.png is a still image, a\.gif is none/],
    [['video', 'a.gif', '--question', 'what?', '--prompt', 'a'], /--question or --prompt, not both/],
    [['classify', IMAGE], /required option '--labels <names>' not specified/],
    [['classify', IMAGE, '--labels', 'no/such/file'], /no such file/],
    [['classify', IMAGE, '--labels', 'labels.txt'], /no such file/],
    [['classify', IMAGE, '--labels', ''], /^image2text: --labels is empty: name a file, or texts with commas/],
    [['classify', IMAGE, '--labels', ' , '], /no text there/],
    [['classify', IMAGE, '--labels', 'a mug', '--top', '0'], /whole number/],
    [['classify', IMAGE, '--labels', 'a,b', '--method', 'greedy', '--top', '2'], /--top is for --method exact/],
    [['score'], /missing required argument 'image'/],
    [['score', IMAGE], /no text/],
    [['score', '-'], /give the texts on the command line/],
    [['embed', IMAGE, '--pool', 'max'], /Allowed choices are mean, class, none/],
    [['explain', IMAGE], /say what to make/],
    [['explain', IMAGE, IMAGE, '--json'], /name one image, or add --video/],
    [['explain', IMAGE, '-o', 'no/such/page.html'], /there is no folder no\/such/],
    [['inspect'], /missing required argument 'file'/],
    [['inspect', IMAGE, IMAGE], /too many arguments/],
    [['parity'], /missing required argument 'dir'/],
  ];
  for (const [args, said] of WRONG) {
    it(`refuses ${JSON.stringify(args.join(' ').replaceAll(ROOT, ''))}`, () => refuses(args, said));
  }

  it('as a process: the same codes, a clean stdout and stderr', async () => {
    const [help, wrong, done] = await Promise.all([
      ended(start(['--help'])),
      ended(start(['caption', '--nonsense'])),
      ended(start(['caption', IMAGE, '--model', 'demo'])),
    ]);
    assert.deepEqual([help.code, help.stderr], [0, '']);
    assert.deepEqual([wrong.code, wrong.stdout], [2, '']);
    assert.deepEqual(done, { code: 0, signal: null, stdout: 'a red book with the title short\n', stderr: '' });
  });
});
