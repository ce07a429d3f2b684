import assert from 'node:assert/strict';
import type { Browser } from 'playwright-core';
import { launchChromium } from '../support/chromium.js';
import { largestError } from '../support/close.js';
import { FEW, IMAGES, namesOf, probeInNode, textsOf } from './expected.js';
import type { ProbeResult, ProbeRun } from './probe.js';
import { ISOLATED, openSite, type TestPage } from './site.js';

const texts = ({ captions }: ProbeRun): string[] => captions.map(({ text }) => text);

describe('simd in the worker of a page', () => {
  let browser: Browser;
  let site: TestPage;
  let node: ProbeResult;
  before(async function () {
    browser = await launchChromium(this);
    node = await probeInNode({ options: { threads: 1 }, threads: [1], images: namesOf(IMAGES) });
  });
  after(() => browser?.close());
  const open = async (headers: Readonly<Record<string, string>>) => {
    site = await openSite(browser, headers);
  };
  afterEach(() => site?.close());

  it('isolated: every image with one, two and four threads, the same bits each time and the same as in Node', async () => {
    await open(ISOLATED);
    const { runs, ...facts } = await site.probe('worker', { threads: [1, 2, 4], images: namesOf(IMAGES) });
    assert.deepEqual([facts.sharedMemory, facts.tensors, facts.compiled.length], [true, 0, 1]);
    assert.deepEqual(
      runs.map(({ threads }) => threads),
      [1, 2, 4].map((count) => [count, count]),
    );
    const [alone, ...others] = runs;
    for (const { captions, logits } of others) {
      assert.deepEqual(captions, alone!.captions);
      assert.deepEqual(logits, alone!.logits);
    }
    const [run] = node.runs;
    assert.deepEqual(texts(alone!), textsOf(IMAGES));
    assert.equal(alone!.logits.length, 356);
    assert.deepEqual([alone!.captions, alone!.logits], [run!.captions, run!.logits]);
    console.log(`      ${IMAGES.length} captions, 1, 2 and 4 threads: bit for bit those of Node`);
    const chunks = site.asked.filter((path) => /-(?:un)?shared-/.test(path));
    assert.deepEqual(
      chunks.map((path) => path.replace(/-[A-Z0-9]+\.js$/, '')),
      ['/relaxed-shared'],
      'one of the four binaries is loaded',
    );
    assert.deepEqual(site.complaints, []);
  });

  it('threads are there from the first image on, and gone when the backend is', async () => {
    await open(ISOLATED);
    await site.probe('worker', { options: { threads: 3 }, threads: [3], images: [] });
    await site.workers(3); // the worker and two threads
    await site.inWorker('remove');
    await site.workers(1);
    await site.probe('worker', { options: { threads: 2 }, threads: [2], images: [] });
    await site.workers(2);
    await site.page.evaluate('testWorker.terminate()'); // Chromium gives workers that wait two more seconds
    await site.workers(0);
    assert.deepEqual(site.complaints, []);
  });

  it('no thread is left where the backend is removed while it starts', async () => {
    await open(ISOLATED);
    assert.equal(await site.inWorker('removeEarly'), false);
    await site.workers(1);
  });

  it('not isolated: memory of its own, one thread, the same bits', async () => {
    await open({});
    const { runs, sharedMemory } = await site.probe('worker', { threads: [4, 1], images: namesOf(FEW) });
    assert.equal(sharedMemory, false);
    for (const { threads, captions, logits } of runs) {
      assert.deepEqual(threads, [1, 1]);
      assert.deepEqual(logits, node.runs[0]!.logits);
      assert.deepEqual(
        captions,
        FEW.map(({ name }) => node.runs[0]!.captions[namesOf(IMAGES).indexOf(name)]),
      );
    }
    await site.workers(1);
    assert.deepEqual(site.complaints, []);
  });

  it('without relaxed SIMD: the plain binary, as in Node', async () => {
    await open(ISOLATED);
    await site.inWorker('forgetRelaxedSimd');
    const task = { threads: [2], images: namesOf(FEW) };
    const { runs } = await site.probe('worker', task);
    const plain = await probeInNode({ ...task, options: { relaxed: false } });
    assert.deepEqual(runs, plain.runs);
    assert.ok(site.asked.some((path) => path.startsWith('/plain-shared-')));
    assert.ok(!site.asked.some((path) => path.startsWith('/relaxed-')));
  });

  it('relaxed SIMD on a processor that cannot fuse: other bits, the same words', async function () {
    const unfused = await launchChromium(this, ['--js-flags=--no-enable-fma3']);
    try {
      site = await openSite(unfused, ISOLATED);
      const { runs } = await site.probe('worker', { threads: [2], images: namesOf(FEW) });
      assert.deepEqual(texts(runs[0]!), textsOf(FEW));
      const scale = node.runs[0]!.logits.reduce((top, x) => Math.max(top, Math.abs(x)), 0);
      const error = largestError(runs[0]!.logits, node.runs[0]!.logits).error / scale;
      console.log(`      without fused multiply-add: logits within ${error.toExponential(1)} of the largest`);
      assert.ok(error <= 2e-6, `${error}`);
    } finally {
      await unfused.close();
    }
  });

  for (const format of ['bf16', 'int8'] as const) {
    it(`weights as ${format}: the same bits as in Node`, async () => {
      await open(ISOLATED);
      const task = { format, options: { threads: 2 }, threads: [2], images: namesOf(FEW) };
      const [here, there] = [await site.probe('worker', task), await probeInNode(task)];
      assert.deepEqual(here.runs, there.runs);
      assert.deepEqual(texts(here.runs[0]!), textsOf(FEW));
      const { error } = largestError(here.runs[0]!.logits, node.runs[0]!.logits);
      assert.ok(error > 0, 'it is another format');
    });
  }
});
