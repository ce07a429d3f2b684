import assert from 'node:assert/strict';
import type { Browser } from 'playwright-core';
import { drawKnown, drawNew, LESSON } from '../../examples/few-shot-lora/lesson.js';
import { fromBytes } from '../../src/checkpoint/byte-source.js';
import { fromDirectory } from '../../src/platform/node-files.js';
import { disposeAdapter, loadAdapter } from '../../src/training/index.js';
import { launchChromium } from '../support/chromium.js';
import { DEMO } from '../support/fixtures.js';
import { loadDemo } from '../training/support.js';
import { type LessonImage, type LessonResult, type LessonTask, teach } from './lesson.js';
import { ISOLATED, openSite, type TestPage } from './site.js';

const inBase64 = (drawn: ReturnType<typeof drawNew>): LessonImage[] =>
  drawn.map(({ image, truth }) => ({ pixels: Buffer.from(image.data).toString('base64'), text: truth }));

describe('training in the worker of a page', () => {
  let browser: Browser;
  let site: TestPage;
  before(async function () {
    browser = await launchChromium(this);
  });
  after(() => browser?.close());
  beforeEach(async () => {
    site = await openSite(browser, ISOLATED);
  });
  afterEach(() => site?.close());

  const task = (steps: number, threads = 2): LessonTask => ({
    ...{ size: 96, threads },
    pairs: [...inBase64(drawNew(3, 1)), ...inBase64(drawKnown(3, 1))],
    options: { ...LESSON, batchSize: 4, steps },
    asked: inBase64(drawNew(2, 2)),
  });

  it('gives the adapter that Node gives, bit for bit, as files of PEFT', async () => {
    const { files, ...facts } = (await site.inWorker('teach', task(4))) as LessonResult;
    const { files: ofNode, ...inNode } = await teach(task(4, 1), await fromDirectory(DEMO));
    assert.deepEqual(facts.steps, [1, 2, 3, 4]);
    assert.deepEqual(facts.losses, inNode.losses);
    assert.deepEqual(facts.said, inNode.said);
    assert.equal(facts.tensors, 0);
    assert.deepEqual(files, ofNode);
    const bytes = new Map(Object.entries(files).map(([name, text]) => [name, Buffer.from(text, 'base64')]));
    const folder = {
      label: 'downloads',
      open: async (name: string) => (bytes.has(name) ? fromBytes(new Uint8Array(bytes.get(name)!)) : undefined),
    };
    const model = await loadDemo();
    const adapter = await loadAdapter(folder, model);
    assert.ok(adapter.layers.size > 0);
    disposeAdapter(adapter);
    model.dispose();
    assert.deepEqual(site.complaints, []);
  });

  it('stops when the page says so, between two layers, and leaves nothing', async () => {
    assert.equal(await site.inWorker('teachUntilStopped', task(100_000)), 'started');
    const { ended, steps, tensors } = (await site.inWorker('stopTeaching')) as Record<string, unknown>;
    assert.equal(ended, 'enough');
    assert.ok((steps as number) < 100_000);
    assert.equal(tensors, 0);
    assert.deepEqual(site.complaints, []);
  });
});
