import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { memory } from '@tensorflow/tfjs-core';
import { TRAINING_OPTIONS } from '../../src/training/options.js';
import type { TrainingEvent, ValidationEvent } from '../../src/training/report.js';
import { cli, IMAGES } from '../cli/support.js';
import { useBackend } from '../support/backends.js';
import { EXAMPLES, ROOT } from '../support/fixtures.js';
import { scratch } from '../support/folder.js';
import { itInFull } from '../support/full.js';
import { optionTable } from '../support/option-table.js';

const page = readFileSync(`${ROOT}docs/training.md`, 'utf8');
const blocks = (language: string): string[] =>
  [...page.matchAll(new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``, 'g'))].map(([, text]) => text!);

describe('docs/training.md', () => {
  const folder = scratch();
  const home = process.cwd();

  before(() => {
    const photos = join(folder(), 'photos');
    mkdirSync(photos);
    for (let n = 0; n < 50; n++) {
      const name = IMAGES[n % IMAGES.length]!;
      copyFileSync(EXAMPLES + name, join(photos, `${n}-${name}`));
      writeFileSync(
        join(photos, `${n}-${name.replace(/\.\w+$/, '.txt')}`),
        `${name.split(/[-.]/).slice(0, 2).join(' ')}\n`,
      );
    }
    copyFileSync(`${EXAMPLES}green-sign-toy.jpg`, join(folder(), 'new.jpg'));
    process.chdir(folder());
  });
  after(() => process.chdir(home));

  // two trainings
  itInFull('its commands work one after the other, with the demo and few steps', async () => {
    const commands = blocks('sh').flatMap((block) => block.trim().split('\n'));
    assert.equal(commands.length, 4);
    for (const command of commands) {
      assert.match(command, /^image2text /);
      const args = command.replace('microsoft/git-base-coco', 'demo').split(' ').slice(1);
      const isWhole = command.includes('--model demo') || args[0] !== 'train';
      const { code, stdout, stderr } = await cli([...args, ...(isWhole ? [] : ['--steps', '4'])], { fresh: true });
      assert.equal(code, 0, `${command}\n${stderr}`);
      assert.notEqual(stdout.trim(), '');
      if (args[0] === 'train') assert.match(stderr, /40 pairs, 10 held out/);
    }
    for (const file of ['report.html', 'best/README.md', 'last/adapter_config.json'])
      assert.ok(existsSync(join('run', file)), file);
    const events = readFileSync(join('try', 'log.jsonl'), 'utf8').trim().split('\n');
    const held = events.flatMap((line): ValidationEvent[] => {
      const event = JSON.parse(line) as TrainingEvent;
      return event.type === 'validation' ? [event] : [];
    });
    const exact = held.map(({ step, exactMatch }) => [step, exactMatch] as const);
    assert.deepEqual(exact[0], [0, 0]);
    assert.deepEqual(
      exact.filter(([step]) => step >= 40).map(([, share]) => share),
      [1, 1, 1],
    );
    assert.equal(held[0]!.samples[0]!.text, 'a black round sign that says sky');
  });

  it('its code runs, prints what it says, and leaves nothing', async () => {
    await useBackend('simd');
    const [code] = blocks('js');
    const prints = [...code!.matchAll(/console\.log\(.*\n((?:\/\/ .*\n)+)/g)].map(([, lines]) =>
      lines!.trim().slice(3),
    );
    assert.ok(prints.length > 0);
    const file = join(folder(), 'example.mjs');
    const entry = (name: string) => pathToFileURL(`${ROOT}src/${name}`).href;
    writeFileSync(
      file,
      code!
        .replaceAll('generative-image2text/node', entry('node.ts'))
        .replaceAll('generative-image2text/training', entry('training/index.ts')),
    );
    const tensors = memory().numTensors;
    const { log, error } = console;
    const printed: string[] = [];
    console.log = (...values: unknown[]) => printed.push(values.join(' '));
    console.error = () => {};
    try {
      await import(pathToFileURL(file).href);
    } finally {
      Object.assign(console, { log, error });
    }
    assert.deepEqual(printed, prints);
    assert.equal(memory().numTensors, tensors);
  });

  it('has every option', () => {
    const shown = /<!-- options: begin -->\n([\s\S]*?)\n<!-- options: end -->/.exec(page)?.[1];
    assert.equal(shown, optionTable(TRAINING_OPTIONS));
  });

  it('names every warning', () => {
    const codes = [...readFileSync(`${ROOT}src/training/report.ts`, 'utf8').matchAll(/^ {2}\| '([a-z-]+)'/gm)];
    assert.ok(codes.length >= 7);
    for (const [, code] of codes) assert.match(page, new RegExp(`\\| \`${code}\` \\|`));
  });
});
