/**
 * Teaches the demo checkpoint a new thing by LoRA, from forty images: `npx tsx examples/few-shot-lora/teach.ts [FOLDER]`. FOLDER gets the adapter.
 */
import { setThreads } from 'tfjs-backend-simd';
import { fromDirectory, loadImage2Text, quietTensorflow, startBackend, trainingFolder } from '../../src/node.js';
import { saveAdapter, train } from '../../src/training/index.js';
import { examine, LESSON, lessonPairs } from './lesson.js';

quietTensorflow();
await startBackend('simd');
setThreads(2);
const model = await loadImage2Text(await fromDirectory(new URL('../../weights/demo', import.meta.url).pathname));
const marks = await examine(model, async () => {
  const [started, before] = [performance.now(), process.cpuUsage()];
  const pairs = await lessonPairs(model);
  const { adapter } = await train(model, pairs, {
    ...LESSON,
    onEvent: (event) => {
      if (event.type === 'step' && event.step % 25 === 0)
        console.log(`step ${event.step}: loss ${event.loss.toFixed(4)}`);
    },
  });
  const { user, system } = process.cpuUsage(before);
  const [clock, processor] = [(performance.now() - started) / 1000, (user + system) / 1e6];
  console.log(`taught in ${clock.toFixed(0)} s; ${processor.toFixed(0)} s of processor time on two threads`);
  const [folder] = process.argv.slice(2);
  if (folder !== undefined) await saveAdapter(adapter!, await trainingFolder(folder), 'demo');
  model.useAdapter(adapter);
});
console.log(
  `says so of ${(100 * marks.learned).toFixed(0)} % of new images; keeps ${(100 * marks.kept).toFixed(0)} % of what it said`,
);
process.exit(0);
