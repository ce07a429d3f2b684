import assert from 'node:assert/strict';
import type { Browser } from 'playwright-core';
import { launchChromium } from '../support/chromium.js';
import { FEW, namesOf, probeInNode, textsOf } from './expected.js';
import type { ProbeRun } from './probe.js';
import { ISOLATED, openSite, type TestPage } from './site.js';

/** Lets scripts of the site run and compile WebAssembly, and workers be its own files only: no blob: among them. */
const STRICT = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; img-src 'self' data:";

describe('simd under the rules of pages', () => {
  const images = namesOf(FEW);
  let browser: Browser;
  let site: TestPage;
  let expected: readonly ProbeRun[];
  const first = () => expected[0]!;
  before(async function () {
    browser = await launchChromium(this);
    expected = (await probeInNode({ options: { threads: 1 }, threads: [1], images })).runs;
  });
  after(() => browser?.close());
  afterEach(() => site?.close());

  for (const [what, headers] of [
    ['isolated', ISOLATED],
    ['not isolated', {}],
  ] as const) {
    it(`the main thread, ${what}: one thread whatever is asked for, no worker, memory of its own`, async () => {
      site = await openSite(browser, headers);
      const { runs, sharedMemory } = await site.probe('page', { options: { threads: 4 }, threads: [4], images });
      assert.equal(sharedMemory, false);
      assert.deepEqual(runs, expected);
      assert.deepEqual([site.page.workers().length, site.complaints], [0, []]);
    });
  }

  it('the main thread with memory that is shared because the caller wants it: still one thread', async () => {
    site = await openSite(browser, ISOLATED);
    const task = { options: { shared: true, threads: 2 }, threads: [2], images };
    const { runs, sharedMemory } = await site.probe('page', task);
    assert.equal(sharedMemory, true);
    assert.deepEqual(runs, expected);
    assert.equal(site.page.workers().length, 0);
  });

  it('a policy that forbids blob: workers: one thread from the start, and it says so', async () => {
    site = await openSite(browser, { ...ISOLATED, 'content-security-policy': STRICT });
    const { runs } = await site.probe('worker', { options: { threads: 3 }, threads: [3], images });
    assert.deepEqual(runs, expected);
    assert.equal(site.page.workers().length, 1);
  });

  it('the same, when threads are first asked for later', async () => {
    site = await openSite(browser, { ...ISOLATED, 'content-security-policy': STRICT });
    const { runs } = await site.probe('worker', { options: { threads: 1 }, threads: [3, 3], images });
    const [early, late] = runs;
    assert.deepEqual(early!.threads, [3, 1], 'they are refused a moment after they were asked for');
    assert.deepEqual(late!.threads, [1, 1]);
    assert.deepEqual(late!.captions, early!.captions);
    assert.deepEqual(
      early!.captions.map(({ text }) => text),
      textsOf(FEW),
    );
    assert.equal(site.page.workers().length, 1);
  });

  it('the same with a file of its own for the threads: as many threads as are asked for', async () => {
    site = await openSite(browser, { ...ISOLATED, 'content-security-policy': STRICT });
    const options = { threads: 3 };
    const task = { options, threadFile: '/thread.js', threads: [3, 2], images };
    const { runs } = await site.probe('worker', task);
    assert.deepEqual(
      runs.map(({ threads }) => threads),
      [
        [3, 3],
        [2, 2],
      ],
    );
    assert.deepEqual(
      runs.map(({ captions }) => captions),
      [first().captions, first().captions],
    );
    await site.workers(3);
    assert.deepEqual(site.complaints, []);
    await site.inWorker('remove');
    await site.workers(1);
  });

  it('a file that is not there: one thread', async () => {
    site = await openSite(browser, ISOLATED);
    const { runs } = await site.probe('worker', {
      options: { threads: 2 },
      threadFile: '/nowhere.js',
      threads: [2],
      images,
    });
    assert.deepEqual(runs, expected);
    assert.equal(site.page.workers().length, 1);
  });

  it('a policy that forbids WebAssembly: it does not start, and the console says why', async () => {
    const policy = "default-src 'self'; worker-src 'self' blob:";
    site = await openSite(browser, { ...ISOLATED, 'content-security-policy': policy });
    await assert.rejects(
      site.probe('worker', { threads: [1], images }),
      /simd: backend-failed: simd: cannot-start: this platform does not compile the kernels .*Content Security Policy/,
    );
    const warned = (await site.inWorker('warned')) as string[];
    const reason = /simd: cannot-start: this platform does not compile the kernels .*Content Security Policy/;
    assert.ok(
      warned.some((line) => reason.test(line)),
      warned.join('\n'),
    );
    await site.workers(1);
  });
});
