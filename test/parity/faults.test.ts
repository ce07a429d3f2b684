import assert from 'node:assert/strict';
import { rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { memory } from '@tensorflow/tfjs-core';
import { OptionError } from '../../src/errors.js';
import type { ParityRow } from '../../src/parity/index.js';
import { runParity } from '../../src/parity/index.js';
import { useBackend } from '../support/backends.js';
import { REFERENCE } from '../support/fixtures.js';
import { changeElement, changeJson, collect, withCopy, writeFolder } from './support.js';

const MODEL = `${REFERENCE}tiny-b`;
const model = (...cases: string[]): string[] =>
  ['config.json', 'model.safetensors', ...cases].map((file) => `${MODEL}/${file}`);

/** The rows that fail, as `case tensor`. */
const failures = (rows: readonly ParityRow[]): string[] =>
  rows.filter((row) => row.verdict === 'fail').map((row) => `${row.case.replace(/^parity-[^/]*\//, '')} ${row.tensor}`);

describe('parity notices', () => {
  before(() => useBackend('cpu'));

  it('one logit that is off by twice the tolerance', async () => {
    await withCopy(model('forward_b1.json', 'forward_b1.safetensors'), async (folder) => {
      assert.deepEqual(failures(await collect(folder)), []);
      changeElement(join(folder, 'forward_b1.safetensors'), 'logits.f64', 1000, (value) => value + 2e-4);
      const rows = await collect(folder);
      assert.deepEqual(failures(rows), ['forward_b1 logits']);
      const [row] = rows.filter(({ verdict }) => verdict === 'fail');
      assert.match(row!.note!, /^at \[0,7,83\]: ours -?\d+\.\d+, expected/); // 1000 = 7 x 131 + 83
      assert.ok(row!.error! > 1.9e-4 && row!.error! < 2.1e-4);
    });
  });

  it('a stage that is NaN, a mask, a cache entry', async () => {
    await withCopy(model('forward_b3.json', 'forward_b3.safetensors'), async (folder) => {
      const file = join(folder, 'forward_b3.safetensors');
      changeElement(file, 'vision.layer.0', 5, () => Number.NaN);
      changeElement(file, 'attention_allowed', 1, (value) => 1 - value);
      changeElement(file, 'past.1.key', 0, (value) => value + 0.1);
      assert.deepEqual(failures(await collect(folder)), [
        'forward_b3 attention_allowed',
        'forward_b3 past.1.key',
        'forward_b3 vision.layer.0',
      ]);
    });
  });

  it('one changed weight', async () => {
    await withCopy(model('text_only.json', 'text_only.safetensors'), async (folder) => {
      changeElement(join(folder, 'model.safetensors'), 'output.bias', 3, (value) => value + 0.01);
      assert.deepEqual(failures(await collect(folder)), ['text_only logits']);
    });
  });

  it('one token and one score of a generation', async () => {
    await withCopy(model('generation.json', 'generation.safetensors'), async (folder) => {
      changeJson(join(folder, 'generation.json'), (json) => {
        json.cases = json.cases.filter((c: any) => ['greedy_0', 'beam4_single'].includes(c.name));
        json.cases[0].sequences[0][2]++;
        json.cases[1].sequences_scores_f64[0] -= 2e-4;
      });
      const rows = await collect(folder);
      assert.deepEqual(failures(rows), ['generation/greedy_0 sequences', 'generation/beam4_single scores']);
      assert.match(rows[0]!.note!, /^row 0, token 2: ours \d+, expected \d+$/);
    });
  });

  it('one token of the original beam search, and a model that is not there', async () => {
    const files = [`${REFERENCE}tiny-a`, `${REFERENCE}tiny-original-beam`];
    await withCopy(files, async (folder) => {
      changeJson(join(folder, 'tiny-original-beam/original_beam.json'), (json) => {
        json.cases = [json.cases[5], json.cases.at(-1)];
        json.cases[0].predictions[1][4]++;
      });
      const rows = await collect(folder, { only: 'tiny-original-beam' });
      assert.deepEqual(failures(rows), ['tiny-original-beam/original_beam/00-tiny-a-beam sequences']);
      assert.deepEqual(
        rows.map((row) => row.verdict),
        ['fail', 'pass', 'not run'],
      );
    });
  });

  it('one logit of sampling', async () => {
    const files = ['config.json', 'model.safetensors', 'sampling.json', 'sampling.safetensors'];
    await withCopy(
      files.map((file) => `${REFERENCE}tiny-a/${file}`),
      async (folder) => {
        changeElement(join(folder, 'sampling.safetensors'), 'top_k_5.probs', 3, (value) => value + 1e-4);
        assert.deepEqual(failures(await collect(folder)), ['sampling/top_k_5 probs']);
      },
    );
  });

  it('one pixel of an image, of a resized one, of the values', async () => {
    await withCopy([`${REFERENCE}image-processor`], async (folder) => {
      const inside = join(folder, 'image-processor');
      changeElement(join(inside, 'resize.safetensors'), 'out.00_noise.bicubic', 7, (value) => value ^ 1);
      changeElement(join(inside, 'normalize_table.safetensors'), 'normalize_table', 300, (value) => value + 1e-6);
      changeElement(join(inside, 'crop_with_padding.safetensors'), 'pixel_values', 400, (value) => value + 1e-6);
      changeJson(join(inside, 'pictures.json'), (json) => {
        json.pictures[0].size30.resized_sha256 = json.pictures[1].size30.crop_sha256;
        json.pictures[1].size224.pixel_values_sha256 = json.pictures[0].size30.pixel_values_sha256;
        json.pictures[2].file = json.pictures[1].file;
      });
      changeJson(join(inside, 'other-routes.json'), (json) => json.minmax_sizes.rows[0][4]++);
      const rows = failures(await collect(folder)).map((row) => row.replace('image-processor/', ''));
      assert.deepEqual(rows.sort(), [
        'crop_with_padding pixel_values',
        'normalize_table normalize_table',
        'other-routes/minmax_sizes sizes',
        'pictures/png_rgb.png size30 resized',
        'pictures/png_rgba.png decoded',
        'pictures/png_rgba.png size224 pixel_values',
        'resize/00_noise bicubic',
      ]);
    });
  });

  it('one id, one character, another vocabulary', async () => {
    await withCopy([], async (folder) => {
      const words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'a', 'cat', 'dog', '##s'];
      writeFolder(folder, {
        'vocab.txt': `${words.join('\n')}\n`,
        'encode.jsonl': '{"text":"A cat","ids":[5,6]}\n{"text":"dogs","ids":[7,7]}\n',
        'cut.jsonl': '{"text":"a cat","max_length":3,"ids":[2,5,3]}\n',
        'batch.jsonl':
          '{"texts":["a","a cat"],"input_ids":[[2,5,3,0],[2,5,6,3]],"attention_mask":[[1,1,1,1],[1,1,1,1]]}\n',
        'decode.jsonl':
          '{"ids":[2,5,6,8,3],"skip_clean":"a cats","skip_raw":"a cats","keep_clean":"[CLS] a cats","keep_raw":"[CLS] a cats [SEP]"}\n',
        'meta.json': '{"vocab_sha256":"0"}',
      });
      const rows = await collect(folder);
      assert.deepEqual(failures(rows), [
        'vocab.txt sha256',
        'batch attention_mask',
        'decode keep_clean',
        'encode ids',
        'encode ids with [CLS] and [SEP]',
      ]);
      assert.equal(rows.length, 10);
      assert.match(rows.find((row) => row.tensor === 'ids')!.note ?? '', /^$|token/);
    });
  });

  it('a formula that gives other weights', async () => {
    await withCopy([`${REFERENCE}full-b16`], async (folder) => {
      changeJson(join(folder, 'full-b16/weights.json'), (json) => {
        json.tensors[3].sha256_f32le = json.tensors[4].sha256_f32le;
        json.tensors[5].last *= 1.000001;
      });
      const [, values] = await collect(folder, { only: 'full-b16/weights' });
      assert.equal(values!.verdict, 'fail');
      assert.equal(values!.error, 2);
    });
  });
});

