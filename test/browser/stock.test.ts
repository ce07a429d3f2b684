import assert from 'node:assert/strict';
import type { Browser } from 'playwright-core';
import { launchChromium } from '../support/chromium.js';
import { largestError } from '../support/close.js';
import { FULL } from '../support/full.js';
import { FEW, namesOf, probeInNode, textsOf } from './expected.js';
import { ISOLATED, openSite, type TestPage } from './site.js';

/** WebGL 2 without a GPU: SwiftShader, which renders 32-bit floats. */
const SWIFTSHADER = ['--use-angle=swiftshader', '--enable-unsafe-swiftshader'];

/** As on the other backends (test/image2text): a log-probability of the reference, whose own float32 differs from float64 as much. */
const LOG_PROB_TOLERANCE = 1e-4;

describe("tfjs's own backends in a page", () => {
  let browser: Browser;
  let site: TestPage;
  let logits: readonly number[];
  before(async function () {
    browser = await launchChromium(this, SWIFTSHADER);
    logits = (await probeInNode({ threads: [1], images: [] })).runs[0]!.logits;
  });
  after(() => browser?.close());
  afterEach(() => site?.close());

  for (const [backend, where, headers] of [
    ['wasm', 'worker', {}],
    ['wasm', 'page', ISOLATED],
    ...(FULL ? [['webgl', 'worker', ISOLATED] as const] : []), // without a GPU WebGL takes ten times as long
  ] as const) {
    const isolated = headers === ISOLATED ? 'isolated' : 'not isolated';
    it(`${backend} in a ${where}, ${isolated}: the words of the reference`, async () => {
      site = await openSite(browser, headers);
      const { runs, tensors } = await site.probe(where, { backend, threads: [1], images: namesOf(FEW) });
      const [run] = runs;
      assert.equal(tensors, 0);
      assert.deepEqual(
        run!.captions.map(({ text }) => text),
        textsOf(FEW),
      );
      const got = run!.captions.flatMap(({ logProbs }) => logProbs);
      const { error } = largestError(
        got,
        FEW.flatMap(({ logProbs }) => logProbs),
      );
      const scale = logits.reduce((top, x) => Math.max(top, Math.abs(x)), 0);
      const raw = largestError(run!.logits, logits).error / scale;
      const figures = `log-probabilities within ${error.toExponential(1)}, logits within ${raw.toExponential(1)} of simd's`;
      console.log(`      ${backend} in a ${where}: ${figures}`);
      assert.ok(error <= LOG_PROB_TOLERANCE, `${error}`);
      assert.ok(raw <= 1e-5, `${raw}`);
      assert.deepEqual(site.complaints, []);
    });
  }
});
