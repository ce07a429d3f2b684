import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Tensor5D } from '@tensorflow/tfjs-core';
import { tensor5d } from '@tensorflow/tfjs-core';
import { GIT_BASE_RECIPE, generatedStore } from '../../src/checkpoint/generated-weights.js';
import { disposeGit, gitSpec, plainForward } from '../../src/model/git.js';
import { parseGitConfig } from '../../src/model/git-config.js';
import { loadGit } from '../../src/model/load-git.js';
import type { ParityRow } from '../../src/parity/index.js';
import { formatParityTable, summarizeParity } from '../../src/parity/index.js';
import { fromDirectory } from '../../src/platform/node-files.js';
import { useBackend } from '../support/backends.js';
import { expectTensors } from '../support/close.js';
import { FIXTURES } from '../support/fixtures.js';
import type { TestTensor } from './support.js';
import { changeJson, collect, withCopy, writeSafetensors } from './support.js';

/** A video model of sizes that no shared case has. */
const CONFIG = {
  model_type: 'git',
  vocab_size: 71,
  hidden_size: 18,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  intermediate_size: 25,
  max_position_embeddings: 9,
  bos_token_id: 1,
  eos_token_id: 2,
  pad_token_id: 3,
  num_image_with_embedding: 2,
  vision_config: {
    hidden_size: 12,
    intermediate_size: 20,
    num_hidden_layers: 1,
    num_attention_heads: 3,
    image_size: 16,
    patch_size: 4,
  },
};
const IDS = [
  [1, 50, 60, 70],
  [1, 4, 4, 5],
];

async function writeModel(folder: string): Promise<void> {
  writeFileSync(join(folder, 'config.json'), JSON.stringify(CONFIG));
  const tensors: Record<string, TestTensor> = {};
  const recipe = {
    ...GIT_BASE_RECIPE,
    rules: [...GIT_BASE_RECIPE.rules, ['', 0, 0.3]] as typeof GIT_BASE_RECIPE.rules,
    add: [],
  };
  for (const [name, stored] of generatedStore(gitSpec(parseGitConfig(CONFIG)), recipe)) {
    tensors[name] = { shape: stored.shape, values: new Float32Array((await stored.read()).buffer) };
  }
  writeSafetensors(join(folder, 'model.safetensors'), tensors);
}

/** [1, F, 3, height, width] as files have it, and the same as [1, F, height, width, 3]. */
function image(frames: number, height: number, width: number): { stored: TestTensor; pixels: Tensor5D } {
  const at = (f: number, c: number, y: number, x: number) => Math.sin(f * 7 + c * 3 + y * 0.7 + x * 0.3);
  const stored = new Float32Array(frames * 3 * height * width);
  const pixels = new Float32Array(stored.length);
  for (let f = 0; f < frames; f++) {
    for (let c = 0; c < 3; c++) {
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
          stored[((f * 3 + c) * height + y) * width + x] = at(f, c, y, x);
          pixels[((f * height + y) * width + x) * 3 + c] = at(f, c, y, x);
        }
      }
    }
  }
  return {
    stored: { shape: [1, frames, 3, height, width], values: stored },
    pixels: tensor5d(pixels, [1, frames, height, width, 3]),
  };
}

/** A case as somebody else would make it: inputs, and the logits of the plain one-pass program. */
async function writeCase(folder: string, frames: number, height: number, width: number): Promise<void> {
  const git = await loadGit(await fromDirectory(folder));
  const { stored, pixels } = image(frames, height, width);
  const ids: TestTensor = { shape: [1, 4], values: Int32Array.from(IDS[0]!) };
  const logits = plainForward(git, pixels, [IDS[0]!]);
  const values = (await logits.data()) as Float32Array;
  writeSafetensors(join(folder, 'mine.safetensors'), {
    pixel_values: stored,
    input_ids: ids,
    logits: { shape: logits.shape, values },
    'logits.f64': { shape: logits.shape, values: Float64Array.from(values, (value) => value + 1e-7) },
    'my.own.stage': ids,
  });
  disposeGit(git);
  pixels.dispose();
  logits.dispose();
}

describe("somebody's own case", () => {
  before(() => useBackend('wasm'));

  for (const [frames, height, width] of [
    [2, 16, 16],
    [1, 20, 13],
  ] as const) {
    it(`of ${frames} frames of ${height} x ${width}, without json`, () =>
      withCopy([], async (folder) => {
        await writeModel(folder);
        await expectTensors(0, () => writeCase(folder, frames, height, width));
        const rows = await collect(folder);
        assert.deepEqual(
          rows.map((row) => [row.tensor, row.verdict]),
          [
            ['logits', 'pass'],
            ['my.own.stage', 'not run'],
          ],
        );
        const [logits] = rows;
        assert.ok(logits!.tolerance! >= 2e-6 && logits!.tolerance! < 1e-4, `tolerance ${logits!.tolerance}`);
        assert.ok(logits!.ratio !== undefined && logits!.referenceError! > 0);
      }));
  }
});

describe('the table', () => {
  const rows: ParityRow[] = [
    { case: 'a/b', tensor: 'logits', error: 3e-6, referenceError: 2e-6, ratio: 1.5, tolerance: 4e-5, verdict: 'pass' },
    { case: 'a/c', tensor: 'sequences', error: 1, tolerance: 0, verdict: 'fail', note: 'row 0' },
    { case: 'a/long name', tensor: '-', verdict: 'not run', note: 'why' },
  ];

  it('has a line for each row and the sums at the end', () => {
    assert.deepEqual(formatParityTable(rows).split('\n'), [
      'case         tensor       error  reference  ratio  tolerance  verdict  note',
      'a/b          logits     3.00e-6    2.00e-6   1.50    4.00e-5  pass',
      'a/c          sequences        1                            0  fail     row 0',
      'a/long name  -                                                not run  why',
      '',
      '1 passed, 1 failed, 1 not run; worst ratio 1.50 (a/b, logits)',
    ]);
  });

  it('sums up', () => {
    assert.deepEqual(summarizeParity(rows), { passed: 1, failed: 1, notRun: 1, worstRatio: 1.5 });
    assert.deepEqual(summarizeParity([]), { passed: 0, failed: 0, notRun: 0 });
  });
});

describe('parity of published results', () => {
  it('compares them with those that reproduce compares with, and says that none is measured', async () => {
    await withCopy([`${FIXTURES}published_figures.json`], async (directory) => {
      await useBackend('cpu');
      const verdicts = async () => (await collect(directory)).map(({ tensor, verdict }) => [tensor, verdict]);
      assert.deepEqual(await verdicts(), [
        ['figures', 'pass'],
        ['measured', 'not run'],
      ]);
      changeJson(join(directory, 'published_figures.json'), (json) => {
        json.repo[0].exact += 0.01;
      });
      assert.deepEqual((await verdicts())[0], ['figures', 'fail']);
    });
  });
});