describe('a broken case', () => {
  before(() => useBackend('cpu'));

  const broken = async (cases: string[], breakIt: (folder: string) => void): Promise<string[]> =>
    withCopy(model(...cases), async (folder) => {
      breakIt(folder);
      const rows = await collect(folder);
      for (const row of rows.filter(({ verdict }) => verdict === 'fail')) {
        assert.ok(row.note !== undefined && !row.note.includes('\n'), `one line: ${row.note}`);
      }
      return failures(rows);
    });
  const text = ['text_only.json', 'text_only.safetensors'];
  const forward = ['forward_b1.json', 'forward_b1.safetensors'];

  it('is a failure, and the others still run', async () => {
    const both = [...text, ...forward];
    const cut = await broken(both, (folder) => truncateSync(join(folder, 'text_only.safetensors'), 999));
    assert.deepEqual(cut, ['text_only -']);
    assert.deepEqual(await broken(both, (folder) => writeFileSync(join(folder, 'forward_b1.json'), '{')), [
      'forward_b1 -',
    ]);
  });

  it('that index.json names and nobody sees', async () => {
    const found = await broken(text, (folder) =>
      writeFileSync(join(folder, 'index.json'), '{"cases":[{"case":"text_only"},{"case":"gone"}]}'),
    );
    assert.deepEqual(found, ['gone -']);
    assert.deepEqual(await broken(text, (folder) => writeFileSync(join(folder, 'index.json'), '[')), ['index.json -']);
  });

  it('without weights, or with those of another size', async () => {
    assert.deepEqual(await broken(text, (folder) => rmSync(join(folder, 'model.safetensors'))), ['text_only -']);
    const other = await broken(text, (folder) => changeJson(join(folder, 'config.json'), (json) => json.vocab_size--));
    assert.deepEqual(other, ['text_only -']);
  });

  it('whose inputs do not fit the model', async () => {
    const id = await broken(text, (folder) =>
      changeElement(join(folder, 'text_only.safetensors'), 'input_ids', 0, () => 131),
    );
    assert.deepEqual(id, ['text_only -']);
    const generation = ['generation.json', 'generation.safetensors'];
    const image = await broken(generation, (folder) =>
      changeJson(join(folder, 'generation.json'), (json) => {
        json.cases.length = 1;
        json.cases[0].images = [99];
      }),
    );
    assert.deepEqual(image, ['generation/greedy_0 -']);
    const layout = await broken(generation, (folder) =>
      changeJson(join(folder, 'generation.json'), (json) => delete json.cases[3].sequences),
    );
    assert.deepEqual(layout, ['generation.json -']);
  });

  it('with a json that is none', async () => {
    assert.deepEqual(await broken(text, (folder) => writeFileSync(join(folder, 'other.json'), '{"a":')), [
      'other.json -',
    ]);
  });
});

