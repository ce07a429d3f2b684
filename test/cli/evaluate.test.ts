import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { METRIC_NAMES } from '../../src/cli/evaluate.js';
import { run } from '../../src/cli/program.js';
import { METRICS } from '../../src/metrics/index.js';
import { EXAMPLES, ROOT } from '../support/fixtures.js';

/** Runs the command in the process; what it wrote. */
async function image2text(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const out = { stdout: '', stderr: '' };
  const stream = (name: keyof typeof out) =>
    Object.assign(Object.create(process.stdout), {
      isTTY: false,
      write(text: string | Uint8Array, ...rest: unknown[]) {
        out[name] += typeof text === 'string' ? text : Buffer.from(text).toString();
        (rest.find((arg) => typeof arg === 'function') as (() => void) | undefined)?.();
        return true;
      },
      on: () => {},
      off: () => {},
    });
  const terminal = { stdin: process.stdin, stdout: stream('stdout'), stderr: stream('stderr') };
  const code = await run(args, terminal as never);
  return { code, ...out };
}

describe('image2text evaluate', () => {
  let folder: string;
  const at = (name: string) => join(folder, name);
  const write = (name: string, text: string): string => {
    writeFileSync(at(name), text);
    return at(name);
  };
  const docs = readFileSync(`${ROOT}docs/evaluation.md`, 'utf8');
  const blocks = [...docs.matchAll(/```(\w+)\n([\s\S]*?)```/g)].map(([, language, text]) => ({
    language,
    text: text!,
  }));

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'evaluate-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const documented = (): [string, string] => {
    const [said, people] = blocks.filter(({ language }) => language === 'jsonl');
    return [write('said.jsonl', said!.text), write('people.jsonl', people!.text)];
  };

  it('prints what its page says', async () => {
    const [said, people] = documented();
    const expected = blocks
      .find(({ language }) => language === 'console')!
      .text.split('\n')
      .slice(1)
      .join('\n');
    const { code, stdout, stderr } = await image2text('evaluate', said, '--references', people);
    assert.equal(stdout, expected);
    assert.match(stderr, /^3 captions by captions/);
    assert.equal(code, 0);
  });

  it('shows functions that run', async () => {
    const code = blocks.find(({ language }) => language === 'ts')!.text;
    const entry = pathToFileURL(`${ROOT}src/metrics/index.ts`).href;
    const file = write(
      'example.mts',
      `${code.replace("'generative-image2text/metrics'", JSON.stringify(entry))}\nexport { accuracy, cider, perItem };\n`,
    );
    const found = (await import(pathToFileURL(file).href)) as { accuracy: number; cider: number; perItem: unknown[] };
    assert.equal(found.accuracy, 1);
    assert.equal(found.perItem.length, 2);
    assert.ok(found.cider > 0);
  });

  it('predicts first, and goes on where it was', async () => {
    mkdirSync(at('photos'));
    const names = ['green-sign-toy', 'black-shirt-press'];
    for (const name of names) cpSync(`${EXAMPLES}${name}.jpg`, at(`photos/${name}.jpg`));
    const people = write(
      'people.jsonl',
      names.map((name) => JSON.stringify({ file: `${name}.jpg`, references: [name.replaceAll('-', ' ')] })).join('\n'),
    );
    const args = [
      'evaluate',
      at('said.jsonl'),
      '--references',
      people,
      '--predict',
      'demo',
      '--images',
      at('photos'),
      '--json',
    ];
    const first = await image2text(...args);
    assert.equal(first.code, 0, first.stderr);
    const said = readFileSync(at('said.jsonl'), 'utf8');
    assert.equal(said.trimEnd().split('\n').length, 2);
    writeFileSync(at('said.jsonl'), said.slice(0, said.indexOf('\n') + 1)); // as a run that was stopped leaves it
    const second = await image2text(...args);
    assert.equal(second.code, 0, second.stderr);
    assert.equal(readFileSync(at('said.jsonl'), 'utf8'), said);
    assert.equal(second.stdout, first.stdout);
  });

  it('answers questions first, each image encoded once, and goes on where it was', async () => {
    mkdirSync(at('photos'));
    const names = ['green-sign-toy', 'black-shirt-press'];
    for (const name of names) cpSync(`${EXAMPLES}${name}.jpg`, at(`photos/${name}.jpg`));
    const asked = names.flatMap((name, n) => [
      {
        question_id: 10 * n + 1,
        file: `${name}.jpg`,
        question: `what color is the ${name.split('-')[1]}?`,
        answers: [name.split('-')[0]],
      },
      {
        question_id: 10 * n + 2,
        file: `${name}.jpg`,
        question: `what does the ${name.split('-')[1]} say?`,
        answers: [name.split('-')[2]],
      },
    ]);
    const lines = (rows: readonly object[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('');
    const people = write('people.jsonl', lines(asked));
    const args = ['evaluate', at('said.jsonl'), '--references', people, '--predict', 'demo', '--images', at('photos')];
    const first = await image2text(...args, '--json');
    assert.equal(first.code, 0, first.stderr);
    const found = JSON.parse(first.stdout);
    assert.deepEqual([found.metric, found.count], ['exact', 4]);
    assert.ok(found.scores.exact >= 50, first.stdout);
    const said = readFileSync(at('said.jsonl'), 'utf8');
    const rows = said
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert.deepEqual(
      rows.map(({ question_id, question }) => [question_id, question]),
      asked.map(({ question_id, question }) => [question_id, question]),
    );
    for (const cut of [said.indexOf('\n') + 1, said.length - 9]) {
      writeFileSync(at('said.jsonl'), said.slice(0, cut)); // as a kill leaves it, between two questions of an image and within a line
      const again = await image2text(...args, '--json');
      assert.equal(again.code, 0, again.stderr);
      assert.equal(readFileSync(at('said.jsonl'), 'utf8'), said);
      assert.equal(again.stdout, first.stdout);
    }
    const bare = write('bare.jsonl', lines(asked.map(({ question: _, ...rest }) => rest)));
    const refused = await image2text('evaluate', at('other.jsonl'), '--references', bare, ...args.slice(4));
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, /question 1 has no text: --questions names the file/);
  });

  it('does not go on with predictions of another model or of unknown making', async () => {
    mkdirSync(at('photos'));
    cpSync(`${EXAMPLES}green-sign-toy.jpg`, at('photos/toy.jpg'));
    const people = write('people.jsonl', '{"file":"toy.jpg","references":["a green toy sign"]}');
    const args = (model: string) => [
      'evaluate',
      at('said.jsonl'),
      '--references',
      people,
      '--predict',
      model,
      '--images',
      at('photos'),
    ];
    write('said.jsonl', '{"file":"toy.jpg","text":"by hand"}\n');
    const unknown = await image2text(...args('demo'));
    assert.equal(unknown.code, 2, unknown.stderr);
    assert.match(unknown.stderr, /said\.jsonl: these predictions do not say which model.*--overwrite replaces it/);
    assert.match(readFileSync(at('said.jsonl'), 'utf8'), /by hand/);
    assert.equal((await image2text(...args('demo'), '--overwrite')).code, 0);
    const said = readFileSync(at('said.jsonl'), 'utf8');
    assert.doesNotMatch(said, /by hand/);

    cpSync(`${ROOT}weights/demo`, at('copy'), { recursive: true });
    assert.equal((await image2text(...args(at('copy')))).code, 0); // a copy is the same model
    const config = JSON.parse(readFileSync(at('copy/generation_config.json'), 'utf8'));
    write('copy/generation_config.json', JSON.stringify({ ...config, num_beams: 2 }));
    const other = await image2text(...args(at('copy')));
    assert.equal(other.code, 2, other.stderr);
    assert.match(other.stderr, /said\.jsonl: these predictions are of another model/);
    assert.equal(readFileSync(at('said.jsonl'), 'utf8'), said);
    const note = readFileSync(at('said.jsonl.run.json'), 'utf8');
    write('said.jsonl.run.json', JSON.stringify({ ...JSON.parse(note), numBeams: 7 }));
    assert.match((await image2text(...args('demo'))).stderr, /were made with numBeams 7, not undefined/);
    write('said.jsonl.run.json', note.slice(0, 9));
    assert.match((await image2text(...args('demo'))).stderr, /cannot be read/);
    write('said.jsonl.run.json', note);
    assert.equal((await image2text(...args('demo'), '--overwrite')).code, 0);
    assert.equal(readFileSync(at('said.jsonl'), 'utf8'), said); // of this model: kept
  });

  it('knows the metrics of the entry point', () => assert.deepEqual(METRIC_NAMES, METRICS));

  it('writes items worst first, a page and results, and replaces nothing unasked', async () => {
    const [said, people] = documented();
    mkdirSync(at('photos'));
    for (const name of ['bike', 'sign', 'dogs']) cpSync(`${EXAMPLES}green-sign-toy.jpg`, at(`photos/${name}.jpg`));
    const args = [
      'evaluate',
      said,
      '--references',
      people,
      '--json',
      '--per-item',
      at('items.jsonl'),
      '--page',
      at('page.html'),
    ];
    const all = [...args, '--export', at('results.json'), '--images', at('photos')];
    const { code, stdout } = await image2text(...all);
    assert.equal(code, 0);
    const { count, scores } = JSON.parse(stdout);
    assert.equal(count, 3);
    assert.ok(scores.CIDEr > 300);
    const items = readFileSync(at('items.jsonl'), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert.deepEqual(
      items.map(({ id }) => id),
      ['dogs.jpg', 'sign.jpg', 'bike.jpg'],
    );
    const page = readFileSync(at('page.html'), 'utf8');
    assert.match(page, /src="photos\/dogs\.jpg"/);
    assert.match(page, /A red sign that says &quot;STOP&quot;\./);
    assert.deepEqual(JSON.parse(readFileSync(at('results.json'), 'utf8'))[0], {
      image_id: 'bike.jpg',
      caption: 'a man rides a red bike',
    });
    const again = await image2text(...all);
    assert.equal(again.code, 2);
    assert.match(again.stderr, /items\.jsonl is there already: --overwrite replaces it/);
    assert.equal((await image2text(...all, '--overwrite', '--embed')).code, 0);
    assert.match(readFileSync(at('page.html'), 'utf8'), /src="data:image\/jpeg;base64,/);
  });

  it('escapes what files say', async () => {
    const said = write(
      'said.jsonl',
      '{"file":"a.jpg","text":"<script>alert(1)</script>\\u202e"}\n{"file":"b.jpg","text":"b"}\n',
    );
    const people = write(
      'people.jsonl',
      '{"file":"a.jpg","references":["\\"><img src=x onerror=alert(1)>"]}\n{"file":"b.jpg","references":["b"]}\n',
    );
    assert.equal((await image2text('evaluate', said, '--references', people, '--page', at('page.html'))).code, 0);
    const page = readFileSync(at('page.html'), 'utf8');
    assert.ok(!/<script|<img src=x|\u202e/.test(page));
  });

  it('reads the files of COCO, VQAv2 and TextVQA', async () => {
    const coco = {
      images: [{ id: 7, file_name: 'COCO_7.jpg' }, { id: 8 }],
      annotations: [7, 8].map((image_id) => ({ image_id, caption: `a thing number ${image_id}` })),
    };
    const results = write(
      'results.json',
      JSON.stringify([7, 8].map((image_id) => ({ image_id, caption: `a thing number ${image_id}` }))),
    );
    const tsv = write(
      'said.tsv',
      'photos/COCO_7.jpg\t[{"caption": "a thing number 7"}]\n8\t[{"caption": "a thing number 8"}]\n',
    );
    const refs = write('coco.json', JSON.stringify(coco));
    for (const file of [results, tsv]) {
      const { stdout } = await image2text('evaluate', file, '--references', refs, '--json');
      assert.ok(Math.abs(JSON.parse(stdout).scores['BLEU-1'] - 100) < 1e-6, stdout);
    }
    const ten = (answer: string) => Array.from({ length: 10 }, (_, i) => ({ answer, answer_id: i + 1 }));
    const vqa = write(
      'vqa.json',
      JSON.stringify({
        annotations: [1, 2].map((question_id) => ({
          question_id,
          image_id: 5,
          question_type: 'is the',
          answer_type: 'yes/no',
          answers: ten('yes'),
        })),
      }),
    );
    const answers = write(
      'answers.json',
      JSON.stringify([
        { question_id: 1, answer: 'yes' },
        { question_id: 2, answer: 'no' },
      ]),
    );
    const found = JSON.parse((await image2text('evaluate', answers, '--references', vqa, '--json')).stdout);
    assert.deepEqual([found.metric, found.scores.vqa, found.scores['vqa (yes/no)']], ['vqa', 50, 50]);
    const textVqa = write(
      'textvqa.json',
      JSON.stringify({
        data: [1, 2].map((question_id) => ({
          question_id,
          image_id: 'x',
          question: 'q',
          answers: Array(10).fill('Stop'),
        })),
      }),
    );
    const lines = write('answers.jsonl', '{"question_id":1,"text":"stop"}\n{"question_id":2,"text":"go"}\n');
    assert.equal(
      JSON.parse((await image2text('evaluate', lines, '--references', textVqa, '--json')).stdout).scores.textvqa,
      50,
    );
  });

  it('says what does not fit, with the line or the id', async () => {
    const [said, people] = documented();
    const fails = async (text: string, pattern: RegExp, ...flags: string[]) => {
      const { code, stderr } = await image2text('evaluate', write('bad', text), '--references', people, ...flags);
      assert.equal(code, 1, stderr);
      assert.match(stderr, pattern);
    };
    await fails(
      '{"file":"bike.jpg","text":"a"}\n',
      /unequal-ids: 2 of 3 references have no prediction, the first is "sign.jpg"/,
    );
    await fails('{"file":"other.jpg","text":"a"}\n', /unequal-ids: 1 of 1 predictions have no reference/);
    await fails('{"file":"bike.jpg","text":7}\n', /line 1.*layout/);
    await fails('{"file":\n', /line 1: not-json/);
    await fails('\ufeff[]', /encoding/);
    await fails('', /empty-file/);
    const subset = write('subset.jsonl', '{"file":"bike.jpg","text":"a"}\n');
    assert.equal((await image2text('evaluate', subset, '--references', people, '--subset')).code, 0);
    assert.equal((await image2text('evaluate', said)).code, 2);
  });
});
