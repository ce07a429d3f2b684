import { existsSync } from 'node:fs';
import { type Browser, chromium } from 'playwright-core';
import { skipWithout } from './skip.js';

/** The browser of the tests, or undefined where there is none: IMAGE2TEXT_CHROMIUM names another one. */
export const CHROMIUM = [process.env['IMAGE2TEXT_CHROMIUM'] ?? '', '/usr/bin/chromium', '/usr/bin/google-chrome'].find(
  (path) => path !== '' && existsSync(path),
);

const FLAGS =
  '--no-sandbox --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync';

/** Starts Chromium, without a GPU unless `flags` say how to have one. Skips the tests of `context`, with a reason, where there is none. */
export async function launchChromium(context: Mocha.Context, flags: readonly string[] = []): Promise<Browser> {
  if (CHROMIUM === undefined) {
    skipWithout(context, 'chromium', 'Debian: apt-get install chromium; or name one in IMAGE2TEXT_CHROMIUM');
  }
  const gpu = flags.some((flag) => flag.includes('angle')) ? [] : ['--disable-gpu'];
  const args = [...FLAGS.split(' '), ...gpu, ...flags];
  const browser = await chromium.launch({ executablePath: CHROMIUM, args, timeout: 0 });
  // However busy the machine: the test's own time limit ends what hangs.
  browser.on('context', (context) => context.setDefaultTimeout(0));
  return browser;
}
