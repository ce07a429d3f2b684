import assert from 'node:assert/strict';
import type { Tensor4D, Tensor5D } from '@tensorflow/tfjs-core';
import { memory, randomUniform } from '@tensorflow/tfjs-core';
import { randomParams } from '../../src/checkpoint/generated-weights.js';
import {
  disposeCache,
  disposeGit,
  encodeImage,
  encodeImageInTurns,
  gitSpec,
  type ImageCache,
} from '../../src/model/git.js';
import { parseGitConfig } from '../../src/model/git-config.js';
import { BACKENDS, useBackend } from '../support/backends.js';
import { expectTensors } from '../support/close.js';

const [VISION_LAYERS, DECODER_LAYERS] = [4, 3];
/** Embeddings and first norm, each vision layer (the last with the last norm), the projection and each decoder layer. */
const STEPS = 1 + VISION_LAYERS + DECODER_LAYERS;

const makeGit = () => {
  const config = parseGitConfig({
    model_type: 'git',
    ...{ vocab_size: 30, hidden_size: 8, num_hidden_layers: DECODER_LAYERS, num_attention_heads: 2 },
    ...{ intermediate_size: 16, bos_token_id: 1, eos_token_id: 2, max_position_embeddings: 16 },
    num_image_with_embedding: 2,
    vision_config: {
      ...{ hidden_size: 8, num_hidden_layers: VISION_LAYERS, num_attention_heads: 2, intermediate_size: 16 },
      ...{ image_size: 8, patch_size: 4 },
    },
  });
  return { config, params: randomParams(gitSpec(config), 3) };
};

const valuesOf = async (cache: ImageCache): Promise<Float32Array[]> =>
  Promise.all(cache.flatMap(({ key, value }) => [key.data(), value.data()])) as Promise<Float32Array[]>;

/** Counts turns of the event loop until stopped. */
function countTurns(): { readonly turns: () => number; readonly stop: () => void } {
  let [turns, running] = [0, true];
  const next = (): void => {
    if (!running) return;
    turns++;
    setImmediate(next);
  };
  setImmediate(next);
  return { turns: () => turns, stop: () => (running = false) };
}

for (const backend of BACKENDS) {
  describe(`encoding with turns of the event loop on ${backend}`, () => {
    before(() => useBackend(backend));
    const inputs = {
      images: () => randomUniform([2, 8, 8, 3], -1, 1, 'float32', 5) as Tensor4D,
      video: () => randomUniform([1, 2, 8, 8, 3], -1, 1, 'float32', 5) as Tensor5D,
    };

    for (const [kind, make] of Object.entries(inputs)) {
      it(`${kind}: the same bits, and other work has its turn before every layer`, () =>
        expectTensors(0, async () => {
          const git = makeGit();
          const pixels = make();
          const plain = encodeImage(git, pixels);
          const count = countTurns();
          const cache = await encodeImageInTurns(git, pixels);
          count.stop();
          assert.ok(count.turns() >= STEPS - 1, `${count.turns()} turns in ${STEPS} steps`);
          assert.deepEqual(await valuesOf(cache), await valuesOf(plain));
          for (const one of [plain, cache]) disposeCache(one);
          pixels.dispose();
          disposeGit(git);
        }));

      it(`${kind}: an abort before any layer ends it there and leaves no tensor`, () =>
        expectTensors(0, async () => {
          const git = makeGit();
          const pixels = make();
          const before = memory().numTensors;
          for (let at = 0; at < STEPS; at++) {
            const control = new AbortController();
            let turn = 0;
            const next = (): void => {
              if (turn++ === at) control.abort(new Error(`enough ${at}`));
              else setImmediate(next);
            };
            setImmediate(next);
            await assert.rejects(encodeImageInTurns(git, pixels, { signal: control.signal }), {
              message: `enough ${at}`,
            });
            assert.equal(memory().numTensors, before, `aborted at ${at}`);
          }
          pixels.dispose();
          disposeGit(git);
        }));

      it(`${kind}: a step that throws leaves no tensor`, () =>
        expectTensors(0, async () => {
          const git = makeGit();
          const pixels = make();
          const before = memory().numTensors;
          const names = ['vision.embeddings', 'vision.layer.2', 'vision.post_layernorm', 'image.decoder.layer.1'];
          for (const at of names) {
            const trace = (name: string): void => {
              if (name === at) throw new Error(`broken ${at}`);
            };
            await assert.rejects(encodeImageInTurns(git, pixels, { trace }), { message: `broken ${at}` });
            assert.throws(() => encodeImage(git, pixels, trace), { message: `broken ${at}` });
            assert.equal(memory().numTensors, before, at);
          }
          pixels.dispose();
          disposeGit(git);
        }));
    }
  });
}
