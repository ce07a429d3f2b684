import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EXAMPLES, ROOT } from '../support/fixtures.js';
import { scratch } from '../support/folder.js';
import { COMMAND, cli } from './support.js';

/** Numbers of the page that a backend computes may differ by this much on another. */
const TOLERANCE = 2e-4;

interface Example {
  readonly command: string;
  readonly shown: string;
}

/** The `$ command` lines of the page's console blocks, each with the lines shown below it. */
function examples(page: string): Example[] {
  const blocks = [...page.matchAll(/```console\n([\s\S]*?)```/g)].map((match) => match[1]!);
  return blocks.flatMap((block) =>
    block
      .split(/^\$ /m)
      .slice(1)
      .map((part) => {
        const end = part.indexOf('\n');
        return { command: part.slice(0, end), shown: part.slice(end + 1) };
      }),
  );
}

/** Words of a command line without pipes: quoted with ' or ", or bare. */
const words = (command: string): string[] =>
  [...command.matchAll(/(?:'[^']*'|"[^"]*"|[^\s'"])+/g)].map(([word]) => word.replace(/'([^']*)'|"([^"]*)"/g, '$1$2'));

const FRACTION = /-?\d+\.\d+(?:e[+-]?\d+)?/g;
const literally = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

/** Compares what was printed with the page: `…` stands for anything, fractions may differ a little. */
function compare(printed: string, { command, shown }: Example): void {
  const pattern = shown.split(FRACTION).map((text) => text.split('…').map(literally).join('[\\s\\S]*'));
  const match = new RegExp(`^${pattern.join('(-?\\d+(?:\\.\\d+)?(?:e[+-]?\\d+)?)')}$`).exec(printed);
  assert.ok(match, `$ ${command}\nprinted:\n${printed}\nthe page shows:\n${shown}`);
  for (const [n, wanted] of (shown.match(FRACTION) ?? []).entries()) {
    const got = Number(match[n + 1]);
    assert.ok(Math.abs(got - Number(wanted)) <= TOLERANCE, `$ ${command}: ${got}, the page shows ${wanted}`);
  }
}

describe('docs/command-line.md', () => {
  const folder = scratch();
  const home = process.cwd();
  let path = '';

  before(() => {
    const here = join(folder(), 'here');
    cpSync(EXAMPLES, join(here, 'examples'), { recursive: true });
    mkdirSync(join(folder(), 'bin'));
    const shim = join(folder(), 'bin', 'image2text');
    writeFileSync(shim, `#!/bin/sh\nexec ${COMMAND.map((part) => `'${part}'`).join(' ')} "$@"\n`);
    chmodSync(shim, 0o755);
    path = `${join(folder(), 'bin')}:${process.env['PATH']}`;
    process.chdir(here);
  });
  after(() => process.chdir(home));

  /** In this process where it can be, else through the shell. */
  async function printedBy(command: string): Promise<string> {
    if (command.startsWith('image2text ') && !/[|<>$]/.test(command)) {
      const { stdout, stderr } = await cli(words(command).slice(1));
      return stdout + stderr;
    }
    const { stdout, stderr } = spawnSync('sh', ['-c', command], {
      encoding: 'utf8',
      env: { ...process.env, PATH: path },
    });
    return stdout + stderr;
  }

  const all = examples(readFileSync(`${ROOT}docs/command-line.md`, 'utf8'));
  assert.ok(all.length > 25, `${all.length} examples`);
  for (const example of all) {
    it(`$ ${example.command.slice(0, 90)}`, async () => compare(await printedBy(example.command), example));
  }
});
