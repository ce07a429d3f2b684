/**
 * `npm run bench:training -- [--runs 3] [--batch 4] [--tokens 20] [--size base|tiny] [--threads 1] [--recompute]`
 *
 * What a training step costs beside its own forward pass, on simd at the git-base size with generated weights: the decoder is trained, the vision
 * tower is frozen, so that its features are computed once and given. `forward` is what the step's own forward pass does: projection, decoder
 * and loss of the batch, from those features. `gradients` is forward and backward, `step` also the update. `tower` is the frozen
 * tower's pass over the images, which a step without cached features does as well. Measured in turns; with one thread CPU time.
 */
import { parseArgs } from 'node:util';
import { backend, dispose, memory, randomUniform, type Tensor3D, type Tensor4D } from '@tensorflow/tfjs-core';
import { type SimdBackend, setThreads } from 'tfjs-backend-simd';
import { GIT_BASE_RECIPE, generatedStore } from '../src/checkpoint/generated-weights.js';
import { gitSpec, imageFeatures, parseGitConfig } from '../src/index.js';

import { disposeGit } from '../src/model/git.js';
import { loadGitParams } from '../src/model/load-git.js';
import { quietTensorflow, startBackend } from '../src/node.js';
import { accumulateGradients, countLabels } from '../src/training/backward.js';
import { startGradients } from '../src/training/gradients.js';
import { startOptimization, VISION_PREFIX } from '../src/training/optimizer.js';
import { load, machine, median, ms, table, timeTogether } from './support.js';

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '3' },
    batch: { type: 'string', default: '4' },
    tokens: { type: 'string', default: '20' },
    size: { type: 'string', default: 'base' },
    threads: { type: 'string', default: '1' },
    recompute: { type: 'boolean', default: false },
    tower: { type: 'boolean', default: false },
  },
});
const [runs, size, tokens, threads] = [values.runs, values.batch, values.tokens, values.threads].map(Number) as [
  number,
  number,
  number,
  number,
];

const width = values.size === 'base' ? 768 : 96;
const sizes = (layers: number) => ({
  ...{
    hidden_size: width,
    num_hidden_layers: layers,
    num_attention_heads: width / 64 || 1,
    intermediate_size: 4 * width,
  },
});
const config = parseGitConfig({
  ...{ model_type: 'git', vocab_size: 30522, ...sizes(6) },
  vision_config: { ...sizes(12), image_size: 224, patch_size: 16 },
});

quietTensorflow();
await startBackend('simd');
setThreads(threads);
const git = {
  config,
  params: await loadGitParams(config, generatedStore(gitSpec(config), GIT_BASE_RECIPE), 'generated', {}),
};
const pixels = randomUniform([size, 224, 224, 3], -2, 2, 'float32', 7) as Tensor4D;
// What the features are changes nothing of what a step costs.
const features = randomUniform([size, 197, width], -1, 1, 'float32', 8) as Tensor3D;
const ids = Array.from({ length: size }, (_, b) =>
  Array.from({ length: tokens }, (_, t) => (t === 0 ? 101 : t === tokens - 1 ? 102 : 1000 + 97 * b + 31 * t)),
);
const labels = ids.map((row) => row.map((id, t) => (t === 0 ? -100 : id)));
const batch = { features, ids, labels };
const recompute = values.recompute;
const optimization = startOptimization(git, {
  ...{ steps: 1000, schedule: 'constant', warmupSteps: 0, learningRate: 1e-5, visionLearningRate: 1e-5 },
  ...{ weightDecay: 0.01, maxGradNorm: 1, labelSmoothing: 0.1, betas: [0.9, 0.999], epsilon: 1e-8 },
  ...{ recompute, freeze: [VISION_PREFIX] },
});
const names = [...optimization.state().parameters.keys()];
const options = { smoothing: 0.1, total: countLabels(labels), recompute };
const pass = async (lossOnly: boolean) => {
  const gradients = startGradients(names);
  await accumulateGradients(optimization.current().git, batch, gradients, { ...options, lossOnly });
  gradients.dispose();
};
const bodies = {
  forward: () => pass(true),
  gradients: () => pass(false),
  step: () => optimization.step([batch]),
  ...(values.tower ? { tower: async () => dispose(imageFeatures(git, pixels)) } : {}),
};
console.log(
  `${machine()}, ${load()}\nGIT ${values.size}, batch ${size}, ${config.vision.imageSize} px, ${tokens} tokens, recompute ${recompute}, ` +
    `${threads === 1 ? 'one thread, CPU time' : `${threads} threads, time by the clock`}, medians of ${runs} runs in turns\n`,
);
const times = await timeTogether(runs, Object.values(bodies), threads > 1);
const medians = times.map((list) => median(list));
console.log(
  table([
    ['', 'time', 'of forward'],
    ...Object.keys(bodies).map((name, i) => [name, ms(medians[i]!), (medians[i]! / medians[0]!).toFixed(2)]),
  ]),
);
const { simdBytesGrown } = (backend() as SimdBackend).memory();
console.log(
  `\nWebAssembly memory: grown to ${(simdBytesGrown / 2 ** 30).toFixed(2)} GiB; ${memory().numTensors} tensors`,
);
optimization.dispose();
dispose([pixels, features]);
disposeGit(git);
console.log(load());
process.exit(0);
