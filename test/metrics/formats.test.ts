import assert from 'node:assert/strict';
import { type FileContent, MetricError, pairUp, readPredictions, readReferences } from '../../src/metrics/index.js';

const bytes = (text: string, encoding: BufferEncoding = 'utf8') => new Uint8Array(Buffer.from(text, encoding));

/** In pieces of every size, as a stream gives a file. */
async function* pieces(content: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < content.length; at += size) yield content.subarray(at, at + size);
}

const refused = (body: Promise<unknown>, code: string, message: RegExp) =>
  assert.rejects(body, (error) => {
    assert.ok(error instanceof MetricError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  });

const SAID = '{"file":"a.jpg","text":"ein Käse 🧀"}\r\n\r\n{"file":"b.jpg","text":"B"}\n';
const PEOPLE = '{"file":"a.jpg","references":["A"]}\n{"file":"b.jpg","references":["B","b"]}';

describe('files of predictions and references', () => {
  it('are the same read at once, in pieces of any size, and as text', async () => {
    const expected = [
      { id: 'a.jpg', text: 'ein Käse 🧀' },
      { id: 'b.jpg', text: 'B' },
    ];
    assert.deepEqual(await readPredictions(SAID, 'said.jsonl'), expected);
    assert.deepEqual(await readPredictions(bytes(SAID), 'said.jsonl'), expected);
    for (let size = 1; size < 9; size++)
      assert.deepEqual(await readPredictions(pieces(bytes(SAID), size), 'said.jsonl'), expected);
    assert.deepEqual(await readPredictions(new Blob([SAID]).stream(), 'said.jsonl'), expected);
    const whole = await readReferences(PEOPLE, 'people.jsonl');
    assert.equal(whole.items.length, 2);
    for (let size = 1; size < 9; size++)
      assert.deepEqual(await readReferences(pieces(bytes(PEOPLE), size), 'people.jsonl'), whole);
  });

  it('of lines are read no further than the first wrong line', async () => {
    let pulled = 0;
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (;;) {
        pulled++;
        yield bytes(pulled === 3 ? '{"file":3}\n' : `{"file":"${pulled}.jpg","text":"a"}\n`);
      }
    }
    await refused(readPredictions(endless(), 'said.jsonl'), 'layout', /line 3/);
    assert.equal(pulled, 3);
  });

  it('JSON may be on one line or on many, and a file of lines may have one', async () => {
    const coco = { images: [{ id: 1 }], annotations: [{ image_id: 1, caption: 'a cat' }] };
    const one = await readReferences(JSON.stringify(coco), 'coco.json');
    assert.deepEqual(await readReferences(JSON.stringify(coco, undefined, 2), 'coco.json'), one);
    assert.deepEqual(await readReferences(`\n\n${JSON.stringify(coco)}\r\n`, 'coco.json'), one);
    assert.equal((await readReferences('{"image_id":1,"references":["a cat"]}', 'one.jsonl')).items.length, 1);
    const results = [{ image_id: 1, caption: 'a cat' }];
    assert.deepEqual(await readPredictions(JSON.stringify(results, undefined, 2), 'results.json'), [
      { id: '1', text: 'a cat' },
    ]);
  });

  it('lists of videos are read, and put together with predictions by names without their ending', async () => {
    const vatex = JSON.stringify([{ videoID: 'a.b_1_2', enCap: ['A.', 'B.'], chCap: ['甲'] }], undefined, 2);
    const references = await readReferences(vatex, 'vatex.json');
    assert.deepEqual(references, {
      task: 'caption',
      metric: 'captions',
      items: [{ id: 'a.b_1_2', file: 'a.b_1_2', texts: ['A.', 'B.'] }],
    });
    for (const name of ['clips/a.b_1_2.mp4', 'clips\\a.b_1_2.webm', 'a.b_1_2'])
      assert.equal(pairUp([{ id: name, text: 'a' }], references)[0]!.prediction, 'a', name);
    const two = ['x/a.b_1_2.mp4', 'y/a.b_1_2.webm'].map((id) => ({ id, text: 'a' }));
    assert.throws(() => pairUp(two, references), { code: 'unequal-ids' });
    const qa = [{ answer: 'couch', category_id: 14, id: 158581, question: 'on what?', video_id: 6513 }];
    assert.deepEqual(await readReferences(JSON.stringify(qa), 'test_qa.json'), {
      task: 'question',
      metric: 'exact',
      items: [{ id: '158581', file: 'video6513', imageId: '6513', texts: ['couch'], question: 'on what?' }],
    });
    await refused(readReferences('[{"videoID":"a","enCap":"no list"}]', 'vatex.json'), 'layout', /0\.enCap/);
    await refused(readReferences('[{"id":1}]', 'qa.json'), 'layout', /0\.question/);
    await refused(readReferences('[', 'qa.json'), 'not-json', /qa\.json/);
  });

  it('in other encodings are refused, with the line', async () => {
    const encoded = (content: FileContent, message: RegExp) =>
      Promise.all([
        refused(readPredictions(content, 'said.jsonl'), 'encoding', message),
        refused(readReferences(content, 'said.jsonl'), 'encoding', message),
      ]);
    await encoded(`\ufeff${SAID}`, /said\.jsonl: line 1: .*byte order mark/);
    await encoded(bytes(`\ufeff${SAID}`), /byte order mark/);
    await encoded(bytes(`\ufeff${SAID}`, 'utf16le'), /line 1: .*UTF-16/);
    await encoded(bytes(SAID, 'utf16le'), /line 1: .*UTF-16/);
    await encoded(Buffer.from(`\ufeff${SAID}`, 'utf16le').swap16(), /line 1: .*UTF-16/);
    const latin = Buffer.from('{"file":"a.jpg","references":["Käse"]}', 'latin1');
    await refused(readReferences(latin, 'people.jsonl'), 'encoding', /line 1: .*not UTF-8/);
    const third = Buffer.concat([Buffer.from(`${PEOPLE}\n`), latin]);
    await refused(readReferences(third, 'people.jsonl'), 'encoding', /line 3: .*not UTF-8/);
    const json = Buffer.from('{\n"images": [],\n"annotations": [{"image_id": 1, "caption": "K\xe4se"}]\n}', 'latin1');
    await refused(readReferences(json, 'coco.json'), 'encoding', /line 3: .*not UTF-8/);
  });

  it('may hold the replacement character, which people do write', async () => {
    const [said] = await readPredictions(bytes('{"file":"a","text":"caf\ufffd"}'), 'said.jsonl');
    assert.equal(said!.text, 'caf\ufffd');
  });

  it('that are empty, too long or broken are refused', async () => {
    await refused(readPredictions('', 'said.jsonl'), 'empty-file', /said\.jsonl/);
    await refused(readReferences(' \n \r\n', 'people.jsonl'), 'empty-file', /people\.jsonl/);
    const long = `{"file":"a.jpg","text":"${'x'.repeat(1_000_001)}"}`;
    await refused(readPredictions(long, 'said.jsonl'), 'too-long', /line 1/);
    await refused(readPredictions(`${SAID}${long}`, 'said.jsonl'), 'too-long', /line 4/);
    await refused(readPredictions(`${SAID}{`, 'said.jsonl'), 'not-json', /line 4/);
    await refused(readPredictions('[{"image_id":1}]', 'results.json'), 'layout', /results\.json/);
    await refused(readPredictions('a.jpg\t[]', 'said.tsv'), 'missing-field', /line 1/);
    await refused(readReferences('{"a":1}\n', 'people.json'), 'layout', /annotations/);
    await refused(readReferences('{"references":["a"]}\n', 'people.jsonl'), 'layout', /line 1/);
    const both = '{"file":"a","references":["a"]}\n{"question_id":1,"answers":["a"]}';
    await refused(readReferences(both, 'people.jsonl'), 'mixed', /line 2/);
  });

  it('that do not fit each other are refused, with the id', async () => {
    const people = await readReferences(PEOPLE, 'people.jsonl');
    const code = (body: () => unknown, code: string, message: RegExp) =>
      assert.throws(
        body,
        (error) => error instanceof MetricError && error.code === code && message.test(error.message),
      );
    const [a, b] = await readPredictions(SAID, 'said.jsonl');
    assert.equal(pairUp([a!, b!], people).length, 2);
    code(() => pairUp([a!, a!, b!], people), 'duplicate-id', /a\.jpg.*predicted twice/);
    code(() => pairUp([a!], people), 'unequal-ids', /1 of 2 references have no prediction.*b\.jpg/);
    assert.equal(pairUp([a!], people, true).length, 1);
    code(() => pairUp([a!, b!, { id: 'c.jpg', text: 'c' }], people, true), 'unequal-ids', /c\.jpg/);
    const twice = await readReferences(`${PEOPLE}\n{"file":"a.jpg","references":["A"]}`, 'people.jsonl');
    code(() => pairUp([a!, b!], twice), 'duplicate-id', /a\.jpg.*references twice/);
  });
});