describe('a case that cannot be run', () => {
  before(() => useBackend('cpu'));

  it('is named with the reason', async () => {
    const files = model('text_only.safetensors', 'text_only.json', 'generation.json', 'generation.safetensors');
    await withCopy(files, async (folder) => {
      changeJson(join(folder, 'text_only.json'), (json) => delete json.suggested_atol['past.0.key']);
      changeJson(join(folder, 'generation.json'), (json) => {
        json.cases = [0, 1, 2].map((index) => json.cases[index]);
        json.cases[0].args.penalty_alpha = 0.6;
        json.cases[1].args.do_sample = true;
      });
      const rows = (await collect(folder)).filter((row) => row.verdict !== 'pass');
      assert.deepEqual(
        rows.map((row) => [row.verdict, row.note!.replace(/[ ,:].*/, '')]),
        [
          ['not run', 'no'],
          ['not run', 'random'],
          ['not run', 'no'],
        ],
      );
    });
  });

  it('is never the reason for an empty success', async () => {
    await withCopy([], async (folder) => {
      await assert.rejects(collect(folder), (error) => error instanceof OptionError && error.code === 'no-cases');
      await assert.rejects(
        collect(join(folder, 'x')),
        (error) => error instanceof OptionError && error.code === 'not-a-folder',
      );
    });
    await assert.rejects(collect(MODEL, { only: 'no such case' }), /no case matches/);
  });
});

describe('a parity run', () => {
  before(() => useBackend('cpu'));

  it('takes a part of a name or a pattern', async () => {
    const names = async (only: string) => [...new Set((await collect(MODEL, { only })).map((row) => row.case))];
    assert.deepEqual(await names('forward_b'), ['tiny-b/forward_b1', 'tiny-b/forward_b3']);
    assert.deepEqual(await names('*/pad_*'), ['tiny-b/pad_left', 'tiny-b/pad_right']);
    assert.deepEqual(await names('tiny-b/t*y'), ['tiny-b/text_only']);
  });

  it('leaves nothing when it is left or aborted', async () => {
    const start = memory().numTensors;
    for await (const row of runParity(MODEL, { only: 'forward_b1' })) {
      assert.equal(row.verdict, 'pass');
      break;
    }
    assert.equal(memory().numTensors, start);
    const controller = new AbortController();
    const reason = new Error('enough');
    await assert.rejects(async () => {
      for await (const _ of runParity(MODEL, { signal: controller.signal })) controller.abort(reason);
    }, reason);
    assert.equal(memory().numTensors, start);
  });
});
