import { randomUniform, setBackend } from '@tensorflow/tfjs-core';
import { generatedStore } from '../src/checkpoint/generated-weights.js';
import { encodeImage, generate, gitSpec, imageFeatures, parseGitConfig, prefillImage, startSession } from '../src/index.js';
import { disposeCache } from '../src/model/git.js';
import { loadGitParams } from '../src/model/load-git.js';
import { startBackend } from '../src/node.js';
import { setThreads } from 'tfjs-backend-simd';
import { SIZES } from './measure-model.js';
import { ENDLESS_RECIPE } from './support.js';
import { Session } from 'node:inspector/promises';
await startBackend('simd'); setThreads(1);
const format = (process.argv[2] ?? 'int8-fast') as any;
const { vocab_size, text, vision } = SIZES['base']!;
const config = parseGitConfig({ model_type: 'git', vocab_size, ...text, vision_config: { ...vision, image_size: 224, patch_size: 16 } });
const params = await loadGitParams(config, generatedStore(gitSpec(config), ENDLESS_RECIPE), 'generated', { weights: format });
const git = { config, params };
const pixels = randomUniform([1, 224, 224, 3], -2, 2, 'float32', 7) as any;
const time = async (name: string, n: number, body: () => Promise<void>) => {
  const times: number[] = [];
  for (let i = 0; i < n; i++) { const u0 = process.cpuUsage(), t0 = performance.now(); await body(); const c = performance.now() - t0, u = process.cpuUsage(u0); times.push(Math.min(c, (u.user + u.system) / 1000)); }
  times.sort((a, b) => a - b); console.log(name, 'best', times[0]!.toFixed(1), 'median', times[n >> 1]!.toFixed(1));
};
const enc = async () => { const made = imageFeatures(git, pixels); await made.data(); made.dispose(); };
const features = imageFeatures(git, pixels);
const pre = async () => { const made = prefillImage(git, features); await made.at(-1)!.value.data(); disposeCache(made); };
const vocabulary = { size: config.vocabSize, bosId: config.bosTokenId, eosIds: config.eosTokenIds };
const cap = async () => { const own = encodeImage(git, pixels); await generate(() => startSession(git, own), vocabulary, { strategy: 'greedy', maxNewTokens: 20 }); disposeCache(own); };
for (let i = 0; i < 3; i++) { await enc(); await pre(); }
const N = Number(process.argv[3] ?? 15);
await time('encode', N, enc); await time('prefill', N, pre); await time('caption', Math.ceil(N / 2), cap);
const session = new Session(); session.connect();
await session.post('Profiler.enable'); await session.post('Profiler.setSamplingInterval', { interval: 500 }); await session.post('Profiler.start');
for (let i = 0; i < N; i++) { await enc(); await pre(); }
const { profile } = await session.post('Profiler.stop');
const self = new Map<string, number>(); let total = 0;
const byId = new Map(profile.nodes.map((n) => [n.id, n]));
profile.samples!.forEach((id, i) => { const n = byId.get(id)!; const d = profile.timeDeltas![i]!; const key = n.callFrame.functionName + ' ' + n.callFrame.url.split('/').slice(-1) + ':' + n.callFrame.lineNumber; self.set(key, (self.get(key) ?? 0) + d); total += d; });
for (const [k, v] of [...self].sort((a, b) => b[1] - a[1]).slice(0, 25)) console.log((v / total * 100).toFixed(1).padStart(5), '%', (v / 1000 / N).toFixed(1).padStart(7), 'ms', k);
