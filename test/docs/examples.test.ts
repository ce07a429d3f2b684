import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { inspect } from 'node:util';
import { memory } from '@tensorflow/tfjs-core';
import { useBackend } from '../support/backends.js';
import { ROOT } from '../support/fixtures.js';
import { scratch } from '../support/folder.js';

/** The examples of a page; comment lines right below a console.log are what it prints. */
function examples(page: string): { code: string; prints: string[] }[] {
  const blocks = readFileSync(`${ROOT}docs/${page}`, 'utf8').matchAll(/```js\n([\s\S]*?)```/g);
  return [...blocks].map(([, code]) => ({
    code: code!,
    prints: [...code!.matchAll(/console\.log\(.*\n((?:\/\/ .*\n)+)/g)].flatMap(([, lines]) =>
      lines!
        .trimEnd()
        .split('\n')
        .map((line) => line.slice(3)),
    ),
  }));
}

describe('the examples of the pages in docs', () => {
  const path = scratch();
  const cwd = process.cwd();
  const { log } = console;
  before(async () => {
    await useBackend('wasm');
    process.chdir(ROOT);
  });
  after(() => {
    process.chdir(cwd);
  });
  for (const page of ['tasks.md', 'pipeline.md', 'video.md', 'server.md']) {
    examples(page).forEach(({ code, prints }, n) => {
      it(`${page}, example ${n + 1}, prints what it says and leaves nothing`, async () => {
        assert.ok(prints.length > 0);
        const tensors = memory().numTensors;
        const file = path(`${page}-${n}.mjs`);
        writeFileSync(file, code.replace('generative-image2text/node', pathToFileURL(`${ROOT}src/node.ts`).href));
        const printed: string[] = [];
        console.log = (...values: unknown[]) => {
          const texts = values.map((value) =>
            typeof value === 'string' ? value : inspect(value, { breakLength: Infinity }),
          );
          printed.push(texts.join(' '));
        };
        try {
          await import(pathToFileURL(file).href);
        } finally {
          console.log = log;
        }
        assert.deepEqual(printed, prints);
        assert.equal(memory().numTensors, tensors);
      });
    });
  }
});
