import assert from 'node:assert/strict';
import type { Browser } from 'playwright-core';
import { FEW, namesOf, textsOf } from '../browser/expected.js';
import { openSite, type TestPage } from '../browser/site.js';
import { launchChromium } from '../support/chromium.js';
import { largestError } from '../support/close.js';
import { FULL } from '../support/full.js';

/** WebGPU without a GPU: Dawn on the SwiftShader that Chromium brings. */
const FLAGS = ['--use-angle=swiftshader', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];

/** As on the other backends (test/image2text): a log-probability of the reference, whose own float32 differs from float64 as much. */
const LOG_PROB_TOLERANCE = 1e-4;

describe("our kernels on tfjs's webgpu backend in Chromium", function () {
  if (!FULL) return; // without a GPU it is slow
  this.timeout(1_800_000);
  let browser: Browser;
  let site: TestPage;
  before(async function () {
    browser = await launchChromium(this, FLAGS);
  });
  after(() => browser?.close());
  afterEach(() => site?.close());

  it('in a worker: the words of the reference', async () => {
    site = await openSite(browser, {});
    const images = FEW.slice(0, 1);
    const { runs, fused, tensors } = await site.probe('worker', {
      backend: 'webgpu',
      threads: [1],
      images: namesOf(images),
    });
    assert.deepEqual(fused, ['GitLinear', 'GitLayerNorm', 'GitAttention', 'GitDecoderStep']);
    assert.equal(tensors, 0);
    assert.deepEqual(
      runs[0]!.captions.map(({ text }) => text),
      textsOf(images),
    );
    const got = runs[0]!.captions.flatMap(({ logProbs }) => logProbs);
    const { error } = largestError(
      got,
      images.flatMap(({ logProbs }) => logProbs),
    );
    console.log(`      webgpu in a worker: log-probabilities within ${error.toExponential(1)}`);
    assert.ok(error <= LOG_PROB_TOLERANCE, `${error}`);
    assert.deepEqual(site.complaints, []);
  });
});
