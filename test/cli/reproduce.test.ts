import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { publishedPreprocessing } from '../../src/image2text/load.js';
import { fromDirectory, loadImage2Text, openImage, video } from '../../src/node.js';
import { listModels } from '../../src/tools/index.js';
import { EXAMPLES, ROOT } from '../support/fixtures.js';
import { scratch } from '../support/folder.js';
import { cli } from './support.js';

const NAMES = ['green-sign-toy', 'black-shirt-press'];
const QUESTIONS = ['what color is it?', 'what does it say?'];

/** An entry as weights/models.json has them, of the demo. */
const entry = (task: string, value: number, metric: string, score: string) => ({
  id: `demo/${task}`,
  task,
  about: 'a made-up figure',
  size: 'base',
  imageSize: 64,
  patchSize: 8,
  frames: 0,
  parameters: 1,
  license: 'MIT',
  score: { metric: 'x', value, dataset: `drawings for ${task}s`, source: 'here', evaluation: { metric, score } },
  preprocessing: { preprocessing: 'original', source: 'here' },
});

describe('image2text reproduce', () => {
  const folder = scratch();
  const at = (name: string) => join(folder(), name);
  const write = (name: string, value: unknown): string => {
    writeFileSync(at(name), JSON.stringify(value));
    return at(name);
  };
  let catalog = '';

  before(() => {
    for (const task of ['coco', 'vqa', 'test']) {
      mkdirSync(at(`${task}/images`), { recursive: true });
      for (const [n, name] of NAMES.entries())
        cpSync(`${EXAMPLES}${name}.jpg`, at(`${task}/images/COCO_val2014_00000000000${n + 7}.jpg`));
    }
    const { decoding } = JSON.parse(readFileSync(`${ROOT}weights/models.json`, 'utf8'));
    catalog = write('catalog.json', {
      decoding,
      sources: { here: 'this test', decoding: 'the original' },
      models: [
        entry('caption', 250, 'captions', 'CIDEr'),
        entry('question', 60, 'vqa', 'vqa'),
        { ...entry('video-caption', 60, 'captions', 'CIDEr'), frames: 6 },
        { ...entry('video-question', 41, 'exact', 'exact'), frames: 6 },
      ],
    });
    write('coco/captions.json', {
      images: NAMES.map((_, n) => ({ id: n + 7, file_name: `COCO_val2014_00000000000${n + 7}.jpg` })),
      annotations: NAMES.map((name, n) => ({ image_id: n + 7, caption: `a ${name.replaceAll('-', ' ')}` })),
    });
    const questions = NAMES.flatMap((_, n) =>
      QUESTIONS.map((question, q) => ({ question_id: 10 * (n + 7) + q, image_id: n + 7, question })),
    );
    write('vqa/v2_questions.json', { questions });
    write('test/v2_questions.json', { questions });
    const ten = (answer: string) => Array.from({ length: 10 }, () => ({ answer }));
    write('vqa/v2_annotations.json', {
      annotations: questions.map(({ question_id, image_id }, n) => ({
        question_id,
        image_id,
        answer_type: 'other',
        answers: ten(n === 0 ? 'green' : 'no such answer'),
      })),
    });
  });

  const reproduce = (task: string, data: string, ...args: string[]) =>
    cli(['reproduce', 'demo', at(data), '--as', `demo/${task}`, '--catalog', catalog, ...args]);

  it('predicts, scores and compares captions in the layout of COCO, and goes on after a stop', async () => {
    const output = at('captions.jsonl');
    const first = await reproduce('caption', 'coco', '--output', output, '--json');
    assert.equal(first.code, 0, first.stderr);
    const found = JSON.parse(first.stdout);
    assert.deepEqual([found.score, found.published, found.count], ['CIDEr', 250, 2]);
    assert.ok(Math.abs(found.value - 250 - found.difference) < 1e-9);
    assert.equal(found.settings.decoding.numBeams, 4);
    assert.equal(found.settings.preprocessing.source, 'this test');
    const evaluated = await cli(['evaluate', output, '--references', at('coco/captions.json'), '--json']);
    assert.equal(JSON.parse(evaluated.stdout).scores.CIDEr, found.value);
    const lines = readFileSync(output, 'utf8');
    writeFileSync(output, lines.slice(0, lines.indexOf('\n') + 5)); // as a kill leaves it
    const again = await reproduce('caption', 'coco', '--output', output, '--json');
    assert.equal(again.stdout, first.stdout, again.stderr);
    assert.equal(readFileSync(output, 'utf8'), lines);
    const text = await reproduce('caption', 'coco', '--output', output);
    assert.match(text.stdout, /^CIDEr [\d.]+ on 2 images; published 250 \(drawings for captions\): [+-][\d.]+\n$/);
  });

  it('decodes and preprocesses as the entry says', async () => {
    const output = at('as-measured.jsonl');
    assert.equal((await reproduce('caption', 'coco', '--output', output)).code, 0);
    const model = await loadImage2Text('demo', { preprocessing: 'original' });
    try {
      for (const line of readFileSync(output, 'utf8').trimEnd().split('\n')) {
        const { file, text, score } = JSON.parse(line);
        const expected = await model.caption(file, {
          strategy: 'original',
          numBeams: 4,
          lengthPenalty: 0.6,
          maxLength: 1024,
        });
        assert.deepEqual([text, score], [expected.text, expected.score]);
      }
    } finally {
      model.dispose();
    }
  });

  it('answers questions in the layout of VQAv2', async () => {
    const output = at('answers.jsonl');
    const { code, stdout, stderr } = await reproduce('question', 'vqa', '--output', output, '--json');
    assert.equal(code, 0, stderr);
    const { score, count, value } = JSON.parse(stdout);
    assert.deepEqual([score, count], ['vqa', 4]);
    const said = readFileSync(output, 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert.deepEqual(said.map(({ question_id, question }) => [question_id, question]).slice(0, 2), [
      [70, QUESTIONS[0]],
      [71, QUESTIONS[1]],
    ]);
    assert.equal(value, said[0].text === 'green' ? 25 : 0);
    const limited = await reproduce('question', 'vqa', '--output', output, '--json', '--limit', '1');
    assert.equal(JSON.parse(limited.stdout).count, 1);
    assert.match(limited.stderr, /only 1 of 4 items were measured/);
  });

  it('writes results for a server where answers are not public', async () => {
    const output = at('test.jsonl');
    const refused = await reproduce('question', 'test', '--output', output);
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /--export FILE writes results/);
    const { code, stdout, stderr } = await reproduce(
      'question',
      'test',
      '--output',
      output,
      '--export',
      at('evalai.json'),
    );
    assert.equal(code, 0, stderr);
    assert.equal(stdout, '');
    assert.deepEqual(
      JSON.parse(readFileSync(at('evalai.json'), 'utf8')).map(
        ({ question_id }: { question_id: number }) => question_id,
      ),
      [70, 71, 80, 81],
    );
  });

  it('captions videos, files and folders of frames, of a list of VATEX', async () => {
    mkdirSync(at('vatex/clips'), { recursive: true });
    cpSync(`${EXAMPLES}video-1.gif`, at('vatex/clips/-abc_000010_000020.gif'));
    cpSync(`${EXAMPLES}video-2`, at('vatex/clips/x.y_000001_000011'), { recursive: true });
    const captions = ['A yellow shirt moves to the right.', 'Something moves.'];
    write('vatex/vatex_test.json', [
      { videoID: '-abc_000010_000020', enCap: captions, chCap: ['…'] },
      { videoID: 'x.y_000001_000011', enCap: captions, chCap: ['…'] },
    ]);
    const output = at('videos.jsonl');
    const { code, stdout, stderr } = await reproduce('video-caption', 'vatex', '--output', output, '--json');
    assert.equal(code, 0, stderr);
    const found = JSON.parse(stdout);
    assert.deepEqual([found.score, found.published, found.count, found.settings.frames.count], ['CIDEr', 60, 2, 6]);
    assert.match(stderr, /no source says which frames/);
    const model = await loadImage2Text('demo', { preprocessing: 'original' });
    try {
      for (const line of readFileSync(output, 'utf8').trimEnd().split('\n')) {
        const { file, text, score } = JSON.parse(line);
        const options = { strategy: 'original', numBeams: 4, lengthPenalty: 0.6, maxLength: 1024 } as const;
        const expected = await model.caption(video(file), options);
        assert.deepEqual([text, score], [expected.text, expected.score]);
      }
    } finally {
      model.dispose();
    }
    const text = await reproduce('video-caption', 'vatex', '--output', output);
    assert.match(text.stdout, /^CIDEr [\d.]+ on 2 videos; published 60 /);
  });

  it('answers questions about videos, in the layout of MSRVTT-QA', async () => {
    mkdirSync(at('msrvtt/videos'), { recursive: true });
    cpSync(`${EXAMPLES}video-3.gif`, at('msrvtt/videos/video7010.gif'));
    cpSync(`${EXAMPLES}video-2`, at('msrvtt/videos/video7'), { recursive: true });
    const ask = (id: number, video_id: number) => ({
      id,
      video_id,
      category_id: 1,
      question: QUESTIONS[0],
      answer: 'red',
    });
    write('msrvtt/test_qa.json', [ask(158581, 7010), ask(158582, 7)]);
    const output = at('video-answers.jsonl');
    const { code, stdout, stderr } = await reproduce('video-question', 'msrvtt', '--output', output, '--json');
    assert.equal(code, 0, stderr);
    const said = readFileSync(output, 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert.deepEqual(
      said.map(({ question_id, file }) => [
        question_id,
        file.endsWith(`video${question_id === 158581 ? '7010.gif' : '7'}`),
      ]),
      [
        [158581, true],
        [158582, true],
      ],
    );
    const right = said.filter(({ text }) => text === 'red').length;
    const { score, value, difference } = JSON.parse(stdout);
    assert.deepEqual([score, value, difference], ['exact', 50 * right, 50 * right - 41]);
  });

  it('says what is missing before anything is loaded', async () => {
    const fails = async (args: string[], pattern: RegExp) => {
      const { code, stderr } = await cli(['reproduce', ...args]);
      assert.notEqual(code, 0);
      assert.match(stderr, pattern);
    };
    await fails(['demo', at('coco')], /demo is no published checkpoint: --as/);
    await fails(['demo', at('coco'), '--as', 'git-base'], /no source says enough/);
    await fails(['demo', at('coco'), '--as', 'git-base-vatex'], /videos of 2 of 2 items are not there/);
    await fails(['demo', at('vqa'), '--as', 'git-base-coco'], /several files that may be meant|is for captions/);
    await fails(['demo', at('nothing'), '--as', 'git-base-coco'], /there is no such folder/);
    await fails(['demo', at('coco/images'), '--as', 'git-base-coco'], /no annotations there/);
    await fails(
      ['demo', at('coco'), '--as', 'demo/caption', '--catalog', write('bad.json', { models: [] })],
      /bad\.json.*layout/,
    );
  });
});

describe('published checkpoints by their name', () => {
  it('have the ratios of weights/models.json', () => {
    for (const { id, preprocessing } of listModels()) {
      const kept = preprocessing?.keepRatio;
      assert.deepEqual(
        publishedPreprocessing(id),
        kept === undefined ? {} : { preprocessing: 'original', keepRatio: kept },
      );
    }
    const id = 'microsoft/git-base-vqav2';
    assert.deepEqual(publishedPreprocessing(id, { preprocessing: 'huggingface' }), {});
    assert.deepEqual(publishedPreprocessing(id, { preprocessing: 'original', keepRatio: { min: 64, max: 96 } }), {});
    assert.deepEqual(publishedPreprocessing('me/git-base-vqav2'), {});
    assert.deepEqual(publishedPreprocessing(undefined), {});
  });

  it('are preprocessed as the original does without options', async () => {
    const files = await fromDirectory(`${ROOT}weights/demo`);
    const image = (await openImage(`${EXAMPLES}green-sign-toy.jpg`)).bytes;
    const shapes = async (repository: string | undefined, options: object) => {
      const model = await loadImage2Text({ ...files, repository }, options);
      try {
        const failed = (error: Error) => error.message;
        return await model.embed(image).then(({ data }) => [...data], failed);
      } finally {
        model.dispose();
      }
    };
    const original = { preprocessing: 'original', keepRatio: { min: 480, max: 640 } };
    const named = await shapes('microsoft/git-base-vqav2', {});
    assert.deepEqual(named, await shapes(undefined, original));
    assert.notDeepEqual(named, await shapes(undefined, {}));
    assert.deepEqual(
      await shapes('microsoft/git-base-vqav2', { preprocessing: 'huggingface' }),
      await shapes(undefined, {}),
    );
  });
});
